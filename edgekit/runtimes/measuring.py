"""What is measured on a device: subjects go there with the runner, and its answer comes back."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from edgekit.artifact import Component
from edgekit.bounds import check_texts
from edgekit.cache import temporary
from edgekit.devices.base import RUNNER, SPEC, Device
from edgekit.devices.local import LocalDevice
from edgekit.errors import HostError
from edgekit.formats.graphs import weight_bytes
from edgekit.source import sha256_file
from edgekit.target import EXECUTION_PROVIDERS, PACKAGES, Provider
from edgekit.tasks.base import Array, Batch

# What runs on a device: the runner, and what it needs for energy, for TFLite, for GPUs and for profiles.
RUNNER_FILES = (
    *(Path(__file__).parent.parent / "devices" / name for name in (RUNNER, "meter.py")),
    *(Path(__file__).with_name(name) for name in ("tflite_graph.py", "gpu_graph.py", "ort_trace.py")),
)
WALL_CLOCK = "wall clock"
SMALLEST = '<ir_version: 8, opset_import: ["" : 17]> smallest (float[1] x) => (float[1] y) { y = Add(x, x) }'
# A device that says nothing for this long beyond its own time budget hangs; of several processes, each of those that
# have to be made may take so long.
GRACE_SECONDS = 300.0
# How many times what is enough for a slow model a device may take for the rounds that it has to make.
PATIENCE = 10
# Emulation costs up to 400 times the time of an inference, and twice that while instructions are counted.
EMULATION_SECONDS = 3600.0
# For the outputs of many inputs a device is given so long.
OUTPUT_SECONDS = 900.0


@dataclass(frozen=True)
class Subject:
    """A graph and what it is fed.

    Attributes:
        graph: its file.
        feeds: of one inference.
        beside: further files that the graph needs, such as external data.
        component: of a TFLite file, what the manifest says of it.
        profiled: whether the time of each operator is taken meanwhile; in onnxruntime on a processor only.
    """

    graph: Path
    feeds: Batch
    beside: tuple[Path, ...] = ()
    component: Component | None = None
    profiled: bool = False


@dataclass(frozen=True)
class Place:
    """Where something is measured.

    Attributes:
        device: the machine.
        runtime: the runtime there, by its name in the table of runtimes.
        threads: within one operator.
        provider: what computes in onnxruntime.
    """

    device: Device
    runtime: str = "onnxruntime"
    threads: int = 1
    provider: Provider = "cpu"

    @property
    def label(self) -> str:
        """As reports name it."""
        return self.device.label if self.provider == "cpu" else f"{self.device.label}, {self.provider}"

    @property
    def elsewhere(self) -> bool:
        """Whether something else computes there than what answers are computed with here: another machine, a GPU."""
        return self.provider != "cpu" or not self.local

    @property
    def local(self) -> bool:
        """Whether it is this machine."""
        return self.device.label == LocalDevice.label


def here(threads: int, runtime: str = "onnxruntime", provider: Provider = "cpu") -> Place:
    """This machine."""
    return Place(LocalDevice(), runtime, threads, provider)


@dataclass(frozen=True)
class Timing:
    """How latency is sampled: see ``measure_latency`` and ``wants_round`` of the runner.

    Nine is google/benchmark's least number of interleaved repetitions.
    """

    seconds: float = 8.0
    rounds: int = 25
    most_rounds: int = 200
    fewest_rounds: int = 9
    enough_seconds: float = 120.0
    block: int = 3
    warmup: int = 5
    seed: int = 0


class Packed(BaseModel):
    """An array as the runner prints it."""

    dtype: str
    shape: list[int]
    data: str

    def array(self) -> Array:
        """The array."""
        import numpy as np

        values: Array = np.frombuffer(base64.b64decode(self.data), dtype=np.dtype(self.dtype)).reshape(self.shape)
        return values


class CpuTimes(BaseModel):
    """Jiffies since boot, over all processors, and the runner's own (children included)."""

    total: float
    idle: float
    stolen: float
    own: float


class TracedOperator(BaseModel):
    """All nodes of a kind, with the milliseconds that they take together in each inference."""

    operator: str
    provider: str
    nodes: int
    ms: list[float]


class TracedNode(BaseModel):
    """One node: milliseconds that it takes in an inference, the median, and type and shape of what it read and wrote.

    Constants that the runtime packed for its kernels when it loaded the graph are in neither.
    """

    name: str
    operator: str
    provider: str
    reads: list[tuple[str, list[int]]] = []
    writes: list[tuple[str, list[int]]] = []
    ms: float


class Trace(BaseModel):
    """What a runtime says of its own time; nodes in the order in which they end."""

    operators: list[TracedOperator]
    nodes: list[TracedNode] = []


class Answer(BaseModel):
    """What the runner prints.

    Attributes:
        load_ms: time to load every subject, once the runtime is imported.
        peak_memory_bytes: of the runner's process.
        blocks_ms: for each subject, rounds of blocks of single inferences.
        clock: what measured them.
        cpu_times: of the machine there, before and after; empty where its system does not tell.
        instructions: for each subject, of each counted inference.
        kernels: for each subject, instructions of one inference by kernel class.
        outputs: for each subject, of each call.
        run_ms: what all these calls took, also by an emulator's clock.
        runtime_version: of the runtime there.
        host: the machine there, its system and its Python, as far as it told.
        traces: of each subject that was profiled.
        first_ms: from the start of the process to the end of its first inference, where it ran one subject for that.
        overhead_us: what the clock adds to each inference.
        energy_uj: for each subject, microjoules of one inference in each block; where counters can be read.
        processes: the answers of several processes that ran one after the other.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    load_ms: float
    peak_memory_bytes: int
    blocks_ms: dict[str, list[list[NonNegativeFloat]]] = {}
    clock: str = WALL_CLOCK
    cpu_times: tuple[CpuTimes, ...] = ()
    instructions: dict[str, list[int]] = {}
    kernels: dict[str, dict[str, int]] = {}
    outputs: dict[str, list[dict[str, Packed]]] = {}
    run_ms: float = 0.0
    runtime_version: str = ""
    host: dict[str, str] = {}
    traces: dict[str, Trace] = {}
    first_ms: float | None = None
    overhead_us: float | None = None
    energy_uj: dict[str, list[float | None]] = {}
    processes: tuple[Answer, ...] = ()


def time_subjects(subjects: Mapping[str, Subject], place: Place, timing: Timing) -> Answer:
    """Latency of several subjects, interleaved in one fresh process."""
    longest = max(timing.seconds, timing.enough_seconds) * PATIENCE
    return _run(subjects, place, {"what": "latency", **vars(timing)}, longest + GRACE_SECONDS)


def peak_memory(subject: Subject, place: Place) -> Answer:
    """Peak resident memory of a fresh process that loads a subject and runs it ten times."""
    return _run({"subject": subject}, place, {"what": "memory", "warmup": 10}, GRACE_SECONDS)


@dataclass(frozen=True)
class ProcessRun:
    """What one fresh process does.

    Attributes:
        subjects: names of those that it loads, in this order.
        asked: what it is asked for, as the runner takes it.
    """

    subjects: tuple[str, ...]
    asked: Mapping[str, Any]


def latency_run(names: Sequence[str], asked: Mapping[str, Any]) -> ProcessRun:
    """A process that times subjects, interleaved; ``asked`` is as in ``measure_latency`` of the runner."""
    return ProcessRun(tuple(names), {"what": "latency", **asked})


def start_run(name: str) -> ProcessRun:
    """A process that loads one subject, answers once, and nine times more: load, first answer and peak memory."""
    return ProcessRun((name,), {"what": "memory", "warmup": 10})


def run_processes(
    subjects: Mapping[str, Subject], place: Place, runs: Sequence[ProcessRun], *, seconds: float, fewest: int
) -> tuple[Answer, ...]:
    """Fresh processes one after the other, as many as there is time for and at least the fewest.

    Everything goes to the device once, where its runner can start processes; else once a process. ``seconds`` may be
    negative: what came before took longer than all was to take.
    """
    planned = max(0.0, seconds) * PATIENCE
    if not place.device.starts_processes:
        began, answers = time.monotonic(), list[Answer]()
        for run in runs:
            if len(answers) >= fewest and time.monotonic() - began > seconds:
                break
            own = {name: subjects[name] for name in run.subjects}
            answers.append(_run(own, place, dict(run.asked), planned + GRACE_SECONDS))
        return tuple(answers)
    listed = [{**run.asked, "subjects": list(run.subjects)} for run in runs]
    asked = {"what": "processes", "runs": listed, "seconds": seconds, "fewest": fewest}
    return _run(subjects, place, asked, planned + GRACE_SECONDS * max(1, fewest)).processes


def count_instructions(subjects: Mapping[str, Subject], place: Place, count: int, warmup: int = 1) -> Answer:
    """Instructions of ``count`` inferences of each subject, after ``warmup`` that are not counted; on an emulator."""
    return _run(subjects, place, {"what": "instructions", "warmup": warmup, "count": count}, EMULATION_SECONDS)


def run_calls(subject: Subject, calls: Sequence[Batch], place: Place) -> Answer:
    """Outputs of a subject for many inputs."""
    return _run({"subject": subject}, place, {"what": "outputs"}, calls_seconds(place), calls)


def calls_seconds(place: Place) -> float:
    """How long ``run_calls`` may take at a place."""
    return OUTPUT_SECONDS if place.device.timed else EMULATION_SECONDS


def try_provider(place: Place) -> None:
    """See that what computes at a place starts there: onnxruntime may have been built for it, and lack its libraries.

    Raises:
        HostError: it does not start.
    """
    import numpy as np
    import onnx

    model = onnx.parser.parse_model(SMALLEST)
    feeds: Batch = {"x": np.ones(1, np.float32)}
    with temporary() as folder:
        file = folder / "smallest.onnx"
        onnx.save(model, file)
        run_calls(Subject(file, feeds), [feeds], place)


def _run(
    subjects: Mapping[str, Subject],
    place: Place,
    what: dict[str, Any],
    seconds: float,
    calls: Sequence[Batch] | None = None,
) -> Answer:
    """Lay out the folder that goes to the device, run it there, and read the answer."""
    with temporary() as folder:
        listed = {
            key: _lay_out(folder, number, subject, [subject.feeds] if calls is None else calls, place)
            for number, (key, subject) in enumerate(subjects.items())
        }
        hashes = {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        spec = {
            **what,
            "runtime": place.runtime,
            "package": PACKAGES[place.runtime],
            "providers": EXECUTION_PROVIDERS[place.provider],
            "threads": place.threads,
            "subjects": listed,
            "sha256": hashes,
        }
        (folder / SPEC).write_text(json.dumps(spec), encoding="utf-8")
        for file in RUNNER_FILES:
            shutil.copyfile(file, folder / file.name)
        printed = place.device.execute(folder, seconds)
    try:
        answer = Answer.model_validate_json(printed)
        check_texts(answer.host)
        if what["what"] == "processes" and not answer.processes:
            raise ValueError("it ran no process")
        return answer
    except ValueError as error:
        raise HostError(
            f"{place.device.label} gave no answer that can be read",
            id="environment.measuring",
            why=printed.strip()[:200] or "it printed nothing",
        ) from error


def _lay_out(folder: Path, number: int, subject: Subject, calls: Sequence[Batch], place: Place) -> dict[str, Any]:
    """Copy a subject's files into a folder of its own, with its inputs."""
    import numpy as np

    own = folder / str(number)
    own.mkdir()
    for path in (subject.graph, *subject.beside):
        copy = own / path.relative_to(subject.graph.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    feeds = {f"{index}/{name}": values for index, call in enumerate(calls) for name, values in call.items()}
    np.savez(own / "feeds.npz", **feeds)  # type: ignore[arg-type]  # names are inputs, not flags
    laid_out: dict[str, Any] = {"graph": f"{number}/{subject.graph.name}", "feeds": f"{number}/feeds.npz"}
    if subject.component is not None:
        laid_out["component"] = subject.component.model_dump(mode="json")
    if subject.profiled:
        laid_out["profiled"] = True
    if place.provider != "cpu":
        laid_out["types"] = sorted(weight_bytes(subject.graph))
    return laid_out
