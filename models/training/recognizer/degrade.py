"""What cameras, distance and detectors do to a face. The teacher saw it before; the student sees it after."""

import cv2
import numpy as np

SIDE_PX = 112


def degrade(random: np.random.Generator, chip: np.ndarray) -> np.ndarray:
    """Mirrors, misaligns, relights, blurs, compresses and covers a chip, each with some probability."""
    chip = misaligned(random, chip[:, ::-1] if random.random() < 0.5 else chip)
    if random.random() < 0.6:
        chip = relit(random, chip)
    if random.random() < 0.25:
        chip = blurred(random, chip)
    if random.random() < 0.15:
        noise = random.normal(0, random.uniform(2, 12), chip.shape)
        chip = np.clip(chip + noise, 0, 255).astype(np.uint8)
    if random.random() < 0.2:
        quality = int(random.uniform(15, 80))
        chip = cv2.imdecode(cv2.imencode(".jpg", chip, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    if random.random() < 0.15:
        chip = covered(random, chip)
    return chip


def misaligned(random: np.random.Generator, chip: np.ndarray) -> np.ndarray:
    """Landmarks of another detector: turned, scaled and shifted a little."""
    middle = (SIDE_PX - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), random.normal(0, 3), random.normal(1, 0.03))
    turn[:, 2] += random.normal(0, 1.2, 2)
    return cv2.warpAffine(chip, turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)


def relit(random: np.random.Generator, chip: np.ndarray) -> np.ndarray:
    """Another light and another camera's colours; sometimes gray."""
    levels = np.linspace(0, 1, 256)[:, None] ** np.exp(random.normal(0, 0.25))
    levels = levels * random.normal(1, 0.12) * random.normal(1, 0.06, 3) + random.normal(0, 0.05)
    table = np.clip(levels * 255, 0, 255).astype(np.uint8)
    chip = cv2.LUT(chip, table[None])
    if random.random() < 0.12:
        chip = cv2.cvtColor(cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return chip


def blurred(random: np.random.Generator, chip: np.ndarray) -> np.ndarray:
    """A face far away, or out of focus."""
    if random.random() < 0.5:
        return cv2.GaussianBlur(chip, (0, 0), random.uniform(0.4, 2.0))
    side_px = int(random.uniform(28, 90))
    small = cv2.resize(chip, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)


def covered(random: np.random.Generator, chip: np.ndarray) -> np.ndarray:
    """Something in front of a part of the face, in one colour."""
    width, height = random.integers(12, 48, 2)
    left, top = random.integers(0, SIDE_PX - width), random.integers(0, SIDE_PX - height)
    chip = chip.copy()
    chip[top : top + height, left : left + width] = random.integers(0, 256, 3)
    return chip
