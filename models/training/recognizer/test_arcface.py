"""The loss against equation 3 written out, and the properties that it is chosen for."""

import math
import unittest

import torch
from arcface import arcface_logits, arcface_loss

SCALE, MARGIN = 32.0, 0.3


def cosines_of(angles: list[list[float]]) -> torch.Tensor:
    return torch.tensor(angles, dtype=torch.float64).cos()


class ArcfaceTest(unittest.TestCase):
    def test_loss_is_equation_3(self):
        angles, labels = [[0.4, 1.2, 2.0], [1.5, 0.9, 1.1]], [0, 2]
        expected = 0.0
        for row, label in zip(angles, labels):
            own = math.exp(SCALE * math.cos(row[label] + MARGIN))
            others = sum(math.exp(SCALE * math.cos(angle)) for at, angle in enumerate(row) if at != label)
            expected -= math.log(own / (own + others)) / len(labels)
        loss = arcface_loss(cosines_of(angles), torch.tensor(labels), SCALE, MARGIN)
        self.assertAlmostEqual(loss.item(), expected, places=9)

    def test_margin_moves_the_own_class_alone(self):
        cosines = cosines_of([[0.4, 1.2, 2.0]])
        logits = arcface_logits(cosines, torch.tensor([1]), SCALE, MARGIN)
        self.assertTrue(torch.equal(logits[0, [0, 2]], SCALE * cosines[0, [0, 2]]))
        self.assertAlmostEqual(logits[0, 1].item(), SCALE * math.cos(1.2 + MARGIN), places=9)

    def test_own_logit_falls_over_all_angles(self):
        angles = torch.linspace(0, math.pi, 1000, dtype=torch.float64)[:, None]
        logits = arcface_logits(angles.cos(), torch.zeros(1000, dtype=torch.long), SCALE, MARGIN)
        self.assertTrue((logits.diff(dim=0) < 0).all())

    def test_no_margin_is_softmax(self):
        cosines, labels = cosines_of([[0.4, 1.2], [0.7, 0.2]]), torch.tensor([0, 0])
        expected = torch.nn.functional.cross_entropy(SCALE * cosines, labels)
        self.assertAlmostEqual(arcface_loss(cosines, labels, SCALE, 0.0).item(), expected.item(), places=7)

    def test_gradient_is_finite_where_face_is_on_a_centre_or_opposite(self):
        cosines = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
        arcface_loss(cosines, torch.tensor([0, 0]), SCALE, MARGIN).backward()
        self.assertTrue(torch.isfinite(cosines.grad).all())

    def test_gradient_is_the_slope(self):
        cosines = cosines_of([[0.4, 1.2, 2.0], [3.1, 0.9, 1.1]]).requires_grad_()
        labels = torch.tensor([1, 0])
        self.assertTrue(torch.autograd.gradcheck(lambda values: arcface_loss(values, labels, SCALE, MARGIN), cosines))


if __name__ == "__main__":
    unittest.main()
