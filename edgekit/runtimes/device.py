"""The runner that goes to a device: one file, needing only Python, numpy and onnxruntime.

    python device.py SPEC.json

SPEC names the subjects (a graph, and a .npz of its inputs), the threads, and how long to measure. The answer is one
JSON document on standard output. It is copied to wherever a model is measured, so that every place measures alike.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def load(subject: dict[str, Any], threads: int) -> Call:
    """A subject as a function that runs one inference."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(subject["graph"], options, providers=["CPUExecutionProvider"])
    with np.load(subject["feeds"], allow_pickle=False) as stored:
        feeds = {name: stored[name] for name in stored.files}
    return lambda: session.run(None, feeds)


def measure_latency(calls: dict[str, Call], spec: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Milliseconds of single inferences: for each subject a list of blocks, one a round.

    In each round every subject has one block of ``block`` inferences; the order of the blocks is drawn anew each
    round, so that a machine that slows down slows all subjects. Rounds go on until ``seconds`` have passed and
    ``rounds`` were made.
    """
    order = random.Random(spec["seed"])
    for call in calls.values():
        for _ in range(spec["warmup"]):
            call()
    blocks: dict[str, list[list[float]]] = {name: [] for name in calls}
    end = time.perf_counter() + spec["seconds"]
    done = 0
    while done < spec["rounds"] or (time.perf_counter() < end and done < spec["most_rounds"]):
        names = list(calls)
        order.shuffle(names)
        for name in names:
            call, block = calls[name], []
            call()  # not counted: it brings the subject's weights back into the caches
            for _ in range(spec["block"]):
                start = time.perf_counter()
                call()
                block.append((time.perf_counter() - start) * 1e3)
            blocks[name].append(block)
        done += 1
    return blocks


def peak_memory_bytes() -> int:
    """Largest resident size of this process since it was started."""
    try:
        with open("/proc/self/status", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Do what the specification says and print the answer."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        spec = json.load(stream)
    began = time.perf_counter()
    calls = {name: load(subject, spec["threads"]) for name, subject in spec["subjects"].items()}
    answer: dict[str, Any] = {"load_ms": (time.perf_counter() - began) * 1e3}
    if spec["what"] == "latency":
        answer["blocks_ms"] = measure_latency(calls, spec)
    else:
        for call in calls.values():
            for _ in range(spec["warmup"]):
                call()
    answer["peak_memory_bytes"] = peak_memory_bytes()
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
