"""Tests of what a training would not notice: `python -m unittest` in this folder. They need no photos."""

import pathlib
import tempfile
import unittest

import numpy
import torch

import leaks
import losses
import maps
from network import Detector
from pictures import affine, inside, moved, part


def name_in(wanted):
    return next(name for name in (f"person {i}" for i in range(1000)) if part(name) == wanted)


class Leaks(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, name, content):
        path = pathlib.Path(self.folder.name) / name
        path.write_bytes(content)
        return path

    def test_held_out_name_is_a_leak(self):
        for wanted in ("held-out", "validation"):
            name = f"{name_in(wanted)}/1.jpg"
            self.assertEqual(leaks.leaks({name: self.file("a", b"a")}, {}), [name])

    def test_same_bytes_under_another_name_are_a_leak(self):
        name = name_in("training")
        apart = {"b": self.file("b", b"same")}
        self.assertEqual(leaks.leaks({name: self.file("a", b"same")}, apart), [name])
        self.assertEqual(leaks.leaks({name: self.file("a", b"other")}, apart), [])


class Maps(unittest.TestCase):
    def test_rows_stand_as_the_engine_reads_them(self):
        """The second anchor of the cell at column 3, line 2 of stride 16."""
        level = lambda size: [torch.zeros(1, c, size, 2 * size) for c in (2, 8, 20)]
        levels = [level(8), level(4), level(2)]
        score, box, point = levels[1]
        score[0, 1, 2, 3] = 9.0
        box[0, 4:, 2, 3] = torch.tensor([1.0, 2.0, 3.0, 0.5])
        point[0, 10:, 2, 3] = torch.arange(10.0)
        scores, boxes, points = maps.rows(levels)
        row = 8 * 16 * 2 + (2 * 8 + 3) * 2 + 1
        self.assertEqual(scores[0].argmax().item(), row)
        self.assertEqual(boxes[0, row].tolist(), [48 - 16, 32 - 32, 48 + 48, 32 + 8])
        self.assertEqual(points[0, row, :4].tolist(), [48, 32 + 16, 48 + 32, 32 + 48])

    def test_overlapping_faces_are_suppressed_best_first(self):
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
        scores, kept, _ = maps.suppressed(torch.tensor([0.9, 0.8, 0.7]), boxes, torch.zeros(3, 10))
        self.assertEqual(kept.tolist(), boxes[[0, 2]].tolist())


class Mended(unittest.TestCase):
    BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [80, 80, 90, 90]])

    def test_marked_face_is_raised_and_doubt_off_faces_dropped(self):
        scores = torch.tensor([0.35, 0.2, 0.4, 0.6])
        found = losses.mended(scores, self.BOXES, torch.tensor([[0.0, 0, 10, 10]]))
        for value, wanted in zip(found.tolist(), (0.7, 0.4, 0.0, 0.6)):
            self.assertAlmostEqual(value, wanted, places=5)

    def test_nothing_marked_drops_only_doubt(self):
        found = losses.mended(torch.tensor([0.01, 0.2, 0.4, 0.6]), self.BOXES, torch.zeros(0, 4))
        self.assertEqual([round(v, 2) for v in found.tolist()], [0.01, 0.0, 0.0, 0.6])


class Losses(unittest.TestCase):
    def test_score_loss_is_least_at_the_target(self):
        target = torch.tensor([[0.3]])
        at = [losses.score_loss(torch.logit(torch.tensor([[p]])), target).item() for p in (0.1, 0.3, 0.6)]
        self.assertLess(at[1], 1e-6)
        self.assertGreater(min(at[0], at[2]), 1e-3)

    def test_giou_of_same_and_of_disjoint_boxes(self):
        box = torch.tensor([[0.0, 0, 10, 10]])
        self.assertAlmostEqual(losses.giou(box, box).item(), 1.0, places=5)
        self.assertAlmostEqual(losses.giou(box, box + 20).item(), -(900 - 200) / 900, places=5)


class Pictures(unittest.TestCase):
    def test_box_moves_as_its_pixels_do(self):
        matrix = affine(2.0, 0.0, True, (5.0, 5.0), (50.0, 40.0))
        found = moved(numpy.array([[0.0, 0.0, 10.0, 20.0]], "f"), matrix)
        numpy.testing.assert_allclose(found, [[40.0, 30.0, 60.0, 70.0]], atol=1e-4)
        self.assertEqual(len(inside(found, 45)), 0)


class Network(unittest.TestCase):
    def test_maps_are_those_of_any_input_of_whole_strides(self):
        with torch.no_grad():
            levels = Detector().eval()(torch.zeros(1, 3, 96, 160))
        self.assertEqual(
            [tuple(m.shape[1:]) for level in levels for m in level],
            [(c, 96 // s, 160 // s) for s in maps.STRIDES_PX for c in (2, 8, 20)],
        )


if __name__ == "__main__":
    unittest.main()
