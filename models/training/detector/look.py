"""The second look: a small network that sees each candidate of the detector alone and larger, and says anew what it is.

Most of the detector's false faces, and its rough landmarks, come from one pass over all of a photo with few channels. Here
what it takes for a face is cut out of the same input, brought to one size, and asked: a face or not, where is its box, where
are its landmarks. Both are one ONNX graph of SCRFD's layout: the answers go back to the candidates' anchors, and every other
score becomes nothing, so that whoever reads SCRFD's files reads this one.

*Source*: the third network of MTCNN (Zhang et al., arXiv 1604.02878) has the same task; it differs in size and in its layers.
"""

import torch
from torch import nn
from torch.nn import functional

from maps import STRIDES_PX, suppressed
from network import convolution

SIDE_PX = 48
# The side of the square that is cut out, in longer sides of the candidate's box.
MARGIN = 1.2
# A square of more pixels than this is seen with more care: each of its cells is the mean of 2x2 samples, and the answer that of
# the square and of its mirror image together, which takes a fourteenth from the error of the landmarks. For all candidates of a
# crowd, either would cost as much as the network.
CARE_MIN_PX = 64
# What the detector is less sure of is never looked at: below, false candidates come by the hundred.
SCORE_CANDIDATE = 0.4
# Of candidates that overlap more, the better one is looked at.
IOU_SAME = 0.4
# Most candidates of a photo, best first: what bounds the time that a picture of noise can take.
CANDIDATES_MAX = 100
# How much the detector's own logit counts beside that of the second look: they err on other things.
FIRST_SHARE = 1.0
# Taken off, so that a half is the score from which on faces are reported: there, the validation photos had less than a tenth of
# a false face each.
LOGIT_SHIFT = 2.5


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels):
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution(channels, channels), last, nn.BatchNorm2d(channels))

    def forward(self, x):
        return functional.relu(x + self.body(x))


class Look(nn.Module):
    """*Shape*: `[n, 3, 48, 48]`, normalised as the detector's input, to logits `[n]`, boxes `[n, 4]` (corners) and points
    `[n, 10]`, both in sides of the square from its centre."""

    def __init__(self, widths=(16, 32, 64, 96), inner=128):
        super().__init__()
        first, second, third, fourth = widths
        self.body = nn.Sequential(
            convolution(3, first, 4, stride=2),
            convolution(first, second, stride=2),
            Residual(second),
            convolution(second, third, stride=2),
            Residual(third),
            convolution(third, fourth, stride=2),
            nn.Flatten(),
            nn.Linear(fourth * (SIDE_PX // 16) ** 2, inner),
            nn.ReLU(inplace=True),
        )
        self.answers = nn.Linear(inner, 1 + 4 + 10)
        with torch.no_grad():
            self.answers.weight.mul_(0.1)
            half = 0.5 / MARGIN
            self.answers.bias.copy_(torch.tensor([0.0, -half, -half, half, half] + [0.0] * 10))

    def forward(self, crops):
        answers = self.answers(self.body(crops))
        return answers[:, 0], answers[:, 1:5], answers[:, 5:]


def squares(boxes):
    """The squares to cut for boxes `[n, 4]`: centres `[n, 2]` and sides `[n, 1]`."""
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).clamp(min=1.0) * MARGIN
    return (boxes[:, :2] + boxes[:, 2:]) / 2, sides


class Best(torch.autograd.Function):
    """The rows of the boxes that no better one overlaps `[n]`, best first, as ONNX's NonMaxSuppression has them."""

    @staticmethod
    def forward(context, boxes, scores):
        order = scores.argsort(descending=True, stable=True)
        _, _, kept = suppressed(scores[order], boxes[order], torch.arange(len(order)))
        return order[torch.from_numpy(kept)][:CANDIDATES_MAX]

    @staticmethod
    def symbolic(g, boxes, scores):
        constant = lambda value: g.op("Constant", value_t=torch.tensor(value))
        rows = g.op("Unsqueeze", boxes, constant([0])), g.op("Unsqueeze", scores, constant([0, 1]))
        chosen = g.op("NonMaxSuppression", *rows, constant([CANDIDATES_MAX]), constant([IOU_SAME]))
        return g.op("Gather", chosen, constant(2), axis_i=1)


class Cut(torch.autograd.Function):
    """Cuts squares `[n, 4]` (corners, in pixels) out of a picture `[1, 3, h, w]`, as ONNX's RoiAlign does it, each cell the
    mean of `samples` by `samples`."""

    @staticmethod
    def forward(context, picture, corners, samples):
        height, width = picture.shape[2:]
        cells = SIDE_PX * samples
        steps = (torch.arange(cells) + 0.5) / cells
        places = corners[:, None, :2] + (corners[:, None, 2:] - corners[:, None, :2]) * steps[:, None] - 0.5
        x, y = places[:, None, :, 0].expand(-1, cells, -1), places[:, :, None, 1].expand(-1, -1, cells)
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
        copies = picture.expand(len(corners), -1, -1, -1)
        found = functional.grid_sample(copies, grid, padding_mode="border", align_corners=True)
        is_in = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
        return functional.avg_pool2d(found * is_in[:, None], samples)

    @staticmethod
    def symbolic(g, picture, corners, samples):
        count = g.op("Gather", g.op("Shape", corners), g.op("Constant", value_t=torch.tensor([0])), axis_i=0)
        batch = g.op("ConstantOfShape", count, value_t=torch.tensor([0]))
        attributes = {"output_height_i": SIDE_PX, "output_width_i": SIDE_PX, "sampling_ratio_i": samples}
        return g.op("RoiAlign", picture, corners, batch, **attributes, coordinate_transformation_mode_s="half_pixel")


class Looked(nn.Module):
    """The detector with the second look behind it, its maps as InsightFace flattens them.

    The detector's own points are not in it: only the second look's are ever read.
    """

    def __init__(self, detector, look):
        super().__init__()
        self.detector, self.look = detector, look

    def forward(self, x):
        levels = self.detector(x)
        flat = [[m.permute(0, 2, 3, 1).reshape(-1, size) for m, size in zip(level, (1, 4))] for level in levels]
        counts = [score.shape[0] for score, _ in flat]
        logits, boxes = (torch.cat(kind) for kind in zip(*flat))
        scores = logits.sigmoid()[:, 0]
        rows = torch.nonzero(scores > SCORE_CANDIDATE)[:, 0]
        origins, strides = anchors(rows, counts, x.shape[3])
        candidates = torch.cat([origins - boxes[rows, :2] * strides, origins + boxes[rows, 2:] * strides], 1)
        best = Best.apply(candidates, scores[rows])
        centres, sides = squares(candidates[best])
        order, crops, mirrored = cut(x, centres, sides)
        best, centres, sides = best[order], centres[order], sides[order]
        new_logits, new_boxes, new_points = joined(self.look(torch.cat([crops, mirrored])), crops.shape[0], mirrored.shape[0])
        rows, origins, strides = rows[best], origins[best], strides[best]
        new_logits = new_logits + FIRST_SHARE * logits[rows, 0] - LOGIT_SHIFT
        corners = (centres - origins).repeat(1, 2) + sides * new_boxes
        new_boxes = torch.cat([-corners[:, :2], corners[:, 2:]], 1) / strides
        new_points = ((centres - origins).repeat(1, 5) + sides * new_points) / strides
        scores = placed(rows, new_logits.sigmoid()[:, None], torch.zeros_like(logits))
        points = placed(rows, new_points, logits.new_zeros(logits.shape[0], 10))
        ends = [counts[0], counts[0] + counts[1]]
        kinds = (scores, placed(rows, new_boxes, boxes), points)
        return [part for kind in kinds for part in (kind[: ends[0]], kind[ends[0] : ends[1]], kind[ends[1] :])]


def anchors(rows, counts, width_px):
    """Where the anchors of some rows lie: origins `[n, 2]` in pixels, strides `[n, 1]`. In single precision: whole numbers
    up to 16 million are themselves, and the runtime divides and rounds them in one pass."""
    rows = rows.float()
    is_16, is_32 = (rows >= counts[0]).float(), (rows >= counts[0] + counts[1]).float()
    strides = STRIDES_PX[0] * (1 + is_16) * (1 + is_32)
    cells = torch.floor((rows - counts[0] * is_16 - counts[1] * is_32) / 2)
    columns = width_px / strides
    lines = torch.floor((cells + 0.5) / columns)
    return torch.stack([cells - lines * columns, lines], 1) * strides[:, None], strides[:, None]


def cut(picture, centres, sides):
    """Cuts squares out. Returns their order, the small ones first, the crops in it, and the large ones mirrored."""
    corners = torch.cat([centres - sides / 2, centres + sides / 2], 1)
    small, large = (torch.nonzero(chosen)[:, 0] for chosen in (sides[:, 0] <= CARE_MIN_PX, sides[:, 0] > CARE_MIN_PX))
    crops = Cut.apply(picture, corners[small], 1), Cut.apply(picture, corners[large], 2)
    return torch.cat([small, large]), torch.cat(crops), crops[1].flip(3)


def joined(answers, count, mirrored):
    """The answers to `count` crops, of which the last ones came mirrored as well, behind them: of these, the mean of both."""
    logits, boxes, points = answers
    signs = boxes.new_tensor([-1.0, 1.0])
    # Left and right change places: of the corners, of the eyes, and of the corners of the mouth.
    back = (
        logits[count:],
        boxes[count:][:, [2, 1, 0, 3]] * signs.repeat(2),
        points[count:][:, [2, 3, 0, 1, 4, 5, 8, 9, 6, 7]] * signs.repeat(5),
    )
    alone = count - mirrored
    return [torch.cat([a[:alone], (a[alone:count] + b) / 2]) for a, b in zip(answers, back)]


def placed(places, rows_new, rows_old):
    """`rows_old` with those at `places` replaced."""
    return rows_old.scatter(0, places[:, None].expand(-1, rows_old.shape[1]), rows_new)
