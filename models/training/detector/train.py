"""Trains the detector; run again, it goes on where it stopped.

    python train.py --faces FACES --teacher insightface_det_2.5g.onnx --state STATE [--steps 24000] [--height 1]

STATE keeps the last checkpoint, the log and the teacher's boxes of the portraits.
"""

import argparse
import copy
import json
import math
import pathlib
import time

import cv2
import numpy
import torch

import losses
import maps
from muon import Muon
from network import Detector
from pictures import Maker, crowd, normalised, portrait_paths, read, spoil
from teacher import Teacher

SIDE_PX = 320
# Processes of one thread each, which average their networks now and then.
WORKERS = 2
BATCH = 4
MEETING_STEPS = 10
SAVE_STEPS = 250
# How often a picture is learned from, on average, and how many are kept at hand.
USES, KEPT = 4, 400
RATE_INNER, RATE_OTHERS = 0.02, 2e-3
WARM_STEPS = 100
# The rate is constant until this share of the steps and falls to nothing after it: training may be made longer at any
# time before.
FLAT_SHARE = 0.4
# The network that is kept is the average over about the last five hundred steps.
AVERAGE = 0.998
POINT_WEIGHT, BOX_WEIGHT = 5.0, 1.0
# A face of a portrait that the teacher is less sure of is not called one.
PORTRAIT_SCORE_MIN = 0.4


def prepared(pictures):
    return torch.from_numpy(normalised(pictures)).contiguous(memory_format=torch.channels_last)


def portraits(faces, teacher, cache, worker):
    """The training portraits with the boxes that the teacher finds in them at 256 pixels: found once, by one worker."""
    if worker > 0:
        torch.distributed.barrier()
    paths = portrait_paths(faces, "training")
    known = json.loads(cache.read_text()) if cache.exists() else {}
    for path in paths:
        name = f"{path.parent.name}/{path.name}"
        if name not in known:
            photo = read(path)
            scale = 256 / max(photo.shape[:2])
            picture = prepared(cv2.resize(photo, None, fx=scale, fy=scale)[None])
            with torch.autocast("cpu", torch.bfloat16):
                _, boxes, _ = maps.faces(teacher, picture, PORTRAIT_SCORE_MIN)[0]
            # Largest first: the one that is pasted elsewhere.
            boxes = sorted((boxes / scale).tolist(), key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))
            known[name] = boxes
    if worker == 0:
        cache.write_text(json.dumps(known))
        torch.distributed.barrier()
    return [(p, numpy.array(known[f"{p.parent.name}/{p.name}"], "f").reshape(-1, 4)) for p in paths]


class Lessons:
    """Pictures with what the teacher sees in them: each is used a few times, spoilt anew, before it is replaced.

    The teacher and the making of a picture cost as much as the student's step; the spoiling costs little.
    """

    def __init__(self, maker, teacher, random):
        self.maker, self.teacher, self.random, self.kept = maker, teacher, random, []

    def batch(self):
        """The next batch: pictures, and targets (scores `[n, a]`, boxes `[n, a, 4]`, points `[n, a, 10]`)."""
        if len(self.kept) < BATCH or self.random.random() < 1 / USES:
            self._learn()
        chosen = [self.kept[i] for i in self.random.choice(len(self.kept), BATCH, replace=False)]
        pictures = numpy.stack([spoil(self.random, picture) for picture, _ in chosen])
        return prepared(pictures), [torch.stack(values) for values in zip(*(targets for _, targets in chosen))]

    def _learn(self):
        made = [self.maker.make(self.random) for _ in range(BATCH)]
        with torch.autocast("cpu", torch.bfloat16):
            taught = self.teacher(prepared(numpy.stack([picture for picture, _ in made])))
        for (picture, marked), scores, boxes, points in zip(made, *maps.rows(taught)):
            scores = losses.mended(scores.sigmoid(), boxes, torch.from_numpy(marked).float())
            self.kept.append((picture, (scores, boxes, points)))
        self.kept = self.kept[-KEPT:]


def loss_parts(network, pictures, targets):
    with torch.autocast("cpu", torch.bfloat16):
        learned = network(pictures)
    logits, boxes, points = maps.rows([[m.float() for m in level] for level in learned])
    scores, teacher_boxes, teacher_points = targets
    return losses.score_loss(logits, scores), *losses.shape_losses(boxes, points, teacher_boxes, teacher_points, scores)


def rate(step, steps):
    """The share of the full rate at a step."""
    flat = FLAT_SHARE * steps
    fall = 1.0 if step < flat else 0.5 * (1 + math.cos(math.pi * (step - flat) / (steps - flat)))
    return min(1.0, (step + 1) / WARM_STEPS) * max(fall, 0.002)


def average(kept, network, step):
    share = min(AVERAGE, (step + 1) / (step + 10))
    with torch.no_grad():
        for a, b in zip(kept.state_dict().values(), network.state_dict().values()):
            a.lerp_(b, 1 - share) if a.is_floating_point() else a.copy_(b)


def save(path, **state):
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def restored(path, network, kept, optimizers):
    """Goes on from a checkpoint, where there is one: the next step, and the seconds so far."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path)
    network.load_state_dict(state["network"])
    kept.load_state_dict(state["kept"])
    for (optimizer, _), saved in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    return state["step"], state["seconds"]


def meet(network):
    """Gives each worker the mean of all workers' networks.

    Now and then, not at each step: on cores that others use too, workers that wait for each other all the time stand
    still half of it.
    """
    with torch.no_grad():
        values = [value for value in network.state_dict().values() if value.is_floating_point()]
        mean = torch.cat([value.flatten() for value in values])
        torch.distributed.all_reduce(mean)
        for value, part in zip(values, (mean / WORKERS).split([value.numel() for value in values])):
            value.copy_(part.view_as(value))


def optimizers_of(network):
    """Each optimizer with its rate at full height."""
    maps_and_patches = {id(p) for m in (network.patches, *(head.maps for head in network.heads)) for p in m.parameters()}
    inner = [p for p in network.parameters() if p.dim() == 4 and id(p) not in maps_and_patches]
    others = [p for p in network.parameters() if p.dim() != 4 or id(p) in maps_and_patches]
    return [(Muon(inner, RATE_INNER), RATE_INNER), (torch.optim.AdamW(others, RATE_OTHERS, weight_decay=0.0), RATE_OTHERS)]


def train(worker, arguments):
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.manual_seed(7)
    meeting = f"file://{arguments.state}/meeting-{arguments.meeting}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=worker, world_size=WORKERS)
    teacher = Teacher(arguments.teacher).eval().to(memory_format=torch.channels_last)
    network = Detector().to(memory_format=torch.channels_last)
    kept, optimizers = copy.deepcopy(network).eval(), optimizers_of(network)
    checkpoint = arguments.state / "checkpoint.pt"
    first, seconds = restored(checkpoint, network, kept, optimizers)
    marked_portraits = portraits(arguments.faces, teacher, arguments.state / "portraits.json", worker)
    maker = Maker(list(crowd(arguments.faces, "training").values()), marked_portraits, SIDE_PX)
    lessons = Lessons(maker, teacher, numpy.random.default_rng([worker, first]))
    log = open(arguments.state / "log.jsonl", "a") if worker == 0 else None
    sums, start = numpy.zeros(3), time.monotonic()
    for step in range(first, arguments.steps):
        for optimizer, height in optimizers:
            optimizer.param_groups[0]["lr"] = arguments.height * height * rate(step, arguments.steps)
        network.train()
        score, box, point = loss_parts(network, *lessons.batch())
        network.zero_grad(set_to_none=True)
        (score + BOX_WEIGHT * box + POINT_WEIGHT * point).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        if (step + 1) % MEETING_STEPS == 0:
            meet(network)
        average(kept, network, step)
        sums += [score.item(), box.item(), point.item()]
        done = step + 1
        if worker == 0 and done % 100 == 0:
            taken = round(seconds + time.monotonic() - start)
            record(log, step=done, seconds=taken, losses=[round(v, 4) for v in (sums / 100).tolist()])
            sums[:] = 0
        if worker == 0 and (done % SAVE_STEPS == 0 or done == arguments.steps):
            saved = [optimizer.state_dict() for optimizer, _ in optimizers]
            state = {"network": network.state_dict(), "kept": kept.state_dict(), "optimizers": saved}
            save(checkpoint, step=done, seconds=seconds + time.monotonic() - start, **state)


def record(log, **facts):
    print(json.dumps(facts), flush=True)
    log.write(json.dumps(facts) + "\n")
    log.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=pathlib.Path, required=True)
    parser.add_argument("--teacher", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--height", type=float, default=1.0, help="the largest share of the full rate (default 1)")
    arguments = parser.parse_args()
    arguments.state = arguments.state.resolve()
    arguments.state.mkdir(parents=True, exist_ok=True)
    arguments.meeting = time.time_ns()
    torch.multiprocessing.spawn(train, (arguments,), nprocs=WORKERS)


if __name__ == "__main__":
    main()
