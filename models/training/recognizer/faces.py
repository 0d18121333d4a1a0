"""Faces that never were: blends and warps of real chips, each a person of its own to the teacher."""

import cv2
import numpy as np
from people import draw

SIDE_PX = 112


def smooth(random: np.random.Generator, places: int, spread: float) -> np.ndarray:
    """A random field over the chip that varies slowly: `places` by `places` independent values, interpolated."""
    coarse = random.normal(0, spread, (places, places)).astype(np.float32)
    return cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)


def warped(random: np.random.Generator, chip: np.ndarray) -> np.ndarray:
    """Another shape of face: wider or longer, and bent by up to a few pixels."""
    across, down = np.meshgrid(np.arange(SIDE_PX, dtype=np.float32), np.arange(SIDE_PX, dtype=np.float32))
    middle = (SIDE_PX - 1) / 2
    wider, longer = random.normal(1, 0.04, 2)
    across = ((across - middle) * wider + middle + smooth(random, 5, 1.8)).astype(np.float32)
    down = ((down - middle) * longer + middle + smooth(random, 5, 1.8)).astype(np.float32)
    return cv2.remap(chip, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def coloured_as(chip: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A chip with the mean and contrast, in each channel, of another: hides the seam between two photos."""
    chip, other = chip.astype(np.float32), other.astype(np.float32)
    mean, spread = chip.mean((0, 1)), chip.std((0, 1)) + 1
    return np.clip((chip - mean) * ((other.std((0, 1)) + 1) / spread) + other.mean((0, 1)), 0, 255)


def blended(random: np.random.Generator, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two faces as one: mixed evenly over the chip, or some parts of the one and others of the other."""
    if random.random() < 0.7:
        other = coloured_as(other, one)
    share = random.uniform(0.25, 0.75)
    if random.random() < 0.5:
        # From soft to nearly cut out.
        share = 1 / (1 + np.exp(-random.uniform(2, 12) * (smooth(random, random.integers(3, 6), 0.5) + share - 0.5)))
        share = share[..., None]
    mix = share * one.astype(np.float32) + (1 - share) * other.astype(np.float32)
    return np.clip(mix + 0.5, 0, 255).astype(np.uint8)


def compose(random: np.random.Generator, chips: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Makes a face out of one, two or three of the chips, drawn by their cumulated odds."""

    def pick() -> np.ndarray:
        chip = chips[draw(random, odds, 1)[0]]
        chip = chip[:, ::-1] if random.random() < 0.5 else chip
        return warped(random, chip) if random.random() < 0.5 else chip

    face = pick()
    for _ in range(random.choice([0, 1, 2], p=[0.2, 0.6, 0.2])):
        face = blended(random, face, pick())
    return np.ascontiguousarray(face)
