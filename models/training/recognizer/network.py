"""The recogniser's network: a small residual network of dense convolutions.

Dense, because both ends like it: processors with matrix units (AMX) train dense convolutions in bfloat16 several
times faster than depthwise ones, and ONNX Runtime fuses convolution, sum and ReLU into one kernel. ReLU, not the
PReLU of other ArcFace networks: ONNX Runtime spends more time on PReLU than on the convolutions around it.
"""

import torch
from torch import nn

EMBEDDING_LENGTH = 512
CHIP_SIDE_PX = 112


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Makes a 3x3 convolution whose scale and offset are learnt by batch normalisation, folded away at export."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the inner one may be narrower, which buys depth."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.narrow = convolution(width, inner)
        self.widen = convolution(inner, width)
        # Starts as the identity: what is deep learns faster when it begins shallow.
        nn.init.zeros_(self.widen[1].weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(features + self.widen(torch.relu(self.narrow(features))))


class Pool(nn.Module):
    """One weight a place and channel, as in MobileFaceNet: where in the face a feature lies matters.

    What a depthwise 7x7 convolution computes, as a sum, which takes a quarter of its time to train.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 7, 7) / 7)
        self.scale = nn.BatchNorm1d(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale((features * self.weight.to(features.dtype)).sum((2, 3)))


class Recognizer(nn.Module):
    """Chips `[n, 3, 112, 112]`, RGB, `(pixel - 127.5) / 127.5`, to embeddings `[n, 512]` of any length."""

    def __init__(self, stem=16, widths=(48, 96, 192), inners=(32, 64, 160), depths=(1, 2, 2)):
        super().__init__()
        layers = [convolution(3, stem, stride=2), nn.ReLU()]
        before = stem
        for width, inner, depth in zip(widths, inners, depths):
            layers += [convolution(before, width, stride=2), nn.ReLU()]
            layers += [Block(width, inner) for _ in range(depth)]
            before = width
        self.features = nn.Sequential(*layers)
        self.pool = Pool(before)
        self.embed = nn.Linear(before, EMBEDDING_LENGTH)

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        return self.embed(self.pool(self.features(chips)))
