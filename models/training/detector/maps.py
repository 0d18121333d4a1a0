"""SCRFD's maps as rows of anchors, and rows as faces."""

import numpy
import torch

STRIDES_PX = (8, 16, 32)
# Of boxes that overlap more, the best is kept: the engine's default.
IOU_MAX = 0.4


def rows(maps):
    """Maps of three strides to rows: logits `[n, a]`, boxes `[n, a, 4]` and points `[n, a, 10]` in pixels of the input.

    The rows stand in the order of the engine: stride by stride, line by line, the two anchors of a cell side by side.
    """
    logits, boxes, points = [], [], []
    for (score, box, point), stride in zip(maps, STRIDES_PX):
        n, _, height, width = score.shape
        y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
        origin = torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, 2, -1).reshape(-1, 2).to(score.dtype)
        logits.append(score.permute(0, 2, 3, 1).reshape(n, -1))
        box = box.permute(0, 2, 3, 1).reshape(n, -1, 4) * stride
        boxes.append(torch.cat([origin - box[..., :2], origin + box[..., 2:]], -1))
        points.append(point.permute(0, 2, 3, 1).reshape(n, -1, 10) * stride + origin.repeat(1, 5))
    return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(points, 1)


def iou(a, b):
    """Overlap of each box of `a` with each of `b`: `[len(a), len(b)]`."""
    sides = (torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])).clamp(min=0)
    common = sides.prod(-1)
    return common / (area(a)[:, None] + area(b)[None] - common).clamp(min=1e-6)


def area(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


@torch.no_grad()
def faces(network, pictures, score_min):
    """What a network sees in equally large pictures: for each (scores, boxes, points) of its faces, best first."""
    logits, boxes, points = rows([[m.float() for m in level] for level in network(pictures)])
    found = []
    for scores, boxes, points in zip(logits.sigmoid(), boxes, points):
        order = torch.nonzero(scores >= score_min)[:, 0]
        order = order[scores[order].argsort(descending=True)][:5000]
        found.append(suppressed(scores[order], boxes[order], points[order]))
    return found


def suppressed(scores, boxes, points):
    """Keeps the best of each group of overlapping boxes; the rows stand by falling score."""
    overlaps = (iou(boxes, boxes) > IOU_MAX).numpy()
    kept = numpy.ones(len(scores), bool)
    for row in range(len(scores)):
        if kept[row]:
            kept[row + 1 :] &= ~overlaps[row, row + 1 :]
    return scores[kept].numpy(), boxes[kept].numpy(), points[kept].numpy()
