"""Makes faces that never were, has the teacher look at them, and keeps both for training.

    python views.py STATE --models MODELS --count 250000

Writes STATE/targets.npy (the teacher's embeddings of the real training chips), STATE/validation-targets.npy,
STATE/axes.npy (see teacher.py), and STATE/views/: `faces.u8` and `targets.f16`, grown a block at a time. Goes on where
it was broken off; may run beside a training, which takes what there is.
"""

import argparse
import os
import pathlib

import cv2
import numpy as np
from faces import compose
from people import People
from teacher import LENGTH, Teacher, principal_axes, unit

BLOCK = 512
# Composed faces that the axes are fitted to, beside the real ones.
AXES_FACES = 2048


def embed_real(state: pathlib.Path, teacher: Teacher, people: People) -> np.ndarray:
    """Embeds the real chips and fits the axes, unless an earlier run did."""
    if not (state / "axes.npy").exists():
        training = teacher.embed(people.chips)
        random, odds = np.random.default_rng(0), people.odds()
        composed = np.stack([compose(random, people.chips, odds) for _ in range(AXES_FACES)])
        axes = principal_axes(np.concatenate([training, teacher.embed(composed)])).astype(np.float32)
        np.save(state / "targets.npy", unit(training @ axes).astype(np.float16))
        validation = teacher.embed(np.load(state / "validation.npy"))
        np.save(state / "validation-targets.npy", unit(validation @ axes).astype(np.float16))
        np.save(state / "axes.npy", axes)
        print(f"the axes keep {np.square(training @ axes).sum() / len(training):.4f} of the real faces' embeddings", flush=True)
    return np.load(state / "axes.npy")


def grow(folder: pathlib.Path, count: int, people: People, label) -> None:
    """Appends blocks of faces and targets. A block counts once its targets are there, so they are written last."""
    folder.mkdir(exist_ok=True)
    chips, odds = np.array(people.chips), people.odds()
    with open(folder / "faces.u8", "ab") as faces, open(folder / "targets.f16", "ab") as targets:
        done = os.path.getsize(targets.name) // (2 * LENGTH * BLOCK)
        faces.truncate(done * BLOCK * chips[0].size)
        targets.truncate(done * BLOCK * LENGTH * 2)
        for block in range(done, -(-count // BLOCK)):
            # The block's number is its seed: a run that was broken off makes the faces that it would have made.
            random = np.random.default_rng([1, block])
            made = np.stack([compose(random, chips, odds) for _ in range(BLOCK)])
            faces.write(made.tobytes())
            faces.flush()
            targets.write(label(made).astype(np.float16).tobytes())
            targets.flush()
            if block % 10 == 0:
                print(f"{(block + 1) * BLOCK} faces", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("state", type=pathlib.Path)
    arguments.add_argument("--models", type=pathlib.Path, required=True)
    arguments.add_argument("--count", type=int, default=250_000)
    given = arguments.parse_args()
    # One thread: training runs beside.
    cv2.setNumThreads(0)
    teacher = Teacher(given.models)
    people = People(given.state, "training")
    axes = embed_real(given.state, teacher, people)
    grow(given.state / "views", given.count, people, lambda made: unit(teacher.embed(made) @ axes))


if __name__ == "__main__":
    main()
