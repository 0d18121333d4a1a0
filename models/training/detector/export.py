"""Writes the trained detector as ONNX in the layout of InsightFace's files, with weights of half precision.

    python export.py --state STATE --look LOOK --out ../../starter/detector.onnx [--photos PHOTO…]

Without `--look`, the detector alone. On noise there is nothing to look at a second time: that is compared on photos.
"""

import argparse
import io
import pathlib

import numpy
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import nn

import pictures
from look import Look, Looked
from network import Detector

OPSET = 17
# Larger differences between the network here and the file are not rounding.
SCORE_TOLERANCE, LENGTH_TOLERANCE, LONE_TOLERANCE = 0.01, 0.05, 0.01


class Flattened(nn.Module):
    """The detector with its maps as InsightFace flattens them: scores of the three strides, then boxes, then points."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, x):
        levels = self.detector(x)
        flat = [[m.permute(0, 2, 3, 1).reshape(-1, size) for m, size in zip(level, (1, 4, 10))] for level in levels]
        return [score.sigmoid() for score, _, _ in flat] + [box for _, box, _ in flat] + [points for _, _, points in flat]


def exported(network):
    """The network as an ONNX model of single precision, its batch norms folded away."""
    names = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32)]
    axes = {"input": {2: "height", 3: "width"}, **{name: {0: f"anchors_{name}"} for name in names}}
    file = io.BytesIO()
    torch.onnx.export(
        network, torch.zeros(1, 3, 320, 256), file, input_names=["input"], output_names=names, dynamic_axes=axes,
        opset_version=OPSET, dynamo=False,
    )
    model = onnx.load_from_string(file.getvalue())
    for output, size in zip(model.graph.output, numpy.repeat((1, 4, 10), 3)):
        output.type.tensor_type.shape.dim[1].dim_value = int(size)
    return model


def halve(model):
    """Stores large weights in half precision; a cast brings them back once, when the file is loaded."""
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != numpy.float32 or values.size < 64:
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(values.astype("f2"), tensor.name + "_half"))
        casts.append(helper.make_node("Cast", [tensor.name + "_half"], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = casts + list(model.graph.node)
    for field, values in (("initializer", kept), ("node", nodes)):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    onnx.checker.check_model(model, full_check=True)


def compare(network, path, photos=()):
    """Runs both on noise of three sizes and on photos; the largest differences of a score and of a length in strides, and the
    share of faces that only one of them has: a score on the limit is a matter of rounding."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    sizes = ((640, 448), (128, 128), (96, 256))
    inputs = [torch.randn(1, 3, *size, generator=torch.manual_seed(size[0])) for size in sizes]
    inputs += [torch.from_numpy(pictures.normalised(pictures.canvas(pictures.read(photo), 640)[0][None])) for photo in photos]
    differences, faces, lone = numpy.zeros(2), 0, 0
    for x in inputs:
        with torch.no_grad():
            wanted = [output.numpy() for output in network(x)]
        found = session.run(None, {"input": x.numpy()})
        for level in range(3):
            same = ((wanted[level] > 0) == (found[level] > 0))[:, 0]
            faces, lone = faces + int((wanted[level] > 0).sum()), lone + int((~same).sum())
            for row in range(level, 9, 3):
                far = numpy.abs(wanted[row] - found[row])[same].max()
                differences[int(row > 2)] = max(differences[int(row > 2)], far)
    return *differences, lone / max(faces, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--look", type=pathlib.Path, help="the STATE of train_look.py")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--photos", type=pathlib.Path, nargs="*", default=[])
    arguments = parser.parse_args()
    detector = Detector()
    detector.load_state_dict(torch.load(arguments.state / "checkpoint.pt", map_location="cpu")["kept"])
    network = Flattened(detector).eval()
    if arguments.look:
        look = Look()
        look.load_state_dict(torch.load(arguments.look / "look.pt", map_location="cpu")["kept"])
        network = Looked(detector, look).eval()
    model = exported(network)
    halve(model)
    onnx.save(model, arguments.out)
    score, length, lone = compare(network, arguments.out, arguments.photos)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, scores within {score:.5f}, lengths within {length:.4f} strides")
    print(f"{lone:.4f} of the faces looked at in one of them only")
    if score > SCORE_TOLERANCE or length > LENGTH_TOLERANCE or lone > LONE_TOLERANCE:
        raise SystemExit("the file does not compute what the network does")


if __name__ == "__main__":
    main()
