"""Writes a training's smoothed weights as an ONNX file with 16-bit weights, and checks that it computes the same.

    python export.py STATE --name recognizer --out ../../starter/recognizer.onnx

Weights are stored in half precision and cast back when the file is loaded (ONNX Runtime does it once): half the bytes,
and all arithmetic stays 32-bit, so it costs the same everywhere.
"""

import argparse
import io
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch
from network import CHIP_SIDE_PX, Recognizer
from onnx import TensorProto, helper, numpy_helper
from people import People
from torch.nn.utils.fusion import fuse_conv_bn_eval

OPSET = 17
# Smaller tensors (offsets) stay as they are: they weigh nothing.
HALVED_VALUES_MIN = 1024
COSINE_MIN = 0.9999


@torch.no_grad()
def folded(network: Recognizer) -> Recognizer:
    """Folds each batch normalisation into the weights before it, the last one's offset into those behind."""
    for module in list(network.modules()):
        if isinstance(module, torch.nn.Sequential) and len(module) == 2 and isinstance(module[1], torch.nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), torch.nn.Identity()
    pool, scale = network.pool, network.pool.scale
    gain = scale.weight / (scale.running_var + scale.eps).sqrt()
    network.embed.bias.data += network.embed.weight @ (scale.bias - scale.running_mean * gain)
    pool.weight.data *= gain[:, None, None]
    pool.scale = torch.nn.Identity()
    return network


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores large weights in half precision, each with a cast back."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= HALVED_VALUES_MIN:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def written(network: Recognizer) -> onnx.ModelProto:
    """The network as ONNX: `chips [n, 3, 112, 112]` to `embeddings [n, 512]`, any n."""
    file = io.BytesIO()
    torch.onnx.export(
        network,
        torch.zeros(1, 3, CHIP_SIDE_PX, CHIP_SIDE_PX),
        file,
        input_names=["chips"],
        output_names=["embeddings"],
        dynamic_axes={"chips": {0: "n"}, "embeddings": {0: "n"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("state", type=pathlib.Path)
    arguments.add_argument("--name", default="recognizer")
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    given = arguments.parse_args()
    kept = torch.load(given.state / f"{given.name}.pt", map_location="cpu")
    network = Recognizer().eval()
    network.load_state_dict(kept["smoothed"])
    chips = np.array(People(given.state, "validation").chips).transpose(0, 3, 1, 2).astype(np.float32)
    chips = (chips - 127.5) / 127.5
    with torch.no_grad():
        expected = network(torch.from_numpy(chips)).numpy()
    model = halved(written(folded(network)))
    onnx.checker.check_model(model, full_check=True)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"chips": chips})[0]
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosine = ((expected * found).sum(1) / norms).min()
    if cosine < COSINE_MIN:
        raise SystemExit(f"smallest cosine to the trained network {cosine:.6f}, less than {COSINE_MIN}")
    onnx.save(model, given.out)
    print(f"{given.out}: {given.out.stat().st_size} bytes, step {kept['step']}, smallest cosine to the trained network {cosine:.7f}")


if __name__ == "__main__":
    main()
