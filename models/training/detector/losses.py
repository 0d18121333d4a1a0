"""What the student is taught: the teacher's maps, mended where people have said what is a face.

*Source*: the score loss is the quality focal loss of Li et al., arXiv 2006.04388, equation 6 (beta 2), with the teacher's
score as the quality; the box loss is Rezatofighi et al., arXiv 1902.09630 (GIoU).
"""

import torch
from torch.nn import functional

from maps import area, iou

# A teacher's score below this says that an anchor saw no face; its box and points are then noise.
SCORE_NOISE = 0.05
# Box and points are learned where the teacher is at least this sure.
SCORE_LEARNED = 0.2
# A face that people marked, and that the teacher sees at all, is to score at least this.
SCORE_CONFIRMED = 0.7
IOU_CONFIRMED, IOU_UNMARKED = 0.4, 0.2
# On no marked face, the teacher is overruled below this. Above it is more often right than they who marked.
SCORE_TRUSTED = 0.5


def mended(scores, boxes, marked):
    """The teacher's scores of one picture `[a]` after a look at the marked boxes `[m, 4]`.

    Anchors in doubt that lie on no marked face are taken for false, and a marked face's anchors are raised together until
    its best one is sure: the student learns from the teacher *where* in a face to look, and from people *what* is one.
    """
    scores = scores.clone()
    seen = torch.nonzero(scores > SCORE_NOISE)[:, 0]
    if not len(seen):
        return scores
    doubted = scores[seen] < SCORE_TRUSTED
    if not len(marked):
        scores[seen[doubted]] = 0.0
        return scores
    overlap, face = iou(boxes[seen], marked).max(1)
    confirmed = overlap >= IOU_CONFIRMED
    best = torch.zeros(len(marked)).scatter_reduce(0, face[confirmed], scores[seen[confirmed]], "amax")
    factor = (SCORE_CONFIRMED / best[face].clamp(min=0.1)).clamp(min=1.0)
    raised = torch.where(confirmed, scores[seen] * factor, scores[seen])
    scores[seen] = torch.where(doubted & (overlap < IOU_UNMARKED), torch.zeros(()), raised).clamp(max=1.0)
    return scores


def score_loss(logits, targets):
    """Quality focal loss, for each unit of face in the targets."""
    wrong = (targets - logits.sigmoid()).abs().square()
    loss = wrong * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return loss.sum() / targets.sum().clamp(min=1.0)


def shape_losses(boxes, points, teacher_boxes, teacher_points, targets):
    """Box and point losses over the anchors that see a face, each weighed by how sure the teacher is."""
    learned = targets > SCORE_LEARNED
    weights = targets[learned]
    total = weights.sum().clamp(min=1.0)
    box, wanted = boxes[learned], teacher_boxes[learned]
    side = area(wanted).sqrt().clamp(min=4.0)[:, None]
    # A few per cent of the face's side is what alignment can bear: beyond, the loss grows in proportion.
    distance = functional.smooth_l1_loss(points[learned] / side, teacher_points[learned] / side, reduction="none", beta=0.02)
    return (weights * (1 - giou(box, wanted))).sum() / total, (weights * distance.mean(1)).sum() / total


def giou(a, b):
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = area(a) + area(b) - common
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    return common / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
