"""What embeddings are worth, while training: a quick look. What counts is measured by `facematch calibrate`."""

import numpy as np


def error_rates(embeddings: np.ndarray, people: list[str]) -> tuple[float, float, float]:
    """All pairs of embeddings of people known by name: FNMR at FMR 1e-2 and at 1e-3, and the best balanced accuracy."""
    named = np.array([place for place, person in enumerate(people) if person])
    person = np.unique(np.array(people)[named], return_inverse=True)[1]
    unit = embeddings[named] / np.linalg.norm(embeddings[named], axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    scores = (unit @ unit.T)[first, second]
    is_mated = person[first] == person[second]
    mated, others = np.sort(scores[is_mated]), np.sort(scores[~is_mated])
    thresholds = others[[int(len(others) * 0.99), int(len(others) * 0.999)]]
    at_1e_2, at_1e_3 = np.searchsorted(mated, thresholds) / len(mated)
    missed = np.searchsorted(mated, scores) / len(mated)
    matched = 1 - np.searchsorted(others, scores) / len(others)
    return at_1e_2, at_1e_3, 1 - ((missed + matched) / 2).min()
