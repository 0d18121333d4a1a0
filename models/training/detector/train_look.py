"""Trains the second look on what candidates.py made; run again, it goes on where it stopped.

    python train_look.py --lessons LOOK --state LOOK [--steps 20000]
"""

import argparse
import copy
import json
import pathlib
import time

import cv2
import numpy
import torch
from torch.nn import functional

import crops
from look import Look
from muon import Muon
from train import average, prepared, rate, record, restored, save

BATCH = 128
RATE_INNER, RATE_OTHERS = 0.02, 2e-3
SAVE_SECONDS = 180
BOX_WEIGHT, POINT_WEIGHT = 4.0, 20.0
# Beyond this share of a square's side an error counts in proportion; a landmark's bar is .009 of it.
BOX_BEND, POINT_BEND = 0.02, 0.003
# Validation: recall of the candidates that are faces at which false ones are counted.
RECALL = 0.9


def losses(answers, targets):
    """Losses of scores, boxes and points."""
    logits, boxes, points = (part.float() for part in answers)
    score, score_weight, box, box_weight, point, point_weight = targets.split([1, 1, 4, 1, 10, 1], 1)
    surprise = functional.binary_cross_entropy_with_logits(logits[:, None], score, reduction="none")
    return (
        (surprise * score_weight).sum() / score_weight.sum().clamp(min=1),
        weighted(boxes, box, box_weight, BOX_BEND),
        weighted(points, point, point_weight, POINT_BEND),
    )


def weighted(found, wanted, weights, bend):
    distance = functional.smooth_l1_loss(found, wanted, reduction="none", beta=bend).mean(1, keepdim=True)
    return (distance * weights).sum() / weights.sum().clamp(min=1)


def answers_to(network, lessons, rows):
    """What the network says of candidates as the engine cuts them, and their targets."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), 256):
            pictures, targets = lessons.batch(rows[start : start + 256])
            parts.append((*network(prepared(pictures)), torch.from_numpy(targets)))
    return [torch.cat(part).numpy() for part in zip(*parts)]


def validated(network, lessons):
    """Landmarks off in eye distances (median, sure faces), and false candidates at a recall of marked ones."""
    _, _, points, targets = answers_to(network, lessons["portraits"], numpy.arange(len(lessons["portraits"].rows)))
    sure = targets[:, -1] > 0.5
    found, wanted = points[sure].reshape(-1, 5, 2), targets[sure, 7:17].reshape(-1, 5, 2)
    eyes = numpy.linalg.norm(wanted[:, 1] - wanted[:, 0], axis=1)
    off = numpy.linalg.norm(found - wanted, axis=2).mean(1) / eyes
    logits, boxes, _, targets = answers_to(network, lessons["crowds"], numpy.arange(len(lessons["crowds"].rows)))
    faces = numpy.sort(logits[targets[:, 0] == 1])
    limit = faces[int((1 - RECALL) * len(faces))]
    false = logits[(targets[:, 0] == 0) & (targets[:, 1] == 1)]
    return {
        "landmarks": round(float(numpy.median(off)) * 100, 2),
        "landmarks_95": round(float(numpy.quantile(off, 0.95)) * 100, 2),
        "false": int((false >= limit).sum()),
        "score_at_recall": round(float(1 / (1 + numpy.exp(-limit))), 3),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lessons", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.manual_seed(11)
    network = Look().to(memory_format=torch.channels_last)
    kept = copy.deepcopy(network).eval()
    inner = [p for name, p in network.named_parameters() if p.dim() >= 2 and not name.startswith(("body.0.", "answers."))]
    others = [p for p in network.parameters() if all(p is not other for other in inner)]
    optimizers = [(Muon(inner, RATE_INNER), RATE_INNER), (torch.optim.AdamW(others, RATE_OTHERS, weight_decay=0.0), RATE_OTHERS)]
    checkpoint = arguments.state / "look.pt"
    first, seconds = restored(checkpoint, network, kept, optimizers)
    lessons = crops.Lessons(arguments.lessons, "training")
    looks = {kind: crops.Lessons(arguments.lessons, f"validation-{kind}") for kind in ("portraits", "crowds")}
    random, log = numpy.random.default_rng([13, first]), open(arguments.state / "look.jsonl", "a")
    record(log, candidates=len(lessons.rows), faces=int((lessons.rows[:, crops.SCORE] >= 0.5).sum()))
    chosen, sums, start, saved_at = [], numpy.zeros(3), time.monotonic(), time.monotonic()
    for step in range(first, arguments.steps):
        if not len(chosen):
            chosen = lessons.drawn(random, 200 * BATCH).reshape(-1, BATCH).tolist()
        for optimizer, height in optimizers:
            optimizer.param_groups[0]["lr"] = height * rate(step, arguments.steps)
        pictures, targets = lessons.batch(chosen.pop(), random)
        network.train()
        with torch.autocast("cpu", torch.bfloat16):
            answers = network(prepared(pictures))
        score, box, point = losses(answers, torch.from_numpy(targets))
        network.zero_grad(set_to_none=True)
        (score + BOX_WEIGHT * box + POINT_WEIGHT * point).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        average(kept, network, step)
        sums += [score.item(), box.item(), point.item()]
        done = step + 1
        if done % 200 == 0:
            record(log, step=done, seconds=round(seconds + time.monotonic() - start), losses=(sums / 200).round(5).tolist())
            sums[:] = 0
        if done == arguments.steps or time.monotonic() - saved_at > SAVE_SECONDS:
            saved_at = time.monotonic()
            states = [optimizer.state_dict() for optimizer, _ in optimizers]
            state = {"network": network.state_dict(), "kept": kept.state_dict(), "optimizers": states}
            save(checkpoint, step=done, seconds=seconds + time.monotonic() - start, **state)
            record(log, step=done, **validated(kept, looks))


if __name__ == "__main__":
    main()
