"""The runner that goes to a device with a few files beside it; they need Python, numpy and the runtime.

    python runner.py spec.json

``spec.json`` says what to do (``what``), names the subjects (a graph and a ``.npz`` of its inputs, by paths relative to
the specification) and the sha256 of every file, so that nothing that a transfer has changed is measured. The answer is
one JSON document on standard output. The same program runs everywhere, so that every place measures alike.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import hashlib
import importlib
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Union

Feeds = dict[str, Any]
Call = Callable[[Feeds], dict[str, Any]]
# What runs one inference; of a subject that was loaded several times, each in its turn.
Inference = Callable[[], Any]
Inferences = Union[Inference, "list[Inference]"]

# A system call with these numbers does nothing and fails; an emulator that counts instructions listens for them.
BEGIN_MARK, END_MARK = 0x5EED01, 0x5EED02
# What has to be imported of each runtime before a model can be loaded.
MODULES = {
    "onnxruntime": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
OVERHEAD_CALLS = 201
# What is added to a signal's number in the exit code of who tells of a process that it ended.
ENDED_BY = 128


def import_runtime(name: str) -> Any:
    """The module that runs models, by the name of its runtime."""
    # Since 1.32 a thread of telemetry would run beside what is measured, and be counted among its instructions.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module(MODULES[name])


class OnnxGraph:
    """An ONNX graph as a function of its inputs.

    Args:
        subject: with ``profiled``, the runtime writes down the time of each node.
        threads: within one operator.
    """

    def __init__(self, subject: dict[str, Any], threads: int) -> None:
        ort = import_runtime("onnxruntime")
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


def do_nothing() -> None:
    """What the clock is tried on, to see what it takes itself."""


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
    subjects: dict[str, Inferences],
    spec: dict[str, Any],
    clock: Callable[[Inference], float] = wall_ms,
    meter: Any = None,
) -> dict[str, list[list[float]]]:
    """Milliseconds of single inferences: for each subject a list of blocks, one a round.

    In each round every subject has one block of ``block`` inferences; the order of the blocks is drawn anew each
    round, so that a machine that slows down slows all subjects; ``wants_round`` has the rule of how many there are.
    Where ``block_ms`` is given, a block has as many inferences more as fit into it. Of a subject that was loaded
    several times, another copy runs each round. ``clock`` gives the milliseconds of a call, ``meter`` the energy of
    each block.
    """
    order = random.Random(spec["seed"])
    copies = {name: call if isinstance(call, list) else [call] for name, call in subjects.items()}
    length = warm_up([call for calls in copies.values() for call in calls], spec)
    blocks: dict[str, list[list[float]]] = {name: [] for name in subjects}
    began, done = time.perf_counter(), 0
    while wants_round(done, time.perf_counter() - began, spec):
        names = list(subjects)
        order.shuffle(names)
        for name in names:
            call, block = copies[name][done % len(copies[name])], []
            call()  # not counted: it brings the subject's weights back into the caches
            before = meter.read() if meter else 0.0
            for _ in range(length):
                block.append(clock(call))
            if meter:
                meter.note(name, before, length)
            blocks[name].append(block)
        done += 1
    return blocks


def warm_up(calls: list[Inference], spec: dict[str, Any]) -> int:
    """Run each ``warmup`` times; how many inferences a block then has."""
    slowest_ms = 0.0
    for call in calls:
        times_ms = [wall_ms(call) for _ in range(spec["warmup"])]
        slowest_ms = max([slowest_ms, *times_ms[-1:]])
    fitting = int(spec["block_ms"] / slowest_ms) if spec.get("block_ms") and slowest_ms > 0 else 0
    return max(int(spec["block"]), fitting)


def mark(number: int) -> None:
    """Tell an emulator that a region begins or ends here."""
    with contextlib.suppress(ProcessLookupError, OverflowError):
        os.getpgid(number)


def run_marked(subjects: dict[str, Callable[[], Any]], spec: dict[str, Any]) -> list[str]:
    """Run ``count`` inferences of each subject between two marks, ``warmup`` before; whose each region is.

    Python's collector of garbage waits: it would come within one inference of some, and take more than a small model.
    """
    regions = []
    gc.disable()
    for name, call in subjects.items():
        for _ in range(spec["warmup"]):
            call()
        for _ in range(spec["count"]):
            mark(BEGIN_MARK)
            call()
            mark(END_MARK)
            regions.append(name)
    gc.enable()
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


def open_runtime(spec: dict[str, Any]) -> Any:
    """Import what runs the models; the GPU that computes, None where it is the processor."""
    # What the loaders import lies beside this file where it runs, and not in the package; `python -P` looks nowhere.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    if spec["providers"][0] == "CPUExecutionProvider":
        import_runtime(spec["runtime"])
        return None
    from gpu_graph import Gpu, cuda_torch  # type: ignore[import-not-found, unused-ignore]

    return Gpu(spec["providers"], cuda_torch() if spec["what"] == "latency" else None)


def load_models(spec: dict[str, Any], gpu: Any) -> dict[str, Any]:
    """Every subject as a function of its inputs."""
    subjects, threads = spec["subjects"], spec["threads"]
    if gpu is None:
        return {name: LOADERS[spec["runtime"]](subject, threads) for name, subject in subjects.items()}
    from gpu_graph import GpuGraph  # type: ignore[import-not-found, unused-ignore]

    return {name: GpuGraph(subject, threads, gpu) for name, subject in subjects.items()}


def take_traces(models: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """The time of each kind of operator, of the subjects that are profiled."""
    profiled = [name for name, subject in spec["subjects"].items() if subject.get("profiled")]
    if not profiled:
        return {}
    from ort_trace import take_trace  # type: ignore[import-not-found, unused-ignore]

    return {name: take_trace(models[name].end_profiling(), spec["warmup"], spec["block"]) for name in profiled}


def run_processes(spec: dict[str, Any]) -> dict[str, Any]:
    """Do each of ``runs`` in a fresh process of this file, one after the other, and gather the answers.

    None is begun that would end after ``seconds``, by the longest so far, once the ``fewest`` are done. An answer's
    ``first_ms`` is the time from the start of its process to its first inference.
    """
    began, longest = time.perf_counter(), 0.0
    common = {key: value for key, value in spec.items() if key not in ("what", "runs", "subjects")}
    answers: list[dict[str, Any]] = []
    for number, run in enumerate(spec["runs"]):
        start = time.perf_counter()
        if len(answers) >= spec["fewest"] and start - began + longest > spec["seconds"]:
            break
        own = {**common, **run, "subjects": {name: spec["subjects"][name] for name in run["subjects"]}, "sha256": {}}
        file = f"run-{number}.json"
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(own, stream)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, os.path.abspath(__file__), file], stdout=subprocess.PIPE, check=False)
        if done.returncode:  # what went wrong stands on standard error; of a signal, as shells have it
            sys.exit(done.returncode if done.returncode > 0 else ENDED_BY - done.returncode)
        answer = json.loads(done.stdout)
        if "answered" in answer:
            answer["first_ms"] = (answer.pop("answered") - start) * 1e3
        answers.append(answer)
        longest = max(longest, time.perf_counter() - start)
    return {"load_ms": 0.0, "peak_memory_bytes": 0, "processes": answers}


def main() -> None:
    """Do what the specification says and print the answer."""
    os.chdir(os.path.dirname(os.path.abspath(sys.argv[1])))
    with open(os.path.basename(sys.argv[1]), encoding="utf-8") as stream:
        spec = json.load(stream)
    check_files(spec["sha256"])
    json.dump(run_processes(spec) if spec["what"] == "processes" else run(spec), sys.stdout)


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Do what the specification says in this process."""
    gpu = open_runtime(spec)
    began = time.perf_counter()
    models = load_models(spec, gpu)
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
            from meter import Meter  # type: ignore[import-not-found, unused-ignore]

            clock, meter = gpu.clock if gpu else wall_ms, Meter()
            copies = [load_models(spec, gpu) for _ in range(spec.get("copies", 1) - 1)]
            timed: dict[str, Inferences] = {
                name: [call, *(functools.partial(models[name], calls[name][0]) for models in copies)]
                for name, call in subjects.items()
            }
            before = cpu_times()
            answer["blocks_ms"] = measure_latency(timed, spec, clock, meter if meter.readable() else None)
            answer["energy_uj"] = meter.uj
            answer["overhead_us"] = sorted(clock(do_nothing) for _ in range(OVERHEAD_CALLS))[OVERHEAD_CALLS // 2] * 1e3
            answer["cpu_times"] = [times for times in (before, cpu_times()) if times]
            answer["clock"] = gpu.clock.name if gpu else "wall clock"
            answer["traces"] = take_traces(models, spec)
        elif spec["what"] == "instructions":
            answer["regions"] = run_marked(subjects, spec)
        else:
            for subject in subjects.values():
                subject()
                answer["answered"] = time.perf_counter()  # a clock that all processes of a machine share
                for _ in range(spec["warmup"] - 1):
                    subject()
    answer["peak_memory_bytes"] = peak_memory_bytes()
    return answer


if __name__ == "__main__":
    main()
