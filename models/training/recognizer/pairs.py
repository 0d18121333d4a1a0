"""Writes a list of labelled pairs of held-out people's photos, as many of one person as of two.

    python pairs.py PORTRAITS > pairs.csv

At most ten pairs a person, so that a few people with many photos do not decide; the same list every time.
"""

import csv
import itertools
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from heldout import part  # noqa: E402

PAIRS_OF_A_PERSON_MAX = 10


def main():
    folders = sorted(folder for folder in pathlib.Path(sys.argv[1]).iterdir() if part(folder.name) == "held-out")
    people = [sorted(folder.glob("*.jpg")) for folder in folders]
    draw = random.Random(1)
    mated = []
    for photos in people:
        pairs = list(itertools.combinations(photos, 2))
        mated += draw.sample(pairs, min(len(pairs), PAIRS_OF_A_PERSON_MAX))
    others = set()
    while len(others) < len(mated):
        one, other = draw.sample(people, 2)
        others.add((draw.choice(one), draw.choice(other)))
    lines = csv.writer(sys.stdout)
    lines.writerow(["image1", "image2", "label"])
    for label, pairs in ((1, mated), (0, sorted(others))):
        lines.writerows([*("/".join(photo.parts[-2:]) for photo in pair), label] for pair in pairs)


if __name__ == "__main__":
    main()
