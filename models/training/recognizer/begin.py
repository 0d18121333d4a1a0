"""Begins a training with what an exported recogniser has learnt, where there is no checkpoint of it any more.

    python begin.py STATE --from ../../starter/recognizer.onnx

Run it once views.py has written STATE/targets.npy, and before train.py. An exported network has no normalisations: each is
put back so that it changes nothing on the training chips. The teacher's axes of this STATE may be others than those that the
network was trained on: its embeddings are turned onto them (Schönemann, "A generalized solution of the orthogonal
Procrustes problem", 1966), which leaves every cosine as it was.
"""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import torch
from network import Recognizer
from onnx import numpy_helper
from optimizer import MatrixAwareOptimizer
from people import People
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import normalisations  # noqa: E402

# Enough for means and deviations of each channel.
CHIPS = 4096


def read(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """The tensors of an exported network, by the names of the network's own."""
    tensors = {}
    for tensor in onnx.load(path).graph.initializer:
        name = tensor.name.removesuffix(".half")
        # The places' weights are the only tensor that the exporter names itself.
        name = "pool.weight" if name.startswith("onnx::Mul") else name
        tensors[name] = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
    return tensors


@torch.no_grad()
def put_in(network: Recognizer, tensors: dict[str, torch.Tensor]):
    """Sets the weights. A convolution's offset becomes that of a normalisation that does nothing else."""
    normalisations.silence(network)
    kept = network.state_dict()
    for name, value in tensors.items():
        convolution = name.removesuffix(".0.bias")
        target = f"{convolution}.1.bias" if name.endswith(".0.bias") else name
        assert kept[target].shape == value.shape, name
        kept[target].copy_(value)


@torch.no_grad()
def embed(network: Recognizer, pixels: torch.Tensor) -> torch.Tensor:
    """Unit-length embeddings."""
    return functional.normalize(torch.cat([network(part) for part in pixels.split(64)]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("state", type=pathlib.Path)
    arguments.add_argument("--from", dest="exported", type=pathlib.Path, required=True)
    arguments.add_argument("--name", default="recognizer")
    given = arguments.parse_args()
    path = given.state / f"{given.name}.pt"
    if path.exists():
        raise SystemExit(f"{path} is there: train.py goes on from it")
    people = People(given.state, "training")
    drawn = np.sort(np.random.default_rng(3).permutation(len(people.chips))[:CHIPS])
    pixels = torch.from_numpy(np.array(people.chips[drawn])).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
    # As train.py lays it out: the optimizer takes no other.
    network = Recognizer().eval().to(memory_format=torch.channels_last)
    put_in(network, read(given.exported))
    before = embed(network, pixels)
    normalisations.restore(network, pixels.split(64))
    same = (before * embed(network, pixels)).sum(1).min()
    if same < 0.9999:
        raise SystemExit(f"the normalisations change embeddings: smallest cosine {same:.6f}")
    targets = torch.from_numpy(np.load(given.state / "targets.npy")[drawn].astype(np.float32))
    left, _, right = torch.linalg.svd(targets.T @ before)
    turn = left @ right
    with torch.no_grad():
        network.embed.weight.copy_(turn @ network.embed.weight)
        network.embed.bias.copy_(turn @ network.embed.bias)
    after = (embed(network, pixels) * targets).sum(1).mean()
    kept = {"student": network.state_dict()}
    kept["optimizer"] = MatrixAwareOptimizer(network, 0.0).state_dict()
    torch.save(kept | {"smoothed": network.state_dict(), "step": 0}, path)
    print(f"{path}: smallest cosine to the exported network {same:.6f}, mean cosine to the teacher {after:.4f}")


if __name__ == "__main__":
    main()
