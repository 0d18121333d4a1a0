"""Writes the trained detector as ONNX in the layout of InsightFace's files, with weights of half precision.

    python export.py --state STATE --out ../../starter/detector.onnx
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

from network import Detector

OPSET = 17
# Larger differences between the network here and the file are not rounding.
SCORE_TOLERANCE, LENGTH_TOLERANCE = 0.01, 0.05


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


def compare(network, path):
    """Runs both on noise of three sizes; the largest differences of a score and of a length in strides."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = numpy.zeros(2)
    for height, width in ((640, 448), (128, 128), (96, 256)):
        x = torch.randn(1, 3, height, width, generator=torch.manual_seed(height))
        with torch.no_grad():
            wanted = [output.numpy() for output in network(x)]
        found = session.run(None, {"input": x.numpy()})
        for row, (a, b) in enumerate(zip(wanted, found)):
            differences[int(row > 2)] = max(differences[int(row > 2)], numpy.abs(a - b).max())
    return differences


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    detector = Detector()
    detector.load_state_dict(torch.load(arguments.state / "checkpoint.pt", map_location="cpu")["kept"])
    network = Flattened(detector).eval()
    model = exported(network)
    halve(model)
    onnx.save(model, arguments.out)
    score, length = compare(network, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, scores within {score:.5f}, lengths within {length:.4f} strides")
    if score > SCORE_TOLERANCE or length > LENGTH_TOLERANCE:
        raise SystemExit("the file does not compute what the network does")


if __name__ == "__main__":
    main()
