"""The teacher: several recognisers as one.

Each network's embeddings are scaled to unit length and laid end to end, so that the cosine of two faces is the mean of
the networks' cosines: they err on different pairs. A rotation fitted to many faces (principal axes, without moving the
origin) keeps 512 of the values, which keeps the cosines.
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

# File, mean and deviation that its input is scaled by, on the scale of 8-bit pixels. Their licences let anybody do
# anything with what is learnt from them: BSD-3-Clause (EdgeFace), Apache-2.0 (foamliu's MobileFaceNet).
NETWORKS = [
    ("edgeface_xs_512.onnx", 127.5, 127.5),
    ("edgeface_xxs_512.onnx", 127.5, 127.5),
    ("foamliu_mobilefacenet_128_b1.onnx", np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])),
]
LENGTH = 512


def without_prelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrites each PRelu as `slope * x + (1 - slope) * Relu(x)`: the same, and twice as fast on a CPU."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "PRelu":
            nodes.append(node)
            continue
        values, slope, result = node.input[0], node.input[1], node.output[0]
        rest = numpy_helper.from_array(1 - numpy_helper.to_array(weights[slope]), f"{result}.rest")
        model.graph.initializer.append(rest)
        nodes += [
            helper.make_node("Relu", [values], [f"{result}.relu"]),
            helper.make_node("Mul", [f"{result}.relu", rest.name], [f"{result}.above"]),
            helper.make_node("Mul", [values, slope], [f"{result}.below"]),
            helper.make_node("Add", [f"{result}.above", f"{result}.below"], [result]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


class Network:
    """One of the recognisers."""

    def __init__(self, path: pathlib.Path, mean, deviation, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        model = without_prelu(onnx.load(path)).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.mean, self.deviation = mean, deviation

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Unit-length embeddings of uint8 RGB chips `[n, 112, 112, 3]`."""
        pixels = ((chips - self.mean) / self.deviation).astype(np.float32).transpose(0, 3, 1, 2)
        at_once = 1 if self.input.shape[0] == 1 else 8
        parts = [pixels[start : start + at_once] for start in range(0, len(pixels), at_once)]
        embeddings = np.concatenate([self.session.run(None, {self.input.name: part})[0] for part in parts])
        return unit(embeddings)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors to unit length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Teacher:
    """The networks together."""

    def __init__(self, models: pathlib.Path, threads: int = 1):
        self.networks = [Network(models / name, mean, deviation, threads) for name, mean, deviation in NETWORKS]

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """All networks' embeddings of chips, end to end, together of unit length."""
        return np.concatenate([network.embed(chips) for network in self.networks], axis=1) / np.sqrt(len(self.networks))


def principal_axes(embeddings: np.ndarray) -> np.ndarray:
    """The rotation `[length, LENGTH]` onto the axes that keep most of what embeddings of many faces differ in."""
    _, axes = np.linalg.eigh(embeddings.T @ embeddings)
    return np.ascontiguousarray(axes[:, ::-1][:, :LENGTH])
