"""Measures a detector by what the engine reports: the JSON lines of `facematch detect --json`.

    (cd FACES/wider/photos && facematch detect --json --score-min 0.05 *.jpg) > crowd.jsonl
    (cd FACES/lfw/photos && facematch detect --json --score-min 0.05 */*.jpg) > portraits.jsonl
    python evaluate.py --boxes FACES/wider/boxes.csv --crowd crowd.jsonl --portraits portraits.jsonl \\
        --reference-crowd reference-crowd.jsonl --reference-portraits reference-portraits.jsonl --score-min 0.5

The reference is SCRFD-2.5g through the same commands. A marked face is found if a detection overlaps it by IoU >= 0.5; a
detection that overlaps no marked face of any size so far is false. A face's size is the shorter side of its marked box.
"""

import argparse
import csv
import json
import math
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from heldout import part  # noqa: E402

IOU_FOUND = 0.5
SIZES_PX = (40, 20)
# A reference face counts where SCRFD is at least this sure.
REFERENCE_SCORE_MIN = 0.5


def detections(path):
    """Photo (as given to the engine) to (scores, boxes `[n, 4]`, points `[n, 5, 2]`)."""
    found = {}
    with open(path) as lines:
        for line in map(json.loads, lines):
            if "error" in line:
                raise SystemExit(f"{path}: {line['photo']}: {line['error']}")
            faces = line["detected"].get("faces", [])
            boxes = [[face["box"].get(k, 0.0) for k in ("x_min_px", "y_min_px", "x_max_px", "y_max_px")] for face in faces]
            points = [[[p.get("x_px", 0.0), p.get("y_px", 0.0)] for p in face["landmarks"]] for face in faces]
            scores = numpy.array([face["detection_score"] for face in faces])
            found[line["photo"].removeprefix("./")] = (
                scores, numpy.array(boxes).reshape(-1, 4), numpy.array(points).reshape(-1, 5, 2)
            )
    return found


def marked(path):
    boxes = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            corners = [float(row[key]) for key in ("x_min_px", "y_min_px", "x_max_px", "y_max_px")]
            boxes.setdefault(row["image"], []).append(corners)
    return {name: numpy.array(rows) for name, rows in boxes.items()}


def iou(a, b):
    sides = numpy.minimum(a[:, None, 2:], b[None, :, 2:]) - numpy.maximum(a[:, None, :2], b[None, :, :2])
    common = sides.clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return common / (areas[0][:, None] + areas[1][None] - common)


def interval(hits, count):
    """Wilson's 95 % interval of a share."""
    if not count:
        return "no cases"
    share, z = hits / count, 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{hits}/{count} = {share:.4f} ({middle - half:.4f} to {middle + half:.4f})"


class Crowd:
    """For one part of the crowd photos: the scores at which faces are found, and those of false detections."""

    def __init__(self, found, boxes, reference, wanted):
        self.photos, self.false, self.false_to_both = 0, [], []
        self.found = {size: [] for size in SIZES_PX}
        for name, (scores, detected, _) in found.items():
            if part(name) != wanted:
                continue
            self.photos += 1
            faces = boxes.get(name, numpy.zeros((0, 4)))
            overlap = iou(detected, faces)
            is_false = overlap.max(1, initial=0) < IOU_FOUND
            self.false += scores[is_false].tolist()
            ours, sure = detected[is_false], reference[name][1][reference[name][0] >= REFERENCE_SCORE_MIN]
            self.false_to_both += scores[is_false][iou(ours, sure).max(1, initial=0) < IOU_FOUND].tolist()
            best = numpy.where(overlap >= IOU_FOUND, scores[:, None], 0.0).max(0, initial=0)
            for size in SIZES_PX:
                self.found[size] += best[(faces[:, 2:] - faces[:, :2]).min(1) >= size].tolist()

    def report(self, score_min):
        for size, best in self.found.items():
            print(f"  faces >= {size} px found: {interval(int((numpy.array(best) >= score_min).sum()), len(best))}")
        for label, scores in (("false faces", self.false), ("of these not seen by the reference", self.false_to_both)):
            count = int((numpy.array(scores) >= score_min).sum())
            print(f"  {label}: {count} on {self.photos} photos, {count / self.photos:.3f} a photo")

    def curve(self):
        """Recall at some score limits, for choosing one."""
        for score_min in numpy.arange(0.1, 0.8, 0.05):
            recalls = [f"{(numpy.array(best) >= score_min).mean():.3f} of >= {size} px" for size, best in self.found.items()]
            false = (numpy.array(self.false) >= score_min).sum() / self.photos
            print(f"  score >= {score_min:.2f}: {', '.join(recalls)}, {false:.3f} false a photo")


def portraits(found, reference, wanted, score_min):
    """Whether the reference's largest face of each portrait is found, and how far its landmarks lie from there."""
    distances, missed, extra, count = [], [], 0, 0
    for name, (scores, boxes, points) in reference.items():
        sure = scores >= REFERENCE_SCORE_MIN
        boxes, points = boxes[sure], points[sure]
        if wanted not in ("all", part(name.split("/")[0])) or not len(boxes):
            continue
        count += 1
        target = (boxes[:, 2:] - boxes[:, :2]).prod(1).argmax()
        eyes = numpy.linalg.norm(points[target, 1] - points[target, 0])
        ours_scores, ours_boxes, ours_points = found[name]
        kept = ours_scores >= score_min
        far = numpy.linalg.norm(ours_points[kept] - points[target], axis=2).mean(1)
        if not len(far) or far.min() > 0.5 * eyes:
            missed.append(name)
        else:
            distances.append(far.min() / eyes)
        extra += int((iou(ours_boxes[kept], boxes).max(1, initial=0) < IOU_FOUND).sum())
    print(f"  the reference's largest face found: {interval(count - len(missed), count)}")
    print(f"  missed: {', '.join(missed) or 'none'}")
    quantiles = numpy.quantile(distances, (0.5, 0.95, 0.99)) * 100
    print("  landmarks off by (% of the eye distance): median {:.2f}, 95 % {:.2f}, 99 % {:.2f}".format(*quantiles))
    print(f"  faces that the reference has not: {extra} on {count} photos")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--boxes", required=True)
    parser.add_argument("--crowd", required=True)
    parser.add_argument("--reference-crowd", required=True)
    parser.add_argument("--portraits")
    parser.add_argument("--reference-portraits")
    parser.add_argument("--parts", nargs="+", default=["validation"])
    parser.add_argument("--score-min", type=float, required=True)
    arguments = parser.parse_args()
    found, boxes, reference = detections(arguments.crowd), marked(arguments.boxes), detections(arguments.reference_crowd)
    for wanted in arguments.parts:
        if wanted != "all":
            crowd = Crowd(found, boxes, reference, wanted)
            print(f"crowd photos, {wanted}, score >= {arguments.score_min}")
            crowd.report(arguments.score_min)
            if wanted != "held-out":
                crowd.curve()
    if arguments.portraits:
        found, reference = detections(arguments.portraits), detections(arguments.reference_portraits)
        for wanted in arguments.parts:
            print(f"portraits, {wanted}, score >= {arguments.score_min}")
            portraits(found, reference, wanted, arguments.score_min)


if __name__ == "__main__":
    main()
