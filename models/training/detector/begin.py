"""Begins a training with what an exported detector has learnt, where there is no checkpoint of it any more.

    python begin.py --faces FACES --state STATE --from ../../starter/detector.onnx

A file with the second look in it has no points of the detector's own: their maps begin anew, the second look itself is not
read. Run it before train.py, and give that `--height 0.5` or so: a network that knows its trade is upset by the full rate.
"""

import argparse
import pathlib
import sys

import numpy
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from network import Detector
from pictures import Maker, crowd, normalised
from train import SIDE_PX, optimizers_of, save

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import normalisations  # noqa: E402

# Enough for means and deviations of each channel.
BATCHES, BATCH = 64, 8
# Larger differences of an output than this share of its deviation are not rounding.
DIFFERENCE_MAX = 0.01


def convolutions(network: Detector) -> list[str]:
    """The names of the network's convolutions in the order in which they run, which is that of an exported file."""
    order, names = [], {module: name for name, module in network.named_modules()}
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(lambda module, *_: order.append(names[module])) for module in convs]
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return order


@torch.no_grad()
def put_in(network: Detector, model: onnx.ModelProto):
    """Sets the weights. The offset of a convolution that has none becomes that of the normalisation behind it."""
    normalisations.silence(network)
    tensors = {tensor.name.removesuffix("_half"): numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "Conv" and not node.name.startswith("/look/")]
    names = convolutions(network)
    if len(nodes) == len(names) - len(network.heads):
        names = [name for name in names if not name.endswith(".maps.2")]
    assert len(nodes) == len(names)
    parts, modules = dict(network.named_parameters()), dict(network.named_modules())
    for name, node in zip(names, nodes):
        weight, bias = (torch.from_numpy(tensors[key].astype("f4")) for key in node.input[1:])
        before, _, place = name.rpartition(".")
        offset = f"{name}.bias" if modules[name].bias is not None else f"{before}.{int(place) + 1}.bias"
        for target, value in ((f"{name}.weight", weight), (offset, bias)):
            assert parts[target].shape == value.shape, target
            parts[target].copy_(value)


@torch.no_grad()
def outputs(network: Detector, pictures: torch.Tensor) -> list[torch.Tensor]:
    return [part for level in network(pictures) for part in level]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faces", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--from", dest="exported", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    path = arguments.state / "checkpoint.pt"
    if path.exists():
        raise SystemExit(f"{path} is there: train.py goes on from it")
    maker, random = Maker(list(crowd(arguments.faces, "training").values()), [], SIDE_PX), numpy.random.default_rng(5)
    made = numpy.stack([maker.crowded(random) for _ in range(BATCHES * BATCH)])
    pictures = torch.from_numpy(normalised(made)).contiguous(memory_format=torch.channels_last)
    # As train.py lays it out: the optimizer takes no other.
    network = Detector().eval().to(memory_format=torch.channels_last)
    put_in(network, onnx.load(arguments.exported))
    before = outputs(network, pictures[:BATCH])
    normalisations.restore(network, pictures.split(BATCH))
    differences = [((a - b).abs().max() / a.std()).item() for a, b in zip(before, outputs(network, pictures[:BATCH]))]
    if max(differences) > DIFFERENCE_MAX:
        raise SystemExit(f"the normalisations change outputs: by {max(differences):.4f} of their deviation")
    states = [optimizer.state_dict() for optimizer, _ in optimizers_of(network)]
    save(path, network=network.state_dict(), kept=network.state_dict(), optimizers=states, step=0, seconds=0.0)
    print(f"{path}: outputs within {max(differences):.6f} of their deviation")


if __name__ == "__main__":
    main()
