"""The other side of insightface_compare.sh, and the referee: see there.

What is compared is the processor time that a photo takes, of all threads and processes of a side. Time by the clock is told
too, but where other work shares the cores it is no comparison, also not in rounds that take turns: the scheduler gives
threads that sleep and wake (a server's) more of a busy core than threads that never do (a loop's). Seen with builds beside:
a bare loop got 50 % of a core, the server's workers 60 to 92 %.
"""

import os

# Before numpy and OpenCV are imported: threads of theirs would take cores from the networks.
os.environ["PYTHONWARNINGS"] = "ignore"
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import multiprocessing
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

SHARED = pathlib.Path(os.environ["FACEMATCH_SHARED"])
PHOTOS = int(os.environ.get("PHOTOS", "200"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))

# Detector, recogniser, and the ratio that is wanted at one scale of 640.
PACKS = [
    ("insightface_det_500m.onnx", "arcface_mobilefacenet_y1_128.onnx", 1.25),
    ("insightface_det_500m.onnx", "edgeface_xxs_512.onnx", 1.15),
    ("insightface_det_2.5g.onnx", "edgeface_xs_512.onnx", 1.0),
]
# Shown name, facematch's sides, InsightFace's det_size (None is its own default of 128 and 640).
SCALES = [("one scale of 640", "640", (640, 640)), ("each side's own scales", "default", None)]


TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pids):
    """What processes have used, all their threads."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def measured(contender):
    """Milliseconds of processor a photo, photos a second by the clock, and the share of the cores that the side got."""
    before, started = processor_seconds(contender.pids()), time.perf_counter()
    rate = contender.round()
    used, took = processor_seconds(contender.pids()) - before, time.perf_counter() - started
    return 1000 * used / PHOTOS, rate, used / took / len(os.sched_getaffinity(0))


def photos():
    """The same photos as the benchmark's: the first of each person of LFW."""
    people = sorted(path for path in (SHARED / "faces/lfw/photos").iterdir() if path.is_dir())
    return [min(person.iterdir()).read_bytes() for person in people[:PHOTOS]]


def work(pack, det_size, threads, indices, replies, tasks):
    """A process of InsightFace: photos in, count of embeddings out."""
    import cv2
    import numpy
    import onnxruntime
    from insightface.app import FaceAnalysis

    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin take the cores from other work: on shared cores it is the slower half.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    app = FaceAnalysis(name=pack, providers=["CPUExecutionProvider"], sess_options=options)
    app.prepare(ctx_id=-1, det_size=det_size)
    mine = photos()
    mine = [mine[index] for index in indices]
    while True:
        found = 0
        for photo in mine:
            picture = cv2.imdecode(numpy.frombuffer(photo, numpy.uint8), cv2.IMREAD_COLOR)
            # The largest face alone is embedded, as facematch does.
            faces = app.get(picture, max_num=1)
            found += sum(face.normed_embedding.size > 0 for face in faces)
        replies.put(found)
        if tasks.get() is None:
            return


class InsightFace:
    """Processes that share the photos of a round."""

    def __init__(self, pack, det_size, processes, threads):
        self.name = f"InsightFace, {processes} x {threads}"
        context = multiprocessing.get_context("spawn")
        self.replies = context.Queue()
        self.tasks = [context.Queue() for _ in range(processes)]
        self.workers = []
        for number, tasks in enumerate(self.tasks):
            indices = range(number, PHOTOS, processes)
            arguments = (pack, det_size, threads, indices, self.replies, tasks)
            self.workers.append(context.Process(target=work, args=arguments))
        for worker in self.workers:
            worker.start()
        self.collect()  # the first round warms up

    def collect(self):
        found = sum(self.replies.get() for _ in self.workers)
        assert found >= PHOTOS * 0.97, f"{found} faces in {PHOTOS} photos"

    def round(self):
        started = time.perf_counter()
        for tasks in self.tasks:
            tasks.put(True)
        self.collect()
        return PHOTOS / (time.perf_counter() - started)

    def pids(self):
        return [worker.pid for worker in self.workers]

    def stop(self):
        for tasks in self.tasks:
            tasks.put(None)
        for worker in self.workers:
            worker.join()


class Facematch:
    """The benchmark's server and caller."""

    name = "facematch"

    def __init__(self, pack, sides):
        # The program itself and not cargo, whose own process would be the one that is measured.
        command = [os.environ["THROUGHPUT"], "rounds", pack, sides]
        environment = {**os.environ, "PHOTOS": str(PHOTOS)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout.readline().strip() == "ready"

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


def compare(detector, recognizer, wanted):
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as pack:
        for model in (detector, recognizer):
            os.symlink(SHARED.resolve() / "models" / model, pathlib.Path(pack) / model)
        for name, sides, det_size in SCALES:
            contenders = [
                Facematch(pack, sides),
                InsightFace(pack, det_size, 1, cores),
                InsightFace(pack, det_size, cores, 1),
            ]
            rounds = {contender.name: [] for contender in contenders}
            for _ in range(ROUNDS):
                for contender in contenders:
                    rounds[contender.name].append(measured(contender))
            for contender in contenders:
                contender.stop()
            print(f"{detector}, {recognizer}, {name}")
            costs = {}
            for contender in contenders:
                cost, rate, share = (statistics.median(values) for values in zip(*rounds[contender.name]))
                costs[contender.name] = cost
                print(f"  {contender.name:<22}{cost:7.1f} ms of processor a photo;{rate:7.1f} photos/s by the clock,"
                      f" with {share:.0%} of the cores")
            ours, *theirs = (contender.name for contender in contenders)
            best = min(theirs, key=costs.get)
            pairs = zip(rounds[best], rounds[ours])
            ratio = statistics.median(their[0] / our[0] for their, our in pairs)
            bar = f", wanted {wanted}" if sides == "640" else ""
            print(f"  photos for the same processor time, facematch to {best}: {ratio:.2f}{bar}", flush=True)


def main():
    print(f"{PHOTOS} photos of LFW, {ROUNDS} rounds, {len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}")
    for pack in PACKS:
        compare(*pack)


if __name__ == "__main__":
    main()
