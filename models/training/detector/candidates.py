"""Makes the lessons of the second look: what the detector takes for faces in the training photos, and what it is.

    python candidates.py --faces FACES --teacher insightface_det_2.5g.onnx --detector STATE --state LOOK

Run again, it goes on with the first shard that is not there. The teacher looks at single precision: its landmarks are the
target, and bfloat16 moves them by more than a tenth of what is allowed.
"""

import argparse
import json
import pathlib

import cv2
import numpy
import torch

import maps
from network import Detector
from pictures import Maker, canvas, crowd, normalised, portrait_paths, read
from teacher import Teacher

# Lower than what is looked at later, for more and other mistakes to learn from.
SCORE_LESSON = 0.2
FALSE_MAX = 25
# Overlaps from which a candidate is the face, and up to which it is none.
IOU_FACE, IOU_NONE = 0.4, 0.3
# How sure the teacher is of a face: known to be one though nobody marked it; seen; not seen.
SURE, SEEN, UNSEEN = 0.6, 0.3, 0.1
# A marked face that the teacher does not see.
SCORE_UNSEEN = 0.6
MADE, MADE_PX = 3000, 320
PHOTOS_A_SHARD = 200


def found(network, picture, score_min):
    """The faces of one picture: scores, boxes and points."""
    input = torch.from_numpy(normalised(picture[None])).contiguous(memory_format=torch.channels_last)
    return maps.faces(network, input, score_min)[0]


def seen(teacher, photo, sides_px):
    """What the teacher finds at some scales together, as the engine joins them: scores, boxes and points in the photo."""
    parts = []
    for side_px in sides_px:
        picture, scale = canvas(photo, side_px)
        scores, boxes, points = found(teacher, picture, UNSEEN)
        parts.append((scores, boxes / scale, points / scale))
    scores, boxes, points = (numpy.concatenate(values) for values in zip(*parts))
    order = numpy.argsort(-scores)
    return maps.suppressed(*(torch.from_numpy(values[order]) for values in (scores, boxes, points)))


def judged(boxes, marked, taught):
    """What candidates `[n, 4]` are: rows of (score, weight; box, weight; points, weight)."""
    taught_scores, taught_boxes, taught_points = taught
    rows = numpy.zeros((len(boxes), 2 + 5 + 11), "f")
    for row, overlap_marked, overlap_taught in zip(rows, overlaps(boxes, marked), overlaps(boxes, taught_boxes)):
        near_marked, near = overlap_marked.max(initial=0), overlap_taught.max(initial=0)
        face, best = (int(o.argmax()) if len(o) else 0 for o in (overlap_marked, overlap_taught))
        sure = float(taught_scores[best]) if near >= IOU_NONE else 0.0
        is_seen = near >= IOU_FACE and sure >= SEEN
        if near_marked >= IOU_FACE:
            row[:2] = (1.0 if is_seen else SCORE_UNSEEN), 1
            row[2:7] = *marked[face], 1
        elif near >= IOU_FACE and sure >= SEEN:
            row[:2] = (1.0 if sure >= SURE else sure), 1
            row[2:7] = *taught_boxes[best], 1
        elif near_marked < IOU_NONE and sure < UNSEEN:
            row[:2] = 0.0, 1
        elif near_marked < IOU_NONE:
            # Half on a face, or on what the teacher doubts: the surer it is of the face, the less this says.
            row[:2] = sure * (near >= IOU_FACE), 1.0 if near >= IOU_FACE else 0.3
        if is_seen:
            row[7:] = *taught_points[best], sure
    return rows


def overlaps(boxes, others):
    return maps.iou(torch.from_numpy(boxes), torch.from_numpy(numpy.asarray(others, "f").reshape(-1, 4))).numpy()


class Shard:
    """Pictures end to end, and the candidates in them."""

    def __init__(self, detector):
        self.detector, self.pictures, self.sizes, self.rows = detector, [], [], []

    def add(self, picture, marked, taught, false_only=False):
        scores, boxes, _ = found(self.detector, picture, SCORE_LESSON)
        rows = judged(boxes, marked, taught)
        is_false = (rows[:, 0] == 0) & (rows[:, 1] == 1)
        kept = is_false & (numpy.cumsum(is_false) <= FALSE_MAX)
        if not false_only:
            kept |= ~is_false & (rows[:, 1] > 0)
        if not kept.any():
            return
        place = numpy.full((len(rows), 1), len(self.sizes), "f")
        self.rows.append(numpy.concatenate([place, boxes, scores[:, None], rows], 1)[kept])
        self.pictures.append(picture.reshape(-1))
        self.sizes.append(picture.shape[:2])

    def save(self, path):
        """The candidates last: where they are, the shard is whole. *Shape* of a row: see `train_look.py`."""
        numpy.save(path.with_suffix(".npy"), numpy.concatenate(self.pictures))
        partial = path.with_suffix(".new.npz")
        numpy.savez(partial, sizes=numpy.array(self.sizes), rows=numpy.concatenate(self.rows).astype("f"))
        partial.replace(path)


def of_portraits(shard, teacher, paths, random, other_sizes):
    for path in paths:
        photo = read(path)
        taught = seen(teacher, photo, (256, 128))
        sides = [256, 128]
        if other_sizes and random.random() < 0.4:
            sides.append(int(numpy.exp(random.uniform(numpy.log(96), numpy.log(416)))))
        for side_px in sides:
            picture, scale = canvas(photo, side_px)
            shard.add(picture, [], (taught[0], taught[1] * scale, taught[2] * scale))


def of_crowds(shard, teacher, photos, random, turned):
    for photo, marked in photos:
        taught = seen(teacher, photo, (640, 128))
        for side_px in (640, 128, *((int(random.integers(320, 900)),) if turned else ())):
            picture, scale = canvas(photo, side_px)
            shard.add(picture, marked * scale, (taught[0], taught[1] * scale, taught[2] * scale))
        if turned:
            # What looks like a face only in a photo that is turned, and lies on none, is none.
            picture, scale = canvas(photo, 480)
            times = int(random.integers(1, 4))
            boxes = [turned_boxes(b * scale, picture.shape[1::-1], times) for b in (marked, taught[1])]
            picture = numpy.ascontiguousarray(numpy.rot90(picture, times))
            shard.add(picture, boxes[0], (taught[0], boxes[1], taught[2]), false_only=True)


def turned_boxes(boxes, size, times):
    """Boxes of a picture of a size (width, height) that is turned to the left by some quarters."""
    for _ in range(times):
        left, top, right, bottom = numpy.asarray(boxes, "f").reshape(-1, 4).T
        boxes = numpy.stack([top, size[0] - right, bottom, size[0] - left], 1)
        size = size[::-1]
    return boxes


def of_made(shard, teacher, maker, random, count):
    for _ in range(count):
        picture, marked = maker.make(random)
        shard.add(picture, marked, found(teacher, picture, UNSEEN))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=pathlib.Path, required=True)
    parser.add_argument("--teacher", type=pathlib.Path, required=True)
    parser.add_argument("--detector", type=pathlib.Path, required=True, help="the detector's STATE")
    parser.add_argument("--state", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    teacher = Teacher(arguments.teacher).eval().to(memory_format=torch.channels_last)
    detector = Detector().eval().to(memory_format=torch.channels_last)
    detector.load_state_dict(torch.load(arguments.detector / "checkpoint.pt", map_location="cpu")["kept"])

    def make(name, fill, *inputs):
        path = arguments.state / f"{name}.npz"
        if not path.exists():
            shard = Shard(detector)
            fill(shard, teacher, *inputs)
            shard.save(path)
            print(f"{name}: {len(shard.sizes)} pictures, {sum(map(len, shard.rows))} candidates", flush=True)

    random = numpy.random.default_rng
    make("validation-portraits", of_portraits, portrait_paths(arguments.faces, "validation"), random(0), False)
    make("validation-crowds", of_crowds, list(crowd(arguments.faces, "validation").values()), random(0), False)
    crowds, paths = crowd(arguments.faces, "training"), portrait_paths(arguments.faces, "training")
    used = {"crowds": list(crowds), "portraits": [f"{path.parent.name}/{path.name}" for path in paths]}
    (arguments.state / "photos.json").write_text(json.dumps(used))
    photos = list(crowds.values())
    for start in range(0, len(photos), PHOTOS_A_SHARD):
        make(f"training-crowds-{start:05}", of_crowds, photos[start : start + PHOTOS_A_SHARD], random([1, start]), True)
    for start in range(0, len(paths), 5 * PHOTOS_A_SHARD):
        make(f"training-portraits-{start:05}", of_portraits, paths[start : start + 5 * PHOTOS_A_SHARD], random([2, start]), True)
    known = json.loads((arguments.detector / "portraits.json").read_text())
    maker = Maker(photos, [(p, numpy.array(known[f"{p.parent.name}/{p.name}"], "f").reshape(-1, 4)) for p in paths], MADE_PX)
    for start in range(0, MADE, 3 * PHOTOS_A_SHARD):
        make(f"training-made-{start:05}", of_made, maker, random([3, start]), 3 * PHOTOS_A_SHARD)


if __name__ == "__main__":
    main()
