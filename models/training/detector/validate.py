"""A quick look at a network on the validation part while it trains. What is reported is measured by the engine.

    python validate.py --faces FACES --teacher insightface_det_2.5g.onnx --state STATE
"""

import argparse
import json
import pathlib

import numpy
import torch

import maps
from network import Detector
from pictures import canvas, crowd, normalised, portrait_paths, read
from teacher import Teacher

FACE_MIN_PX = 40
FALSE_A_PHOTO = 0.1
PORTRAITS = 120


def detect(network, photo, score_min, sides_px):
    scored = []
    for side_px in sides_px:
        picture, scale = canvas(photo, side_px)
        picture = torch.from_numpy(normalised(picture[None])).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            scores, boxes, points = maps.faces(network, picture, score_min)[0]
        scored.append((scores, boxes / scale, points / scale))
    scores, boxes, points = (numpy.concatenate(parts) for parts in zip(*scored))
    order = numpy.argsort(-scores)
    return maps.suppressed(*(torch.from_numpy(values[order]) for values in (scores, boxes, points)))


def area_order(boxes):
    return numpy.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def validate(network, teacher, faces):
    """Recall at the allowed false faces, that threshold, and how portraits fare at it."""
    network.eval()
    crowds, chosen = list(crowd(faces, "validation").values()), portrait_paths(faces, "validation")
    portraits = [read(path) for path in chosen[:: max(1, len(chosen) // PORTRAITS)]]
    hits, falses = [], []
    for photo, boxes in crowds:
        scores, found, _ = detect(network, photo, 0.05, (640, 128))
        overlap = maps.iou(torch.from_numpy(found), torch.from_numpy(boxes)).numpy()
        falses.extend(scores[overlap.max(1, initial=0) < 0.5])
        large = (boxes[:, 2:] - boxes[:, :2]).max(1) >= FACE_MIN_PX
        hits.extend((numpy.where(overlap >= 0.5, scores[:, None], 0).max(0, initial=0))[large])
    hits, falses = numpy.array(hits), numpy.sort(falses)[::-1]
    allowed = int(FALSE_A_PHOTO * len(crowds))
    score_min = float(falses[allowed]) + 1e-4 if len(falses) > allowed else 0.05
    errors, missed, best = [], 0, []
    for photo in portraits:
        _, boxes, points = detect(teacher, photo, 0.5, (256, 128))
        wanted = points[area_order(boxes)[0]]
        scores, boxes, points = detect(network, photo, 0.05, (256, 128))
        near = numpy.abs(points - wanted).reshape(-1, 5, 2).mean((1, 2)) if len(points) else numpy.array([])
        eyes = numpy.linalg.norm(wanted[2:4] - wanted[:2])
        if not len(near) or near.min() > 0.5 * eyes or scores[near.argmin()] < score_min:
            missed += 1
        else:
            best.append(float(scores[near.argmin()]))
            errors.append(numpy.linalg.norm((points[near.argmin()] - wanted).reshape(5, 2), axis=1).mean() / eyes)
    return {
        "score_min": round(score_min, 3),
        "recall": round(float((hits >= score_min).mean()), 4),
        "recall_at_half": round(float((hits >= 0.5).mean()), 4),
        "false_at_half": int((falses >= 0.5).sum()),
        "large_faces": len(hits),
        "portraits_missed": missed,
        "portrait_score_lowest": round(min(best, default=0.0), 3),
        "landmark_error": round(float(numpy.median(errors)), 4) if errors else None,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=pathlib.Path, required=True)
    parser.add_argument("--teacher", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    state = torch.load(arguments.state / "checkpoint.pt")
    network = Detector().to(memory_format=torch.channels_last)
    network.load_state_dict(state["kept"])
    teacher = Teacher(arguments.teacher).eval().to(memory_format=torch.channels_last)
    print(json.dumps({"step": state["step"], **validate(network, teacher, arguments.faces)}))


if __name__ == "__main__":
    main()
