"""Faces of photos: where they are, and what a strong recogniser says of them. Colours are RGB throughout."""

import pathlib

import cv2
import numpy
import onnxruntime

# ArcFace's five landmarks in its 112x112 chip: eyes, nose, corners of the mouth, the person's right first.
CHIP = numpy.float32(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Detector:
    """SCRFD with free height and width, as InsightFace ships it."""

    def __init__(self, path: pathlib.Path):
        self.session = session(path)

    def faces(self, photo: numpy.ndarray, score_min: float = 0.5) -> list[tuple[float, numpy.ndarray, numpy.ndarray]]:
        """Score, box `[4]` and landmarks `[5, 2]` in pixels of each face, the best first."""
        height, width = photo.shape[:2]
        padded = numpy.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), numpy.float32)
        padded[:height, :width] = photo
        tensor = ((padded - 127.5) / 128).transpose(2, 0, 1)[None]
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: tensor})
        boxes, scores, points = [], [], []
        for level, stride in enumerate((8, 16, 32)):
            rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
            grid = numpy.stack(numpy.meshgrid(range(columns), range(rows)), -1).reshape(-1, 2) * stride
            centres = numpy.repeat(grid, 2, axis=0).astype(numpy.float32)
            score, box, point = (outputs[level + 3 * kind] for kind in range(3))
            kept = score[:, 0] >= score_min
            sides = box[kept] * stride
            boxes.append(numpy.hstack([centres[kept] - sides[:, :2], centres[kept] + sides[:, 2:]]))
            points.append(centres[kept][:, None] + point[kept].reshape(-1, 5, 2) * stride)
            scores.append(score[kept, 0])
        boxes, scores, points = map(numpy.concatenate, (boxes, scores, points))
        corners = numpy.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        chosen = cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), score_min, 0.4)
        return [(float(scores[at]), boxes[at], points[at]) for at in numpy.asarray(chosen, int).ravel()]


class Recognizer:
    """A recogniser of 112x112 chips."""

    def __init__(self, path: pathlib.Path):
        self.session = session(path)

    def embed(self, photo: numpy.ndarray, landmarks: numpy.ndarray) -> numpy.ndarray:
        """The template `[512]`, of length 1, of the face with these landmarks."""
        chip = cv2.warpAffine(photo, similarity(landmarks, CHIP), (112, 112))
        tensor = ((chip.astype(numpy.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]
        (embedding,) = self.session.run(None, {self.session.get_inputs()[0].name: tensor})
        return embedding[0] / numpy.linalg.norm(embedding[0])


def similarity(source: numpy.ndarray, target: numpy.ndarray) -> numpy.ndarray:
    """The 2x3 matrix of the turn, scale and shift that takes points nearest to others (Umeyama, least squares)."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    # As complex numbers, a turn with a scale is one factor.
    a, b = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    factor = (a.conj() @ b) / (a.conj() @ a).real
    matrix = numpy.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return numpy.hstack([matrix, (target_mean - matrix @ source_mean)[:, None]])


def load(path: pathlib.Path) -> numpy.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
