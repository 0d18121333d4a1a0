"""Tests of what a training would not notice: `python -m unittest` in this folder. They need no photos."""

import pathlib
import tempfile
import unittest

import numpy
import onnxruntime
import torch

import candidates
import crops
import export
import leaks
import look
import losses
import maps
from network import Detector
from pictures import affine, inside, moved, normalised, part


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


class Looked(unittest.TestCase):
    """The second look in the file, beside the same in PyTorch, with weights by chance."""

    def compared(self, bias, size):
        torch.manual_seed(3)
        detector = Detector()
        for head in detector.heads:
            torch.nn.init.constant_(head.maps[0].bias, bias)
            torch.nn.init.normal_(head.maps[0].weight, std=0.5)
        looked = look.Looked(detector, look.Look()).eval()
        torch.nn.init.normal_(looked.look.answers.weight, std=0.3)
        session = onnxruntime.InferenceSession(export.exported(looked).SerializeToString(), providers=["CPUExecutionProvider"])
        x = torch.randn(1, 3, *size, generator=torch.manual_seed(4))
        with torch.no_grad():
            return [values.numpy() for values in looked(x)], session.run(None, {"input": x.numpy()})

    def test_file_computes_what_the_network_does(self):
        wanted, found = self.compared(0.0, (96, 160))
        self.assertEqual([values.shape for values in found], [(2 * 96 * 160 // s // s, n) for n in (1, 4, 10) for s in maps.STRIDES_PX])
        faces = sum(int((scores > 0).sum()) for scores in found[:3])
        self.assertGreater(faces, 10)
        self.assertLessEqual(faces, look.CANDIDATES_MAX)
        for a, b in zip(wanted, found):
            # Some hundred products of single precision.
            numpy.testing.assert_allclose(b, a, atol=1e-3)

    def test_picture_without_candidates_has_no_face(self):
        _, found = self.compared(-20.0, (64, 64))
        self.assertEqual(max(scores.max() for scores in found[:3]), 0.0)

    def test_mirror_image_is_turned_back(self):
        answers = torch.tensor([1.0, 3.0, 5.0]), torch.zeros(3, 4), torch.zeros(3, 10)
        answers[1][1:] = torch.tensor([[-0.4, -0.5, 0.3, 0.5], [-0.3, -0.5, 0.4, 0.5]])
        answers[2][1, :4] = torch.tensor([-0.2, -0.1, 0.1, -0.1])
        answers[2][2, :4] = torch.tensor([-0.1, -0.1, 0.2, -0.1])
        logits, boxes, points = look.joined(answers, 2, 1)
        self.assertEqual(logits.tolist(), [1.0, 4.0])
        for found, wanted in ((boxes[1], answers[1][1]), (points[1], answers[2][1])):
            torch.testing.assert_close(found, wanted)

    def test_anchor_lies_where_the_engine_has_it(self):
        """The second anchor of the cell at column 3, line 2 of stride 16, in a picture of 128 by 64."""
        row = 8 * 16 * 2 + (2 * 8 + 3) * 2 + 1
        origins, strides = look.anchors(torch.tensor([row]), [8 * 16 * 2, 4 * 8 * 2, 2 * 4 * 2], 128)
        self.assertEqual((origins.tolist(), strides.tolist()), ([[48.0, 32.0]], [[16.0]]))


class Crops(unittest.TestCase):
    def test_crop_of_training_is_that_of_the_engine(self):
        picture = numpy.random.default_rng(1).integers(0, 256, (160, 200, 3)).astype("u1")
        for side in (31.0, 120.0):
            crop = crops.square(picture, numpy.array([101.3, 80.2]), side)
            centres, sides = torch.tensor([[101.3, 80.2]]), torch.tensor([[side]])
            _, found, _ = look.cut(torch.from_numpy(normalised(picture[None])), centres, sides)
            # OpenCV's places are multiples of 1/32 pixel.
            self.assertLess(numpy.abs(normalised(crop[None]) - found.numpy()).mean(), 0.02)

    def test_mirrored_targets_lie_on_mirrored_pixels(self):
        """A dot for each eye: the left one of the mirrored crop is the right one of the picture."""
        picture = numpy.zeros((100, 100, 3), "u1")
        picture[40, 30], picture[44, 70] = (255, 0, 0), (0, 255, 0)
        row = numpy.zeros(24, "f")
        row[crops.POINTS] = [30.5, 40.5, 70.5, 44.5, 50, 55, 35, 70, 65, 70]
        for degrees, mirrored in ((0, True), (30, False), (20, True)):
            crop = crops.square(picture, numpy.array([50.0, 50.0]), 48.0, degrees, mirrored)
            points = crops.targets_in(row, numpy.array([50.0, 50.0]), 48.0, degrees, mirrored)[7:17].reshape(5, 2)
            for point, channel in zip(points[:2], (1, 0) if mirrored else (0, 1)):
                line, column = numpy.unravel_index(crop[..., channel].argmax(), crop.shape[:2])
                numpy.testing.assert_allclose((point + 0.5) * look.SIDE_PX, [column + 0.5, line + 0.5], atol=1.0)


class Judged(unittest.TestCase):
    TAUGHT = (numpy.array([0.9, 0.4]), numpy.array([[0.0, 0, 10, 10], [50, 50, 60, 60]], "f"), numpy.zeros((2, 10), "f"))

    def test_face_is_what_is_marked_or_what_the_teacher_is_sure_of(self):
        boxes = numpy.array([[0, 0, 10, 11], [50, 50, 60, 61], [80, 80, 90, 90], [200, 200, 210, 210]], "f")
        rows = candidates.judged(boxes, numpy.array([[80.0, 80, 90, 90]], "f"), self.TAUGHT)
        numpy.testing.assert_allclose(rows[:, 0], [1.0, 0.4, candidates.SCORE_UNSEEN, 0.0], atol=1e-6)
        self.assertEqual(rows[:, 1].tolist(), [1.0] * 4)
        # Points only of faces that the teacher sees.
        numpy.testing.assert_allclose(rows[:, -1], [0.9, 0.4, 0.0, 0.0], atol=1e-6)

    def test_boxes_turn_as_their_picture_does(self):
        picture = numpy.zeros((6, 9), "u1")
        picture[1:3, 2:7] = 1
        for times in range(4):
            lines, columns = numpy.nonzero(numpy.rot90(picture, times))
            found = candidates.turned_boxes([[2, 1, 7, 3]], (9, 6), times)
            self.assertEqual(found[0].tolist() if times else found[0], [columns.min(), lines.min(), columns.max() + 1, lines.max() + 1])


if __name__ == "__main__":
    unittest.main()
