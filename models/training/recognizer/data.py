"""What a training step sees: real faces and composed ones, degraded, with the teacher's embeddings of them."""

import os
import pathlib

import cv2
import numpy as np
import torch
from degrade import degrade
from people import People, draw
from teacher import LENGTH
from torch.utils.data import IterableDataset

SIDE_PX = 112
# Shares of a batch.
REAL_SHARE = 0.25


class Batches(IterableDataset):
    """Batches without end, from a step on: input, target, label. A step's batch depends on its number and nothing else,
    except that composed faces are drawn from those that there are by then."""

    def __init__(self, state: pathlib.Path, size: int, first_step: int, rank: int):
        self.state, self.size, self.first_step, self.rank = state, size, first_step, rank

    def __iter__(self):
        cv2.setNumThreads(0)
        people = People(self.state, "training")
        odds = people.odds()
        real_targets = np.load(self.state / "targets.npy")
        real = round(self.size * REAL_SHARE)
        step = self.first_step
        while True:
            random = np.random.default_rng([2, self.rank, step])
            drawn = draw(random, odds, real)
            faces, targets = self.composed()
            made = np.sort(random.integers(0, len(faces), self.size - real))
            chips = [degrade(random, chip) for chip in (*people.chips[drawn], *faces[made])]
            pixels = (np.stack(chips).astype(np.float32) - 127.5) / 127.5
            yield (
                torch.from_numpy(pixels.transpose(0, 3, 1, 2)),
                torch.from_numpy(np.concatenate([real_targets[drawn], targets[made]]).astype(np.float32)),
                torch.from_numpy(np.concatenate([people.labels[drawn], np.full(len(made), -1)])),
            )
            step += 1

    def composed(self) -> tuple[np.ndarray, np.ndarray]:
        """The composed faces and targets that are on disk now: views.py may be adding to them."""
        folder = self.state / "views"
        count = os.path.getsize(folder / "targets.f16") // (2 * LENGTH)
        faces = np.memmap(folder / "faces.u8", np.uint8, "r", shape=(count, SIDE_PX, SIDE_PX, 3))
        return faces, np.memmap(folder / "targets.f16", np.float16, "r", shape=(count, LENGTH))
