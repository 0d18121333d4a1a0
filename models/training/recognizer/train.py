"""Trains the recogniser: the student learns to see faces as the teacher does, and to tell the training people apart.

    torchrun --nproc-per-node 2 train.py STATE --steps 10000

Goes on from its last checkpoint, STATE/NAME.pt, when run again. One process a core, each with one thread: they meet
once a step, so a busy machine slows them down and does not stall them. The smoothed weights in the checkpoint are
usable at any time; the last third of the steps, in which the learning rate falls, makes them better still.
"""

import argparse
import math
import os
import pathlib
import time

import numpy as np
import torch
from arcface import arcface_loss
from data import Batches
from measure import error_rates
from network import Recognizer
from optimizer import MatrixAwareOptimizer
from people import People
from torch import distributed, nn
from torch.nn import functional
from torch.utils.data import DataLoader

# What each loss weighs. Relations are squares of differences of cosines: small numbers.
RELATIONS_WEIGHT = 20.0
ARCFACE_WEIGHT = 0.05
WARM_STEPS = 300
# Of the steps: how many of the last see a falling rate.
FALL_SHARE = 0.3
SMOOTHING = 0.999
CHECKPOINT_EVERY_S = 180


class Student(nn.Module):
    """The network, and the centres of the training people's classes: the teacher's, so that both losses pull the same
    way. Centres that learn drift off while most people are seen once in a thousand faces."""

    def __init__(self, centres: np.ndarray):
        super().__init__()
        self.network = Recognizer()
        self.register_buffer("centres", functional.normalize(torch.from_numpy(centres)), persistent=False)

    def forward(self, chips, targets, labels):
        with torch.autocast(chips.device.type, torch.bfloat16):
            embeddings = self.network(chips)
        embeddings = functional.normalize(embeddings.float())
        nearness = 1 - (embeddings * targets).sum(1).mean()
        apart = ~torch.eye(len(chips), dtype=torch.bool, device=chips.device)
        relations = (embeddings @ embeddings.T - targets @ targets.T)[apart].square().mean()
        known = labels >= 0
        cosines = embeddings[known] @ self.centres.T
        return nearness, relations, arcface_loss(cosines, labels[known])


def learning_rate(step: int, steps: int) -> float:
    """The share of the full rate: rises, stays, falls to nothing along a cosine."""
    left = (steps - step) / (steps * FALL_SHARE)
    return min(1.0, (step + 1) / WARM_STEPS) * (0.5 - 0.5 * math.cos(math.pi * min(1.0, left)))


class Training:
    """All that a checkpoint holds."""

    def __init__(self, given, device: torch.device):
        self.given, self.device = given, device
        people = People(given.state, "training")
        centres = people.centres(np.load(given.state / "targets.npy").astype(np.float32))
        self.student = Student(centres).to(device, memory_format=torch.channels_last)
        self.optimizer = MatrixAwareOptimizer(self.student.network, given.rate)
        self.smoothed = {name: value.clone() for name, value in self.student.network.state_dict().items()}
        self.step = 0
        self.path = given.state / f"{given.name}.pt"
        self.validation = People(given.state, "validation")
        self.validation_targets = np.load(given.state / "validation-targets.npy").astype(np.float32)

    def load(self):
        """Goes on from the last checkpoint, where there is one."""
        if self.path.exists():
            kept = torch.load(self.path, map_location=self.device)
            self.student.network.load_state_dict(kept["student"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.smoothed, self.step = kept["smoothed"], kept["step"]

    def save(self):
        """Replaces the checkpoint; a crash leaves the old one."""
        kept = {"student": self.student.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(kept | {"smoothed": self.smoothed, "step": self.step}, f"{self.path}.new")
        os.replace(f"{self.path}.new", self.path)

    def smooth(self):
        """Moves the smoothed weights a little towards the newest; faster in the beginning."""
        share = min(SMOOTHING, (1 + self.step) / (10 + self.step))
        for name, value in self.student.network.state_dict().items():
            if value.is_floating_point():
                self.smoothed[name].lerp_(value, 1 - share)

    def measure(self) -> str:
        """How the smoothed weights do on the validation people."""
        network = Recognizer().to(self.device).eval()
        network.load_state_dict(self.smoothed)
        pixels = (torch.from_numpy(np.array(self.validation.chips)).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        with torch.no_grad():
            embeddings = torch.cat([network(part.to(self.device)) for part in pixels.split(64)]).float().cpu()
        embeddings = functional.normalize(embeddings).numpy()
        fnmr_1e_2, fnmr_1e_3, accuracy = error_rates(embeddings, self.validation.names)
        cosine = (embeddings * self.validation_targets).sum(1).mean()
        return f"cosine {cosine:.4f} FNMR@1e-2 {fnmr_1e_2:.4f} @1e-3 {fnmr_1e_3:.4f} accuracy {accuracy:.4f}"


def run(training: Training, rank: int, processes: int):
    """Trains to the last step."""
    given, device = training.given, training.device
    batches = Batches(given.state, given.batch // processes, training.step, rank)
    # The faces are degraded in a process of their own.
    batches = iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8))
    student = nn.parallel.DistributedDataParallel(training.student) if processes > 1 else training.student
    student.train()
    sums, steps, began = torch.zeros(3), 0, time.monotonic()
    saved = began
    while training.step < given.steps:
        training.optimizer.set_rate(given.rate * learning_rate(training.step, given.steps))
        chips, targets, labels = (part.to(device) for part in next(batches))
        losses = student(chips.contiguous(memory_format=torch.channels_last), targets, labels)
        (losses[0] + RELATIONS_WEIGHT * losses[1] + ARCFACE_WEIGHT * losses[2]).backward()
        training.optimizer.step()
        training.step += 1
        training.smooth()
        sums += torch.stack(losses).detach().cpu()
        steps += 1
        if training.step % 100 == 0 and rank == 0:
            pace = steps * given.batch / (time.monotonic() - began)
            nearness, relations, arcface = (sums / steps).tolist()
            print(f"{training.step} {pace:.0f}/s nearness {nearness:.4f} relations {relations:.5f} arcface {arcface:.3f}", flush=True)
            sums, steps, began = torch.zeros(3), 0, time.monotonic()
        is_due = time.monotonic() - saved > CHECKPOINT_EVERY_S or training.step == given.steps
        if rank == 0 and is_due:
            training.save()
            print(f"{training.step} validation: {training.measure()}", flush=True)
            saved = time.monotonic()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("state", type=pathlib.Path)
    arguments.add_argument("--name", default="recognizer")
    arguments.add_argument("--steps", type=int, default=12_000)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--rate", type=float, default=2e-3)
    given = arguments.parse_args()
    processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if processes > 1:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo")
    torch.manual_seed(1)
    training = Training(given, device)
    training.load()
    run(training, rank, processes)


if __name__ == "__main__":
    main()
