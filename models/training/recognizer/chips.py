"""Cuts the faces that training may see into aligned 112x112 chips.

Reads what `facematch detect --json` says of photos, so detection and choice of the face are the engine's own. Of a
portrait the largest face is taken, and who it shows is its folder's name; of a crowd photo all faces that are not too
small are, and nobody knows who they are. Held-out people and photos are left out here, and so from all that follows.

    facematch detect --json PHOTOS... > portraits.jsonl
    python chips.py STATE --portraits portraits.jsonl --crowds crowds.jsonl

Writes STATE/training.npy and validation.npy, uint8 `[n, 112, 112, 3]`, RGB, and beside each a CSV with a line a chip.
"""

import argparse
import csv
import json
import pathlib
import sys

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from heldout import part  # noqa: E402

CHIP_SIDE_PX = 112
# `arcface_dst` of InsightFace's face_align.py: where the five points of every ArcFace network lie.
ARCFACE_POINTS_PX = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# Smaller faces of crowds say little about who they are, to the teachers too.
CROWD_EYE_DISTANCE_MIN_PX = 12.0


def similarity(source_px: np.ndarray, target_px: np.ndarray) -> np.ndarray:
    """Fits a turn, scale and shift by least squares: Umeyama's transform in the plane, without reflections."""
    source, target = (points @ (1, 1j) for points in (source_px, target_px))
    from_middle = source - source.mean()
    turn = np.vdot(from_middle, target - target.mean()) / np.vdot(from_middle, from_middle).real
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def cut(photo: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """Cuts the chip of a face out of a photo."""
    to_chip = similarity(landmarks_px, ARCFACE_POINTS_PX)
    return cv2.warpAffine(photo, to_chip, (CHIP_SIDE_PX, CHIP_SIDE_PX), flags=cv2.INTER_LINEAR)


def area_px(face: dict) -> float:
    """The area of a face's box."""
    box = face["box"]
    return (box["x_max_px"] - box.get("x_min_px", 0)) * (box["y_max_px"] - box.get("y_min_px", 0))


def chosen_faces(faces: list[dict], is_crowd: bool) -> list[dict]:
    """Which faces of a photo are taken: the engine's default rule, or all that are large enough."""
    if not is_crowd:
        return [max(faces, key=area_px)]
    return [face for face in faces if face["eye_distance_px"] >= CROWD_EYE_DISTANCE_MIN_PX]


def read(detected: pathlib.Path, is_crowd: bool):
    """Yields part, person, photo and chip of each face that training may see."""
    for line in detected.read_text().splitlines():
        answer = json.loads(line)
        photo = pathlib.Path(answer["photo"])
        # A portrait is held out with its person, a crowd photo by its own name.
        its_part = part(photo.name if is_crowd else photo.parent.name)
        faces = answer.get("detected", {}).get("faces", [])
        if its_part == "held-out" or not faces:
            continue
        pixels = cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB)
        for face in chosen_faces(faces, is_crowd):
            points = np.array([[point.get("x_px", 0), point.get("y_px", 0)] for point in face["landmarks"]])
            yield its_part, "" if is_crowd else photo.parent.name, photo, cut(pixels, points)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("state", type=pathlib.Path)
    arguments.add_argument("--portraits", type=pathlib.Path, required=True)
    arguments.add_argument("--crowds", type=pathlib.Path, required=True)
    given = arguments.parse_args()
    found = [*read(given.portraits, is_crowd=False), *read(given.crowds, is_crowd=True)]
    for name in ("training", "validation"):
        rows = [row for row in found if row[0] == name]
        np.save(given.state / f"{name}.npy", np.stack([chip for *_, chip in rows]))
        with open(given.state / f"{name}.csv", "w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["person", "photo"])
            lines.writerows([person, photo] for _, person, photo, _ in rows)
        people = {person for _, person, *_ in rows} - {""}
        print(f"{name}: {len(rows)} chips, {len(people)} people known by name")


if __name__ == "__main__":
    main()
