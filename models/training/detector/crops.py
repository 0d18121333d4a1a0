"""What the second look sees in training: candidates cut out a little differently each time, and spoilt.

A candidate is a row: picture, box (4), the detector's score, target score, its weight, target box (4), its weight, target
points (10), their weight; all in pixels of its picture.
"""

import pathlib

import cv2
import numpy

from look import CARE_MIN_PX, MARGIN, SIDE_PX
from pictures import spoil

PICTURE, BOX, FIRST, SCORE, SCORE_WEIGHT = 0, slice(1, 5), 5, 6, 7
TARGET_BOX, BOX_WEIGHT, POINTS, POINTS_WEIGHT = slice(8, 12), 12, slice(13, 23), 23
# How far a square is moved, in its sides, and scaled, as a standard deviation: about as far as the detector is off.
SHIFT, SCALE, DEGREES = 0.05, 0.10, 12.0
# What stands for the world outside of the picture: nothing, once normalised.
OUTSIDE = (127, 127, 127)


class Lessons:
    """All shards of a part."""

    def __init__(self, folder: pathlib.Path, part: str):
        self.pictures, rows = [], []
        for path in sorted(folder.glob(f"{part}*.npz")):
            if path.stem.endswith(".new"):
                continue
            shard, flat, start = numpy.load(path), numpy.load(path.with_suffix(".npy"), mmap_mode="r"), 0
            rows.append(shard["rows"])
            rows[-1][:, PICTURE] += len(self.pictures)
            for height, width in shard["sizes"]:
                size = int(height) * int(width) * 3
                self.pictures.append(flat[start : start + size].reshape(height, width, 3))
                start += size
        self.rows = numpy.concatenate(rows)

    def drawn(self, random, count):
        """Candidates by chance: half of them faces, and of the others more of those that the detector takes for one."""
        is_face = self.rows[:, SCORE] >= 0.5
        weights = self.rows[:, SCORE_WEIGHT] * numpy.where(is_face, 1.0, self.rows[:, FIRST] ** 2)
        weights[is_face] /= weights[is_face].sum()
        weights[~is_face] /= weights[~is_face].sum()
        return random.choice(len(self.rows), count, p=weights / weights.sum())

    def batch(self, rows, random=None):
        """Crops `[n, 48, 48, 3]` and their targets (score, weight; box, weight; points, weight); spoilt where there is a
        `random`, else as the engine cuts them."""
        crops, targets = zip(*(self._cut(self.rows[row], random) for row in rows))
        return numpy.stack(crops), numpy.stack(targets)

    def _cut(self, row, random):
        box = row[BOX].astype("d")
        centre, side = (box[:2] + box[2:]) / 2, max((box[2:] - box[:2]).max(), 1.0) * MARGIN
        degrees, mirrored = 0.0, False
        if random is not None:
            centre = centre + random.normal(0, SHIFT, 2) * side
            side *= numpy.exp(random.normal(0, SCALE))
            degrees, mirrored = random.normal(0, DEGREES) if random.random() < 0.7 else 0.0, random.random() < 0.5
            if row[SCORE] == 0 and random.random() < 0.5:
                # There are few false candidates that the detector is sure of; upside down they are false as well.
                degrees, side = random.uniform(-180, 180), side * numpy.exp(random.normal(0, 2 * SCALE))
        crop = square(self.pictures[int(row[PICTURE])], centre, side, degrees, mirrored)
        if random is not None:
            crop = worn(random, crop)
        return crop, targets_in(row, centre, side, degrees, mirrored)


def axes(degrees, mirrored):
    """The directions of a square's axes in the picture, as columns."""
    cosine, sine = numpy.cos(numpy.radians(degrees)), numpy.sin(numpy.radians(degrees))
    matrix = numpy.array([[cosine, -sine], [sine, cosine]])
    if mirrored:
        matrix[:, 0] *= -1
    return matrix


def square(picture, centre, side, degrees=0.0, mirrored=False):
    """Cuts a square out as `look.Cut` does, which can neither turn nor mirror it."""
    samples = 1 if side <= CARE_MIN_PX else 2
    cells = SIDE_PX * samples
    scaled = axes(degrees, mirrored) * side
    # The centre of cell i lies at (i + 1/2) / cells of the side; the centre of pixel j at j + 1/2.
    matrix = numpy.concatenate([scaled / cells, (scaled @ numpy.full(2, 0.5 / cells - 0.5) + centre - 0.5)[:, None]], 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(picture, matrix, (cells, cells), flags=flags, borderValue=OUTSIDE)
    return crop if samples == 1 else cv2.resize(crop, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)


def targets_in(row, centre, side, degrees, mirrored):
    """A candidate's targets in sides of a square from its centre."""
    into = axes(degrees, mirrored).T
    points = (row[POINTS].reshape(5, 2) - centre) @ into.T / side
    if mirrored:
        points = points[[1, 0, 2, 4, 3]]
    box = row[TARGET_BOX]
    middle, half = ((box[:2] + box[2:]) / 2 - centre) @ into.T / side, (box[2:] - box[:2]) / 2 / side
    parts = [row[[SCORE, SCORE_WEIGHT]], middle - half, middle + half, row[[BOX_WEIGHT]], points.reshape(-1), row[[POINTS_WEIGHT]]]
    return numpy.concatenate(parts).astype("f")


def worn(random, crop):
    """The same crop from fewer pixels, partly covered, or by a worse camera."""
    if random.random() < 0.25:
        fewer = int(random.integers(12, SIDE_PX))
        crop = cv2.resize(cv2.resize(crop, (fewer, fewer), interpolation=cv2.INTER_AREA), (SIDE_PX, SIDE_PX))
    if random.random() < 0.15:
        (x, y), (width, height) = random.integers(0, SIDE_PX, 2), random.integers(SIDE_PX // 8, SIDE_PX // 2, 2)
        crop = crop.copy()
        crop[y : y + height, x : x + width] = random.integers(0, 256, 3)
    return spoil(random, crop)
