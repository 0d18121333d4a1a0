"""Pair accuracy of scored pairs, in the way of Labeled Faces in the Wild.

    facematch score --photos held-out pairs.csv -o scores.csv && python accuracy.py scores.csv

Ten folds: the threshold that is best on nine of them is applied to the tenth, so no pair helps to choose the threshold
that judges it. A pair without a score counts as wrong. Printed with its 95 % interval (Wilson).
"""

import csv
import math
import random
import sys

FOLDS = 10
Z = 1.96


def best_threshold(pairs: list[tuple[float, bool]]) -> float:
    """The score at or above which a match is right most often."""
    ordered = sorted(pairs, reverse=True)
    right = sum(not is_mated for _, is_mated in ordered)
    best, threshold = right, math.inf
    for place, (score, is_mated) in enumerate(ordered):
        right += 1 if is_mated else -1
        is_last_of_equals = place + 1 == len(ordered) or ordered[place + 1][0] < score
        if is_last_of_equals and right > best:
            best, threshold = right, score
    return threshold


def right_pairs(pairs: list[tuple[float, bool]]) -> int:
    """How many pairs are judged rightly by the thresholds of the other folds."""
    pairs = random.Random(1).sample(pairs, len(pairs))
    right = 0
    for fold in range(FOLDS):
        others = [pair for place, pair in enumerate(pairs) if place % FOLDS != fold]
        threshold = best_threshold(others)
        right += sum((score >= threshold) == is_mated for score, is_mated in pairs[fold::FOLDS])
    return right


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, square = right / count, Z * Z / count
    middle, half = share + square / 2, Z * math.sqrt(share * (1 - share) / count + square / count / 4)
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def main():
    with open(sys.argv[1], newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(float(row["score"]), row["label"] == "1") for row in rows if row["score"]]
    right = right_pairs(pairs)
    low, high = interval(right, len(rows))
    print(f"{right} of {len(rows)} pairs right: {right / len(rows):.4f} [{low:.4f}, {high:.4f}]; {len(rows) - len(pairs)} without a score")


if __name__ == "__main__":
    main()
