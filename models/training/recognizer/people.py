"""The real faces of a part, training or validation, and who they show."""

import csv
import pathlib

import numpy as np


class People:
    """Chips as chips.py wrote them."""

    def __init__(self, state: pathlib.Path, part: str):
        self.chips = np.load(state / f"{part}.npy", mmap_mode="r")
        with open(state / f"{part}.csv", newline="") as file:
            self.names = [row["person"] for row in csv.DictReader(file)]
        numbers = {name: number for number, name in enumerate(sorted(set(self.names) - {""}))}
        # Which person, as a number; -1: nobody knows.
        self.labels = np.array([numbers.get(name, -1) for name in self.names])

    def odds(self) -> np.ndarray:
        """How often to draw each chip, cumulated: a person of hundreds of photos is drawn more often than a person of
        one, but not hundreds of times as often."""
        counts = np.bincount(self.labels + 1)[self.labels + 1].astype(float)
        counts[self.labels == -1] = 1
        return np.cumsum(1 / np.sqrt(counts)) / (1 / np.sqrt(counts)).sum()

    def centres(self, targets: np.ndarray) -> np.ndarray:
        """The sum of the teacher's embeddings of each person: the direction in which the person's class begins."""
        centres = np.zeros((self.labels.max() + 1, targets.shape[1]), np.float32)
        np.add.at(centres, self.labels[self.labels >= 0], targets[self.labels >= 0])
        return centres


def draw(random: np.random.Generator, odds: np.ndarray, count: int) -> np.ndarray:
    """Draws places by their cumulated odds."""
    return np.minimum(np.searchsorted(odds, random.random(count)), len(odds) - 1)
