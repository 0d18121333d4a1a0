"""Proves of a training's lists that nobody held out is in them, nor anybody who chooses among trainings.

    python leaks.py STATE PHOTOS CROWDS

By name: no person and no photo in STATE/training.csv or validation.csv is held out, and no person of the one is in the
other. By content: no photo in them is, byte for byte, a photo of somebody held out under another name. And the chips
that are trained on are as many as the lists' lines, so none can have come in beside them. Exit code 1: a leak, named.
"""

import csv
import hashlib
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from heldout import part  # noqa: E402


def content(photo: pathlib.Path) -> str:
    """A hash of a photo's bytes."""
    return hashlib.sha256(photo.read_bytes()).hexdigest()


def held_out_contents(portraits: pathlib.Path, crowds: pathlib.Path) -> set[str]:
    """Hashes of all photos of held-out people, and of held-out crowd photos."""
    photos = [photo for photo in portraits.glob("*/*") if part(photo.parent.name) == "held-out"]
    photos += [photo for photo in crowds.iterdir() if part(photo.name) == "held-out"]
    return {content(photo) for photo in photos}


def leaks(rows: list[dict], its_part: str, held_out: set[str]) -> list[str]:
    """What is wrong with the lines of a part's list."""
    found = []
    for row in rows:
        photo = pathlib.Path(row["photo"])
        # Whose photo it is says its folder; a list that names another person lies.
        owner = photo.parent.name if row["person"] else photo.name
        if row["person"] and row["person"] != owner:
            found.append(f"{photo}: listed as {row['person']}")
        if part(owner) != its_part:
            found.append(f"{photo}: {part(owner)}, in the list for {its_part}")
        if content(photo) in held_out:
            found.append(f"{photo}: the same file as a held-out one")
    return found


def main() -> int:
    state, portraits, crowds = map(pathlib.Path, sys.argv[1:4])
    held_out, found = held_out_contents(portraits, crowds), []
    for its_part in ("training", "validation"):
        with open(state / f"{its_part}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        found += leaks(rows, its_part, held_out)
        chips = len(np.load(state / f"{its_part}.npy", mmap_mode="r"))
        if chips != len(rows):
            found.append(f"{its_part}: {chips} chips and {len(rows)} lines")
        people = {row["person"] for row in rows} - {""}
        print(f"{its_part}: {len(rows)} chips of {len(people)} people known by name, against {len(held_out)} held-out photos")
    print("\n".join(found) or "no leak")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
