"""CPU time a face of recognisers, beside each other, on one thread.

    python cost.py ../../starter/recognizer.onnx MODELS/edgeface_xxs_512.onnx

They take turns, so that a busy machine is as slow for the one as for the other.
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime

ROUNDS = 300


def session(path: str) -> onnxruntime.InferenceSession:
    """Loads a network to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main():
    sessions = [session(path) for path in sys.argv[1:]]
    face = np.random.default_rng(1).uniform(-1, 1, (1, 3, 112, 112)).astype(np.float32)
    times_ms = [[] for _ in sessions]
    for _ in range(ROUNDS):
        for network, times in zip(sessions, times_ms):
            began = time.process_time_ns()
            network.run(None, {network.get_inputs()[0].name: face})
            times.append((time.process_time_ns() - began) / 1e6)
    medians = [statistics.median(times) for times in times_ms]
    for path, median in zip(sys.argv[1:], medians):
        print(f"{path}: {median:.2f} ms, {median / medians[-1]:.2f} of the last one's")


if __name__ == "__main__":
    main()
