"""The detector: a small residual network with a two-way feature pyramid that speaks SCRFD's layout.

Dense 3x3 convolutions in narrow bottlenecks instead of depthwise ones: on a CPU they do three times the arithmetic of
SCRFD-500m in its time, and train several times faster.

*Shape*: `[n, 3, height, width]`, sides multiples of 32, RGB (x - 127.5) / 128, to three strides (8, 16, 32) of
(logits `[n, 2, h, w]`, boxes `[n, 8, h, w]`, points `[n, 20, h, w]`): two anchors a cell, both at its top left corner,
lengths in strides.
"""

import torch
from torch import nn
from torch.nn import functional

# Faces are rare: a network that starts by expecting one in a hundred cells does not spend its first steps on unlearning.
FACE_SHARE_FIRST = 0.01


def convolution(inputs, outputs, side=3, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, (side - stride + 1) // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Bottleneck(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, inner, 1),
            convolution(inner, inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return functional.relu(x + self.body(x))


class Head(nn.Module):
    def __init__(self, inputs, inner):
        super().__init__()
        self.body = convolution(inputs, inner)
        self.maps = nn.ModuleList([nn.Conv2d(inner, channels, 1) for channels in (2, 8, 20)])
        nn.init.constant_(self.maps[0].bias, -torch.tensor(1 / FACE_SHARE_FIRST - 1).log().item())
        nn.init.constant_(self.maps[1].bias, 2.0)

    def forward(self, x):
        x = self.body(x)
        return tuple(make(x) for make in self.maps)


class Detector(nn.Module):
    def __init__(self, patch=32, widths=(64, 96, 128), inners=(32, 48, 64), depths=(3, 3, 2), neck=32, head=64):
        super().__init__()
        # Straight to a quarter of the side: half of a small network's time, and more of its memory traffic in training,
        # would go into maps finer than that, and the smallest faces wanted are ten of these cells wide.
        self.patches = convolution(3, patch, 6, stride=4)
        self.stages = nn.ModuleList()
        inputs = patch
        for width, inner, depth in zip(widths, inners, depths):
            blocks = [Bottleneck(width, inner) for _ in range(depth)]
            self.stages.append(nn.Sequential(convolution(inputs, width, stride=2), *blocks))
            inputs = width
        self.lateral = nn.ModuleList([nn.Conv2d(width, neck, 1) for width in widths])
        self.fine = nn.ModuleList([convolution(neck, neck) for _ in range(2)])
        self.coarse = nn.ModuleList([convolution(neck, neck, stride=2) for _ in range(2)])
        self.heads = nn.ModuleList([Head(neck, head) for _ in range(3)])

    def forward(self, x):
        x = self.patches(x)
        levels = []
        for stage, lateral in zip(self.stages, self.lateral):
            x = stage(x)
            levels.append(lateral(x))
        at_8, at_16, at_32 = levels
        at_16 = self.fine[0](at_16 + functional.interpolate(at_32, scale_factor=2.0, mode="nearest"))
        at_8 = self.fine[1](at_8 + functional.interpolate(at_16, scale_factor=2.0, mode="nearest"))
        at_16 = at_16 + self.coarse[0](at_8)
        at_32 = at_32 + self.coarse[1](at_16)
        return [head(level) for head, level in zip(self.heads, (at_8, at_16, at_32))]
