"""An ONNX graph on a GPU, in onnxruntime: inputs and outputs stay in its memory, and its own clock is read.

This file goes to the device beside the runner: it needs Python, numpy and an onnxruntime that is built for GPUs. Where
torch with CUDA is installed too, its events on the stream that onnxruntime computes on give the time; else it is the
wall clock around a call that waits until the GPU is done.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Feeds = dict[str, Any]
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# TF32 keeps 10 of 23 bits of the factors of a product: what is called FP32 would be none. The variable reaches cuBLAS,
# cuDNN and TensorRT alike; onnxruntime's own option does not reach cuDNN's graphs (microsoft/onnxruntime#19470).
NO_TF32 = ("NVIDIA_TF32_OVERRIDE", "0")
# onnxruntime waits for the GPU at the end of each run, which is no work of its: onnxruntime_run_options_config_keys.h.
NO_WAIT = ("disable_synchronize_execution_providers", "1")


class WallClock:
    """Wall clock around a call that ends when the GPU is done."""

    name = "wall clock after synchronisation"
    waits = True

    def __call__(self, call: Callable[[], Any]) -> float:
        """Milliseconds of a call."""
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3


class EventClock:
    """CUDA events around what a call leaves on a stream.

    Args:
        torch: the module, with CUDA.
    """

    name = "CUDA events"
    waits = False

    def __init__(self, torch: Any) -> None:
        self.stream = torch.cuda.Stream()
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, call: Callable[[], Any]) -> float:
        """Milliseconds from the first to the last of what the call has the GPU do, gaps between kernels included."""
        self.stream.synchronize()  # what was not counted is over: each call begins on a GPU that waits
        self._start.record(self.stream)
        call()
        self._end.record(self.stream)
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end))


def cuda_torch() -> Any:
    """The module torch, where it is installed and sees a CUDA device; else None."""
    os.environ.setdefault(*NO_TF32)  # read when the libraries are loaded
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


class Gpu:
    """What computes, and what measures it.

    Args:
        providers: onnxruntime's names, in the order in which each takes the operators that those before it leave.
        torch: the module, loaded before onnxruntime, for its events; None to do without.
        memory: where inputs and outputs lie, as onnxruntime names it.
    """

    def __init__(self, providers: list[str], torch: Any = None, memory: str = "cuda") -> None:
        os.environ.setdefault(*NO_TF32)
        self.providers, self.memory = providers, memory
        self.clock = WallClock() if torch is None else EventClock(torch)
        self.stream = int(self.clock.stream.cuda_stream) if isinstance(self.clock, EventClock) else 0
        load_libraries(tensorrt=TENSORRT in providers)

    def options(self, types: list[str]) -> list[tuple[str, dict[str, str]]]:
        """The providers with their options, for a graph with weights of these types.

        TensorRT gets no precision that the graph does not ask for: what is to be FP32 stays so.
        """
        stream = {"has_user_compute_stream": "1", "user_compute_stream": str(self.stream)} if self.stream else {}
        known = {
            CPU: {},
            CUDA: {"device_id": "0", **stream},
            TENSORRT: {
                "device_id": "0",
                **stream,
                "trt_fp16_enable": str(int("float16" in types)),
                "trt_int8_enable": str(int("int8" in types)),
                "trt_layer_norm_fp32_fallback": "1",  # the sum of squares overflows in FP16 long before its inputs do
            },
        }
        return [(name, known[name]) for name in self.providers]


def load_libraries(*, tensorrt: bool) -> None:
    """Load CUDA's and TensorRT's libraries from the packages that pip has installed, so that onnxruntime finds them."""
    import onnxruntime as ort

    with contextlib.redirect_stdout(sys.stderr):  # the answer alone goes to standard output
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        if tensorrt:
            with contextlib.suppress(ImportError):  # it may be installed for the whole system, without its package
                __import__("tensorrt")


class GpuGraph:
    """An ONNX graph as a function of its inputs.

    Args:
        subject: names the file (``graph``) and the types of its weights (``types``).
        threads: of operators that the GPU does not take.
        gpu: computes.
    """

    def __init__(self, subject: dict[str, Any], threads: int, gpu: Gpu) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        chain = gpu.options(subject["types"])
        with contextlib.redirect_stdout(sys.stderr):
            self._session = ort.InferenceSession(subject["graph"], options, providers=chain)
        taken = self._session.get_providers()
        if taken[0] != gpu.providers[0]:  # onnxruntime goes on without a provider that does not start
            sys.exit(f"edgekit: onnxruntime {ort.__version__} could not start {gpu.providers[0]}, only {taken[0]}")
        self._gpu = gpu
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _bind(self, feeds: Feeds) -> Any:
        """The inputs in the GPU's memory, and outputs that are to be left there."""
        import numpy as np
        import onnxruntime as ort

        binding = self._session.io_binding()
        for name, values in feeds.items():
            held = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values), self._gpu.memory, 0)
            binding.bind_ortvalue_input(name, held)
        for name in self._outputs:
            binding.bind_output(name, self._gpu.memory, 0)
        return binding

    def prepare(self, feeds: Feeds) -> Callable[[], None]:
        """One inference of these inputs, copied now; it ends when the GPU is done where the clock needs that."""
        import onnxruntime as ort

        binding, options = self._bind(feeds), ort.RunOptions()
        if not self._gpu.clock.waits:
            options.add_run_config_entry(*NO_WAIT)

        def run() -> None:
            self._session.run_with_iobinding(binding, options)
            if self._gpu.clock.waits:
                binding.synchronize_outputs()

        return run

    def __call__(self, feeds: Feeds) -> dict[str, Any]:
        """Outputs by name."""
        binding = self._bind(feeds)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return dict(zip(self._outputs, binding.copy_outputs_to_cpu()))  # noqa: B905  # Python 3.9 has no `strict`
