"""torch on a GPU as a yardstick: eager, compiled, and replayed as a CUDA graph, timed as edgekit times onnxruntime."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from edgekit.devices.runner import measure_latency
from edgekit.measure.latency import Timings
from edgekit.runtimes.gpu_graph import NO_TF32, EventClock, WallClock
from edgekit.runtimes.measuring import Timing

EAGER, COMPILED, CUDA_GRAPH = "eager", "compiled", "cuda-graph"
MODES = (EAGER, COMPILED, CUDA_GRAPH)
# Before a capture, libraries have chosen their kernels (torch's notes on CUDA, "CUDA Graphs").
RUNS_BEFORE_CAPTURE = 3


def time_torch(
    module: Any,
    feeds: Mapping[str, Any],
    precision: str,
    timing: Timing,
    *,
    modes: Sequence[str] = MODES,
    device: str = "cuda",
    backend: str = "inductor",
) -> tuple[Timings, dict[str, str]]:
    """Latency of a module in several modes, interleaved; and why a mode is none, by its name.

    Args:
        module: float32, in evaluation mode.
        feeds: arrays by the names of its arguments.
        precision: ``fp32`` or ``fp16``: all of the module in half precision.
        timing: how it is sampled.
        modes: which of ``MODES``.
        device: where.
        backend: of ``torch.compile``.
    """
    os.environ.setdefault(*NO_TF32)
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    half = precision == "fp16"
    moved = copy.deepcopy(module).to(device=device, dtype=torch.float16 if half else torch.float32)
    inputs = {name: torch.from_numpy(values).to(device) for name, values in feeds.items()}
    inputs = {name: value.half() if half and value.is_floating_point() else value for name, value in inputs.items()}
    clock: Any = EventClock(torch) if device == "cuda" else WallClock()
    with torch.inference_mode(), torch.cuda.stream(clock.stream) if device == "cuda" else nullcontext():
        calls, failed = {}, {}
        for mode in modes:
            try:
                calls[mode] = make_call(mode, moved, inputs, backend)
                calls[mode]()
            except RuntimeError as error:  # a compiler that is not there, or an operation that cannot be captured
                calls.pop(mode, None)
                failed[mode] = str(error).strip().partition("\n")[0]
        return Timings(measure_latency(calls, vars(timing), clock), (), clock.name), failed


def make_call(mode: str, module: Any, inputs: Mapping[str, Any], backend: str) -> Callable[[], Any]:
    """One inference; what it takes to get there (compiling, capturing) happens before the first that counts."""
    import torch

    if mode == COMPILED:
        compiled = torch.compile(module, backend=backend, dynamic=False)
        return lambda: compiled(**inputs)
    if mode == CUDA_GRAPH:
        for _ in range(RUNS_BEFORE_CAPTURE):
            module(**inputs)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            held = module(**inputs)
        return lambda: (graph.replay(), held)  # what was captured writes into the same outputs
    return lambda: module(**inputs)
