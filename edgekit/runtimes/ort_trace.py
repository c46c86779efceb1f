"""onnxruntime's own profile of a session: the time of each node, and of each kind of operator in each inference.

This file goes to the device beside the runner, and needs only Python. The trace is a list of events in the format of
Chrome's tracing, times in whole microseconds (onnxruntime/core/common/profiler.cc). An event ``*_kernel_time`` of the
category ``Node`` stands for one node's kernel, and ``model_run`` ends those of one inference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

KERNEL, RUN = "_kernel_time", "model_run"
Event = dict[str, Any]


def take_trace(file: str, warmup: int, block: int) -> dict[str, Any]:
    """Read the trace of a session and remove it: times of the inferences that ``measure_latency`` counts.

    Args:
        file: what the session wrote.
        warmup: inferences at the start that are not counted.
        block: inferences that are counted after one that is not, again and again.
    """
    with open(file, encoding="utf-8") as stream:
        events = json.load(stream)
    os.remove(file)
    runs = list(inferences(events))
    return summed([run for index, run in enumerate(runs[warmup:]) if index % (block + 1)])


def inferences(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The kernels of each inference, in the order in which they ended."""
    kernels: list[Event] = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            kernels.append(event)
        elif event["name"] == RUN:
            yield kernels
            kernels = []


def summed(runs: list[list[Event]]) -> dict[str, Any]:
    """Milliseconds by kind of operator and by node.

    ``operators`` has, for each kind, one figure an inference; ``nodes``, for each node in the order in which they ended
    in the first inference that had it, the median, and the types and shapes that it read and wrote then. A node that
    runs several times in an inference, in a loop, has the sum. Where one inference lacks a node, because the data took
    another branch, it took no time there.
    """
    operators: dict[tuple[str, str], dict[str, Any]] = {}
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for index, run in enumerate(runs):
        for event, own in own_times(run):
            args = event["args"]
            kind = args["op_name"], args.get("provider", "")
            node = event["name"][: -len(KERNEL)], args.get("node_index", "")
            found = operators.setdefault(kind, {"nodes": set(), "ms": [0.0] * len(runs)})
            found["nodes"].add(node)
            found["ms"][index] += own / 1e3
            one = nodes.setdefault(node, {"args": args, "ms": [0.0] * len(runs)})
            one["ms"][index] += own / 1e3
    return {
        "operators": [
            {"operator": name, "provider": provider, "nodes": len(found["nodes"]), "ms": found["ms"]}
            for (name, provider), found in operators.items()
        ],
        "nodes": [
            {
                "name": name,
                "operator": found["args"]["op_name"],
                "provider": found["args"].get("provider", ""),
                "reads": tensors(found["args"].get("input_type_shape", [])),
                "writes": tensors(found["args"].get("output_type_shape", [])),
                "ms": median(found["ms"]),
            }
            for (name, _), found in nodes.items()
        ],
    }


def tensors(noted: list[dict[str, list[int]]]) -> list[tuple[str, list[int]]]:
    """Type and shape of each tensor that a kernel was given or gave, as it noted them."""
    return [(kind, shape) for one in noted for kind, shape in one.items()]


def own_times(kernels: Iterable[Event]) -> list[tuple[Event, int]]:
    """Each kernel with its time in microseconds, without that of the kernels inside it (of ``If``, ``Loop``, ``Scan``).

    What is inside ended before, and began no earlier.
    """
    done: list[tuple[Event, int]] = []
    ended: list[Event] = []  # kernels that are not known to lie in another one
    for event in kernels:
        own = event["dur"]
        while ended and ended[-1]["ts"] >= event["ts"]:
            own -= ended.pop()["dur"]
        ended.append(event)
        done.append((event, max(0, own)))
    return done
