"""CPU time of a detector beside another's on photos at a side, on one thread.

    python cost.py ../../starter/detector.onnx MODELS/insightface_det_500m.onnx --photos FACES/wider/photos/*.jpg

They take turns on each photo, so that a busy machine is as slow for the one as for the other; what is reported is medians.
"""

import argparse
import pathlib
import statistics
import time

import cv2
import onnxruntime

from pictures import canvas, normalised, read

SIDE_PX = 640
ROUNDS = 5


def session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """Loads a network to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # SCRFD's files state wrong sizes of their outputs; the runtime warns of each, at each run.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(network, picture):
    began = time.process_time_ns()
    network.run(None, {network.get_inputs()[0].name: picture})
    return (time.process_time_ns() - began) / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("detectors", type=pathlib.Path, nargs=2)
    parser.add_argument("--photos", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--side-px", type=int, default=SIDE_PX)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    pair = [session(path) for path in arguments.detectors]
    times, ratios = ([], []), []
    for photo in arguments.photos:
        picture = normalised(canvas(read(photo), arguments.side_px)[0][None]).astype("f4", order="C")
        for network in pair:
            milliseconds(network, picture)
        for round_ in range(ROUNDS):
            order = (0, 1) if round_ % 2 == 0 else (1, 0)
            took = dict((at, milliseconds(pair[at], picture)) for at in order)
            ratios.append(took[0] / took[1])
            for at in order:
                times[at].append(took[at])
    for path, taken in zip(arguments.detectors, times):
        print(f"{path}: {statistics.median(taken):.2f} ms")
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"ratio of pairs: median {middle:.3f}, half of them from {low:.3f} to {high:.3f}, {len(ratios)} pairs")


if __name__ == "__main__":
    main()
