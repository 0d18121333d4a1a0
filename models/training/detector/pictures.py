"""Training pictures: crops of crowd photos and of portraits at random zooms, with faces pasted in, and mosaics of them.

The teacher looks at a picture as it is made; the student has to find the same in it when it is spoilt (colour, blur,
noise, JPEG).
"""

import csv
import pathlib
import sys

import cv2
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from heldout import part  # noqa: E402

# What InsightFace's networks and ours are fed: (x - MEAN) / STD.
MEAN, STD = 127.5, 128.0


def crowd(faces: pathlib.Path, wanted: str):
    """Reads the crowd photos of one part: (RGB, boxes `[n, 4]`) by name."""
    boxes = {}
    with open(faces / "wider/boxes.csv", newline="") as file:
        for row in csv.DictReader(file):
            corners = [float(row[key]) for key in ("x_min_px", "y_min_px", "x_max_px", "y_max_px")]
            boxes.setdefault(row["image"], []).append(corners)
    paths = crowd_paths(faces, wanted)
    return {path.name: (read(path), numpy.array(boxes.get(path.name, []), "f").reshape(-1, 4)) for path in paths}


def crowd_paths(faces: pathlib.Path, wanted: str):
    """The crowd photos of one part."""
    return [path for path in sorted((faces / "wider/photos").iterdir()) if part(path.name) == wanted]


def portrait_paths(faces: pathlib.Path, wanted: str):
    """The photos of the people of one part."""
    people = [folder for folder in sorted((faces / "lfw/photos").iterdir()) if part(folder.name) == wanted]
    return [path for folder in people for path in sorted(folder.iterdir())]


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def canvas(photo, side_px):
    """A photo scaled to a side, on black up to multiples of 32, as the engine does it. Returns it and the scale."""
    scale = side_px / max(photo.shape[:2])
    photo = cv2.resize(photo, (max(1, int(photo.shape[1] * scale)), max(1, int(photo.shape[0] * scale))))
    height, width = (-(-side // 32) * 32 for side in photo.shape[:2])
    full = numpy.zeros((height, width, 3), "u1")
    full[: photo.shape[0], : photo.shape[1]] = photo
    return full, scale


def normalised(pictures):
    """*Shape*: `[n, h, w, 3]` of bytes to `[n, 3, h, w]`."""
    return (pictures.astype("f").transpose(0, 3, 1, 2) - MEAN) / STD


class Maker:
    """Makes pictures out of photos: `crowd` a list of (RGB, boxes), `portraits` a list of (path, boxes)."""

    def __init__(self, crowd, portraits, side_px):
        self.crowd, self.portraits, self.side_px = crowd, portraits, side_px

    def make(self, random):
        """One picture and its boxes `[n, 4]`."""
        kind = random.choice(4, p=[0.45, 0.2, 0.2, 0.15])
        side = self.side_px
        if kind == 0:
            return self._crowd(random, side)
        if kind == 1:
            picture, boxes = self._crowd(random, side)
            for _ in range(random.integers(1, 6)):
                picture, boxes = self._paste(random, picture, boxes)
            return picture, boxes
        return self._portrait(random, side) if kind == 2 else self._mosaic(random, side)

    def crowded(self, random):
        """A picture out of crowd photos alone."""
        return self._crowd(random, self.side_px)[0]

    def _crowd(self, random, side):
        photo, boxes = self.crowd[random.integers(len(self.crowd))]
        return self._filled(random, side, *cut(random, photo, boxes, side, (8, 0.8 * side), at_face=random.random() < 0.6))

    def _portrait(self, random, side):
        path, boxes = self.portraits[random.integers(len(self.portraits))]
        face_px = (0.06 * side, 1.3 * side)
        return self._filled(random, side, *cut(random, read(path), boxes, side, face_px, at_face=random.random() < 0.9))

    def _filled(self, random, side, picture, boxes, covered):
        """Puts a piece of a crowd photo behind what does not cover its square, most times: black teaches little."""
        if covered.mean() > 0.9 or random.random() < 0.25:
            return picture, boxes
        photo, others = self.crowd[random.integers(len(self.crowd))]
        scale = side / min(photo.shape[:2]) * numpy.exp(random.uniform(0, 0.8))
        slack = scale * numpy.array(photo.shape[1::-1]) - side
        matrix = affine(scale, 0.0, False, (0, 0), -random.uniform(0, 1, 2) * slack)
        behind = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR)
        others = inside(moved(others, matrix), side)
        x, y = ((others[:, :2] + others[:, 2:]) / 2).astype(int).T
        picture = numpy.where(covered[..., None], picture, behind)
        return picture, numpy.concatenate([boxes, others[~covered[y, x]]])

    def _mosaic(self, random, side):
        half = side // 2
        tiles = [self._crowd(random, half) if random.random() < 0.6 else self._portrait(random, half) for _ in range(4)]
        offsets = [(0, 0), (half, 0), (0, half), (half, half)]
        picture = numpy.block([[[tiles[0][0]], [tiles[1][0]]], [[tiles[2][0]], [tiles[3][0]]]])
        return picture, numpy.concatenate([boxes + numpy.tile(offset, 2) for (_, boxes), offset in zip(tiles, offsets)])

    def _paste(self, random, picture, boxes):
        """Blends a portrait's face into a place; where that is taken, nothing happens."""
        path, faces = self.portraits[random.integers(len(self.portraits))]
        if not len(faces):
            return picture, boxes
        side = self.side_px
        size = numpy.exp(random.uniform(numpy.log(12), numpy.log(0.6 * side)))
        x, y = random.uniform(0, side, 2)
        box = numpy.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2], "f")
        if len(boxes) and ((numpy.minimum(box[2:], boxes[:, 2:]) - numpy.maximum(box[:2], boxes[:, :2])) > 0).all(1).any():
            return picture, boxes
        face = faces[0]
        scale = size / max(face[3] - face[1], 1)
        matrix = affine(scale, random.normal(0, 15), random.random() < 0.5, (face[:2] + face[2:]) / 2, (x, y))
        warped = cv2.warpAffine(read(path), matrix, (side, side), flags=cv2.INTER_LINEAR)
        mask = numpy.zeros((side, side), "f")
        axes = (int(size * random.uniform(0.55, 0.75)), int(size * random.uniform(0.7, 0.9)))
        cv2.ellipse(mask, (int(x), int(y)), axes, 0, 0, 360, 1.0, -1)
        mask = cv2.blur(mask, (int(size * 0.15) | 1,) * 2)[..., None]
        return (picture * (1 - mask) + warped * mask).astype("u1"), numpy.concatenate([boxes, moved(face[None], matrix)])


def affine(scale, degrees, mirrored, source, target):
    """The map that scales, turns and mirrors a photo about `source`, and puts that point at `target`."""
    matrix = cv2.getRotationMatrix2D((0.0, 0.0), degrees, scale)
    if mirrored:
        matrix[:, 0] *= -1
    matrix[:, 2] = numpy.asarray(target) - matrix[:, :2] @ numpy.asarray(source, "d")
    return matrix


def moved(boxes, matrix):
    """Boxes under a map. A turned box keeps its sides: a face is round enough for that."""
    scale = numpy.sqrt(abs(numpy.linalg.det(matrix[:, :2])))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return numpy.concatenate([centres - halves, centres + halves], 1).astype("f")


def cut(random, photo, boxes, side, face_px, at_face):
    """A square out of a photo: about one of its faces, brought to a size in the given range, or anywhere at any zoom.

    Returns the square, its boxes, and where the photo covers it.
    """
    height, width = photo.shape[:2]
    if at_face and len(boxes):
        face = boxes[random.integers(len(boxes))]
        size = numpy.exp(random.uniform(*numpy.log(face_px)))
        scale = numpy.clip(size / max(face[2:] - face[:2]), 0.15, 2.5)
        source, target = (face[:2] + face[2:]) / 2, random.uniform(0.15, 0.85, 2) * side
    else:
        scale = numpy.exp(random.uniform(numpy.log(0.2), numpy.log(1.6)))
        source = random.uniform(0, 1, 2) * [width, height]
        # The place in the square that the point has in the photo, so that little of the square is empty.
        target = source / [width, height] * side
    degrees = random.normal(0, 8) if random.random() < 0.8 else random.uniform(-45, 45)
    matrix = affine(scale, degrees, random.random() < 0.5, source, target)
    # Black is what the engine fills up with.
    empty = (0, 0, 0) if random.random() < 0.7 else tuple(int(v) for v in random.integers(0, 256, 3))
    picture = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=empty)
    covered = cv2.warpAffine(numpy.ones((height, width), "u1"), matrix, (side, side), flags=cv2.INTER_NEAREST) > 0
    return picture, inside(moved(boxes, matrix), side), covered


def inside(boxes, side):
    """The boxes whose centre lies in the square."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return boxes[((centres >= 0) & (centres < side)).all(1)]


def spoil(random, picture):
    """The same picture as a worse camera would have it."""
    x = picture.astype("f")
    if random.random() < 0.7:
        x = (x - 127.5) * random.uniform(0.6, 1.4) + 127.5 + random.uniform(-45, 45)
        x = x * random.uniform(0.85, 1.15, 3).astype("f")
    if random.random() < 0.15:
        x = numpy.repeat(x.mean(2, keepdims=True), 3, 2)
    if random.random() < 0.15:
        x = cv2.GaussianBlur(x, (0, 0), random.uniform(0.4, 1.6))
    if random.random() < 0.1:
        x = x + random.normal(0, random.uniform(2, 14), x.shape)
    x = numpy.clip(x, 0, 255).astype("u1")
    if random.random() < 0.25:
        quality = int(random.integers(20, 80))
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return x
