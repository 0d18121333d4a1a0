"""The additive angular margin loss of ArcFace."""

import math

import torch
from torch.nn import functional


def arcface_logits(cosines: torch.Tensor, labels: torch.Tensor, scale: float = 32.0, margin: float = 0.3) -> torch.Tensor:
    """Moves each face away from its own class's centre by an angle before the classes compete.

    *Shape*: cosines `[n, classes]` of embeddings to the classes' centres, labels `[n]`; the logits are like the cosines.
    *Source*: Deng et al., ArcFace, CVPR 2019, equation 3: `s cos(theta + m)` for a face's own class, `s cos(theta)` for
    the others. As in the authors' code, and not in the equation: where `theta + m` would pass pi, beyond which the
    cosine rises again and would reward a worse face, the cosine goes on falling in a straight line.
    """
    own = cosines.gather(1, labels[:, None])
    # The root's slope is infinite at a cosine of one.
    sine = (1 - own.square()).clamp(min=1e-9).sqrt()
    moved = own * math.cos(margin) - sine * math.sin(margin)
    falling = own - margin * math.sin(margin)
    moved = torch.where(own > -math.cos(margin), moved, falling)
    return scale * cosines.scatter(1, labels[:, None], moved)


def arcface_loss(cosines: torch.Tensor, labels: torch.Tensor, scale: float = 32.0, margin: float = 0.3) -> torch.Tensor:
    """The cross-entropy of the logits: equation 3 as a whole."""
    return functional.cross_entropy(arcface_logits(cosines, labels, scale, margin), labels)
