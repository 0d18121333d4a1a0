"""The teacher: SCRFD-2.5g from its ONNX file, run by PyTorch so that a batch of crops costs little.

InsightFace's file takes one picture at a time and flattens its maps. Read as a graph of convolutions and stopped before
the flattening, it takes a batch in bfloat16 and gives its maps as they are: the same layout as the student's.
"""

import pathlib

import numpy
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

STRIDES_PX = (8, 16, 32)
# What the maps of one stride hold for each of two anchors: a logit, four distances, five points.
MAP_CHANNELS = (2, 8, 20)


class Teacher(nn.Module):
    """*Shape*: `[n, 3, height, width]`, RGB (x - 127.5) / 128, to three strides of (logits, boxes, points) maps."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        graph = onnx.load(path).graph
        tensors = {tensor.name: torch.from_numpy(numpy.array(numpy_helper.to_array(tensor))) for tensor in graph.initializer}
        self.input = graph.input[0].name
        self.steps, self.maps = [], []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Transpose":
                self.maps.append(node.input[0])
            elif node.op_type in ("Conv", "Relu", "Add", "Mul", "AveragePool", "MaxPool", "Resize"):
                self.steps.append((node.op_type, list(node.input), node.output[0], attributes))
        # In the file the maps come stride by stride; two transposed names are enough to tell a file that is not so.
        channels = [tensors[s[1][1]].shape[0] for name in self.maps for s in self._made(name, tensors)]
        if channels != list(MAP_CHANNELS) * len(STRIDES_PX):
            raise ValueError(f"{path}: expected SCRFD's maps {MAP_CHANNELS}, found {channels}")
        for name in {i for _, inputs, _, _ in self.steps for i in inputs if i in tensors}:
            self.register_buffer(self._key(name), tensors[name])

    def _made(self, name, tensors):
        """The convolution that made a map, also through the scale that SCRFD learns for its boxes."""
        step = next(s for s in self.steps if s[2] == name)
        if step[0] == "Conv":
            return [step]
        return self._made(next(i for i in step[1] if i not in tensors), tensors)

    @staticmethod
    def _key(name):
        return "t_" + "".join(c if c.isalnum() else "_" for c in name)

    @torch.no_grad()
    def forward(self, pictures):
        values = {self.input: pictures}

        def get(name):
            return values[name] if name in values else getattr(self, self._key(name))

        for kind, inputs, output, attributes in self.steps:
            x = get(inputs[0])
            if kind == "Conv":
                values[output] = functional.conv2d(
                    x, get(inputs[1]), get(inputs[2]), attributes["strides"], attributes["pads"][:2], groups=attributes["group"]
                )
            elif kind == "Relu":
                values[output] = functional.relu(x)
            elif kind == "Add":
                values[output] = x + get(inputs[1])
            elif kind == "Mul":
                values[output] = x * get(inputs[1])
            elif kind == "Resize":
                values[output] = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            elif kind == "MaxPool":
                values[output] = functional.max_pool2d(
                    x, attributes["kernel_shape"], attributes["strides"], attributes["pads"][0], ceil_mode=bool(attributes.get("ceil_mode"))
                )
            else:
                values[output] = functional.avg_pool2d(
                    x, attributes["kernel_shape"], attributes["strides"], ceil_mode=bool(attributes.get("ceil_mode")), count_include_pad=False
                )
        maps = [values[name].float() for name in self.maps]
        return [tuple(maps[3 * level : 3 * level + 3]) for level in range(len(STRIDES_PX))]
