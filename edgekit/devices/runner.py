"""The runner that goes to a device: one file, needing only Python, numpy and the runtime.

    python runner.py spec.json

``spec.json`` says what to do (``what``), names the subjects (a graph and a ``.npz`` of its inputs, by paths relative to
the specification) and the sha256 of every file, so that nothing that a transfer has changed is measured. The answer is
one JSON document on standard output. The same file runs everywhere, so that every place measures alike.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Feeds = dict[str, Any]
Call = Callable[[Feeds], dict[str, Any]]

# A system call with these numbers does nothing and fails; an emulator that counts instructions listens for them.
BEGIN_MARK, END_MARK = 0x5EED01, 0x5EED02


class OnnxGraph:
    """An ONNX graph as a function of its inputs.

    Args:
        subject: with ``profiled``, the runtime writes down the time of each node.
        threads: within one operator.
    """

    def __init__(self, subject: dict[str, Any], threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if subject.get("profiled"):
            options.enable_profiling, options.profile_file_prefix = True, subject["graph"]
        self._session = ort.InferenceSession(subject["graph"], options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, feeds: Feeds) -> dict[str, Any]:
        return dict(zip(self._names, self._session.run(self._names, feeds)))  # noqa: B905  # Python 3.9 has no `strict`

    def end_profiling(self) -> str:
        """The file that the times of the nodes were written to."""
        return str(self._session.end_profiling())


def wall_ms(call: Callable[[], Any]) -> float:
    """Milliseconds of a call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


class Refused(Exception):
    """The runtime does not take the model, or not these inputs."""


@contextlib.contextmanager
def told_refusals() -> Iterator[None]:
    """What a TFLite runtime raises, as a refusal on one line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise Refused(" ".join(str(error).split())) from error


def load_tflite(subject: dict[str, Any], threads: int, runtime: str) -> Call:
    """A TFLite file as a function of its inputs, in one of its runtimes."""
    from tflite_graph import Graph, open_interpreter  # type: ignore[import-not-found, unused-ignore]

    with told_refusals():
        interpreter, _ = open_interpreter(subject["graph"], threads, runtime)
        run = Graph(interpreter, subject["component"]).run

    def call(feeds: Feeds) -> dict[str, Any]:
        with told_refusals():
            outputs: dict[str, Any] = run(feeds)
        return outputs

    return call


LOADERS: dict[str, Callable[[dict[str, Any], int], Call]] = {
    "onnxruntime": OnnxGraph,
    "litert": functools.partial(load_tflite, runtime="litert"),
    "tflite-runtime": functools.partial(load_tflite, runtime="tflite-runtime"),
}


def read_calls(file: str) -> list[Feeds]:
    """The inputs of each call, stored as ``0/name``, ``1/name`` ..."""
    import numpy as np

    calls: dict[int, Feeds] = {}
    with np.load(file, allow_pickle=False) as stored:
        for key in stored.files:
            index, _, name = key.partition("/")
            calls.setdefault(int(index), {})[name] = stored[key]
    return [calls[index] for index in sorted(calls)]


def wants_round(done: int, spent: float, spec: dict[str, Any]) -> bool:
    """Whether another round is made after so many, and so many seconds.

    Rounds go on until ``rounds`` were made and ``seconds`` have passed, and never beyond ``most_rounds`` for the time's
    sake. A model that is slow on its device is done with ``fewest_rounds`` once ``enough_seconds`` have passed.
    """
    if spent >= max(spec["seconds"], spec["enough_seconds"]):
        return bool(done < min(spec["rounds"], spec["fewest_rounds"]))
    return bool(done < spec["rounds"] or (spent < spec["seconds"] and done < spec["most_rounds"]))


def measure_latency(
    subjects: dict[str, Callable[[], Any]], spec: dict[str, Any], clock: Callable[[Callable[[], Any]], float] = wall_ms
) -> dict[str, list[list[float]]]:
    """Milliseconds of single inferences: for each subject a list of blocks, one a round.

    In each round every subject has one block of ``block`` inferences; the order of the blocks is drawn anew each
    round, so that a machine that slows down slows all subjects; ``wants_round`` has the rule of how many there are.
    ``clock`` gives the milliseconds of a call.
    """
    order = random.Random(spec["seed"])
    for call in subjects.values():
        for _ in range(spec["warmup"]):
            call()
    blocks: dict[str, list[list[float]]] = {name: [] for name in subjects}
    began, done = time.perf_counter(), 0
    while wants_round(done, time.perf_counter() - began, spec):
        names = list(subjects)
        order.shuffle(names)
        for name in names:
            call, block = subjects[name], []
            call()  # not counted: it brings the subject's weights back into the caches
            for _ in range(spec["block"]):
                block.append(clock(call))
            blocks[name].append(block)
        done += 1
    return blocks


def mark(number: int) -> None:
    """Tell an emulator that a region begins or ends here."""
    with contextlib.suppress(ProcessLookupError, OverflowError):
        os.getpgid(number)


def run_marked(subjects: dict[str, Callable[[], Any]], spec: dict[str, Any]) -> list[str]:
    """Run ``count`` inferences of each subject between two marks, ``warmup`` before; whose each region is."""
    regions = []
    for name, call in subjects.items():
        for _ in range(spec["warmup"]):
            call()
        for _ in range(spec["count"]):
            mark(BEGIN_MARK)
            call()
            mark(END_MARK)
            regions.append(name)
    return regions


def packed(values: Any) -> dict[str, Any]:
    """An array as JSON: type, shape, and its bytes in base64, little-endian."""
    import numpy as np

    array = np.ascontiguousarray(values)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def peak_memory_bytes() -> int:
    """Largest resident size of this process since it was started; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_files(hashes: dict[str, str]) -> None:
    """Stop unless every file is what it was when it was sent."""
    for name, expected in hashes.items():
        digest = hashlib.sha256()
        with open(name, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
        if digest.hexdigest() != expected:
            sys.exit(f"edgekit: {name} was changed on its way here")


def runtime_version(name: str) -> str:
    """Version of the runtime that is installed here, or of its build for GPUs."""
    from importlib.metadata import PackageNotFoundError, version

    for build in (name, f"{name}-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(build)
    return "unknown"


def cpu_times() -> dict[str, float] | None:
    """Jiffies since boot over all processors, and this process' own; None where ``/proc/stat`` cannot be read."""
    try:
        with open("/proc/stat", encoding="ascii") as stream:
            values = [float(value) for value in stream.readline().split()[1:9]]
    except OSError:
        return None
    used = os.times()
    own = (used.user + used.system + used.children_user + used.children_system) * os.sysconf("SC_CLK_TCK")
    return {"total": sum(values), "idle": values[3] + values[4], "stolen": values[7], "own": own}


def processor_name() -> str:
    """What the processor, or its board, calls itself; empty where nothing tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() in ("model name", "Model")]
    return named[-1] if named else platform.processor()


def load_models(spec: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Every subject as a function of its inputs, and the GPU that computes; None where it is the processor."""
    # What the loaders import lies beside this file where it runs, and not in the package; `python -P` looks nowhere.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    subjects, threads = spec["subjects"], spec["threads"]
    if spec["providers"][0] == "CPUExecutionProvider":
        return {name: LOADERS[spec["runtime"]](subject, threads) for name, subject in subjects.items()}, None
    from gpu_graph import Gpu, GpuGraph, cuda_torch  # type: ignore[import-not-found, unused-ignore]

    gpu = Gpu(spec["providers"], cuda_torch() if spec["what"] == "latency" else None)
    return {name: GpuGraph(subject, threads, gpu) for name, subject in subjects.items()}, gpu


def take_traces(models: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """The time of each kind of operator, of the subjects that are profiled."""
    profiled = [name for name, subject in spec["subjects"].items() if subject.get("profiled")]
    if not profiled:
        return {}
    from ort_trace import take_trace  # type: ignore[import-not-found, unused-ignore]

    return {name: take_trace(models[name].end_profiling(), spec["warmup"], spec["block"]) for name in profiled}


def main() -> None:
    """Do what the specification says and print the answer."""
    os.chdir(os.path.dirname(os.path.abspath(sys.argv[1])))
    with open(os.path.basename(sys.argv[1]), encoding="utf-8") as stream:
        spec = json.load(stream)
    check_files(spec["sha256"])
    began = time.perf_counter()
    models, gpu = load_models(spec)
    answer: dict[str, Any] = {"load_ms": (time.perf_counter() - began) * 1e3}
    answer["host"] = {
        "processor": processor_name(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    answer["runtime_version"] = runtime_version(spec["package"])
    calls = {name: read_calls(subject["feeds"]) for name, subject in spec["subjects"].items()}
    if spec["what"] == "outputs":
        began = time.perf_counter()
        found = {name: [model(feeds) for feeds in calls[name]] for name, model in models.items()}
        answer["run_ms"] = (time.perf_counter() - began) * 1e3
        answer["outputs"] = {
            name: [{key: packed(values) for key, values in outputs.items()} for outputs in given]
            for name, given in found.items()
        }
    else:
        subjects: dict[str, Callable[[], Any]] = {
            name: model.prepare(calls[name][0]) if gpu else functools.partial(model, calls[name][0])
            for name, model in models.items()
        }
        if spec["what"] == "latency":
            before = cpu_times()
            answer["blocks_ms"] = measure_latency(subjects, spec, gpu.clock if gpu else wall_ms)
            answer["cpu_times"] = [times for times in (before, cpu_times()) if times]
            answer["clock"] = gpu.clock.name if gpu else "wall clock"
            answer["traces"] = take_traces(models, spec)
        elif spec["what"] == "instructions":
            answer["regions"] = run_marked(subjects, spec)
        else:
            for subject in subjects.values():
                for _ in range(spec["warmup"]):
                    subject()
    answer["peak_memory_bytes"] = peak_memory_bytes()
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
