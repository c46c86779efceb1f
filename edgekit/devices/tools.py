"""The runtimes' own timing tools, which stand for the runner where there is no Python: how each is called and read.

``onnxruntime_perf_test`` (onnxruntime) and ``benchmark_model`` (TFLite, now LiteRT) are built from their runtimes'
sources. Here both were read and not run: what they print is taken from their sources and from outputs that others have
published. Output of another form is an error that shows it; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.formats.flatbuffer import Model, Tensor, load_model

NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
# A tool's report of one session: seconds; and a line of its result file: model, seconds, peak bytes, processor, number.
SESSION = re.compile(rf"^Session creation time cost: {NUMBER} s$", re.MULTILINE)
ROW = re.compile(rf"^[^,]*,{NUMBER},([0-9]+),-?[0-9]+,([0-9]+)$")
# Microseconds, the warm-up's line first, then the measured runs'; ``first`` is left out where all were alike.
COUNTS = re.compile(r"\bcount=([0-9]+)(?: first=([0-9]+))? curr=([0-9]+)")
TIMINGS = re.compile(
    rf"Inference timings in us: Init: ([0-9]+), First inference: [0-9]+, Warmup \(avg\): {NUMBER},"
    rf" Inference \(avg\): {NUMBER}"
)
PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {NUMBER}")
# A mean is printed with six digits.
ROUNDING = 1e-4


class UnreadableError(ValueError):
    """A tool printed something else than it is known to print."""


@dataclass(frozen=True)
class Call:
    """One call of a tool, which is a process of its own on the device.

    Attributes:
        graph: path there.
        inputs: what ``lay_out`` gave for it.
        warmup, count: inferences before, and those that are measured.
        threads: within one operator.
        memory: whether peak memory is asked for; watching it costs time.
    """

    graph: str
    inputs: tuple[str, ...]
    warmup: int
    count: int
    threads: int
    memory: bool = False


@dataclass(frozen=True)
class Measured:
    """What one call gave.

    Attributes:
        load_ms: time to load the graph.
        samples_ms: single inferences, those of the warm-up left out.
        peak_memory_bytes: of the tool's process; 0 where it did not say.
    """

    load_ms: float
    samples_ms: list[float]
    peak_memory_bytes: int


class Tool(ABC):
    """A timing tool.

    Attributes:
        name: of the program.
        most: single inferences that it can tell apart in one call; None for any number.
    """

    name: str
    most: int | None = None

    @abstractmethod
    def lay_out(self, graph: Path, feeds: Mapping[str, Any]) -> tuple[str, ...]:
        """Write inputs beside a graph as the tool reads them; the arguments that name them, by paths in its folder.

        Raises:
            ModelError: the graph does not take them.
        """

    @abstractmethod
    def arguments(self, call: Call, result: str) -> list[str]:
        """What follows the program's name; ``result`` is a file that it may write."""

    @abstractmethod
    def read(self, printed: str, result: str, call: Call) -> Measured:
        """What it printed and what it wrote, as figures.

        Raises:
            UnreadableError: it is not what the tool is known to print.
        """


class PerfTest(Tool):
    """onnxruntime's tool. Its result file has one line an inference."""

    name = "onnxruntime_perf_test"

    def lay_out(self, graph: Path, feeds: Mapping[str, Any]) -> tuple[str, ...]:
        """See ``Tool``. Every folder beside the graph is a set of inputs to it, one that holds weights too."""
        from onnx import numpy_helper

        sets = [path for path in graph.parent.iterdir() if path.is_dir()] or [graph.parent / "test_data_set_0"]
        for place in sets:
            place.mkdir(exist_ok=True)
            for number, (name, values) in enumerate(feeds.items()):
                tensor = numpy_helper.from_array(values, name)
                (place / f"input_{number}.pb").write_bytes(tensor.SerializeToString())
        return ()

    def arguments(self, call: Call, result: str) -> list[str]:
        count = str(call.warmup + call.count)
        return ["-e", "cpu", "-m", "times", "-r", count, "-x", str(call.threads), call.graph, result]

    def read(self, printed: str, result: str, call: Call) -> Measured:
        session = SESSION.search(printed)
        rows = [ROW.match(line.strip()) for line in result.splitlines() if line.strip()]
        found = [row for row in rows if row is not None]
        numbers = [int(row[3]) for row in found]
        if session is None or len(found) != len(rows) or numbers != list(range(call.warmup + call.count)):
            raise UnreadableError(f"{result.strip()}\n{printed}")
        samples = [float(row[1]) * 1e3 for row in found]
        return Measured(float(session[1]) * 1e3, samples[call.warmup :], max(int(row[2]) for row in found))


class BenchmarkModel(Tool):
    """TFLite's tool. It prints the first and the last of its inferences, so that two can be told apart."""

    name = "benchmark_model"
    most = 2

    def lay_out(self, graph: Path, feeds: Mapping[str, Any]) -> tuple[str, ...]:
        """See ``Tool``. The smallest signature that the inputs fit into is run, with zeros behind them.

        The tool goes by the order of the graph's inputs and not by their names. An integer input that is fed floats is
        left to it: it draws values of the right type.
        """
        model = load_model(graph)
        fitting = {key: taken for key in model.entries if _fits(feeds, taken := _inputs(model, key))}
        if not fitting:
            raise ModelError(
                f"{graph.name!r} does not take the inputs",
                id="model.does-not-load",
                why=", ".join(f"{name} {list(values.shape)}" for name, values in feeds.items()),
                hint="Export it with a length and a batch that hold them.",
            )
        key = min(fitting, key=lambda one: sum(_size(tensor.shape) for tensor in fitting[one].values()))
        names, shapes, files = [], [], []
        for number, (name, tensor) in enumerate(fitting[key].items()):
            values = _filled(feeds[name], tensor.shape)
            names.append(f"input_{number}")
            shapes.append(",".join(map(str, values.shape)))
            if tensor.dtype == str(values.dtype) or ("int" in tensor.dtype and values.dtype.kind in "iu"):
                file = graph.parent / f"input_{number}.bin"
                file.write_bytes(values.astype(tensor.dtype).tobytes())
                files.append(f"input_{number}:{graph.parent.name}/{file.name}")
        inputs = [f"--input_layer={','.join(names)}", f"--input_layer_shape={':'.join(shapes)}"]
        inputs += [f"--input_layer_value_files={','.join(files)}"] if files else []
        return (*inputs, *([f"--signature_to_run_for={key}"] if len(model.signatures) > 1 else []))

    def arguments(self, call: Call, result: str) -> list[str]:
        del result
        flags = {
            "graph": call.graph,
            "num_threads": call.threads,
            "warmup_runs": call.warmup,
            "warmup_min_secs": 0,
            "num_runs": call.count,
            "min_secs": 0,
            **({"report_peak_memory_footprint": "true"} if call.memory else {}),
        }
        return [*(f"--{name}={value}" for name, value in flags.items()), *call.inputs]

    def read(self, printed: str, result: str, call: Call) -> Measured:
        del result
        timings, counts = TIMINGS.search(printed), COUNTS.findall(printed)
        peak = PEAK.search(printed)
        if timings is None or not counts or (call.memory and peak is None):
            raise UnreadableError(printed)
        count, first, last = counts[-1]
        samples = [float(last)] if call.count == 1 else [float(first or last), float(last)]
        mean, said = sum(samples) / len(samples), float(timings[3])
        if int(count) != len(samples) or abs(mean - said) > ROUNDING * said:
            raise UnreadableError(printed)
        peak_bytes = int(float(peak[1]) * 1024 * 1024) if peak else 0
        return Measured(float(timings[1]) / 1e3, [sample / 1e3 for sample in samples], peak_bytes)


def _inputs(model: Model, key: str) -> dict[str, Tensor]:
    """A signature's inputs by their names, in the order of its graph."""
    entry = model.entries[key]
    names = {index: name for name, index in entry.inputs.items()}
    graph = model.graphs[entry.graph]
    return {names[index]: graph.tensors[index] for index in graph.inputs if index in names}


def _fits(feeds: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> bool:
    """Whether a signature's inputs hold these; -1 holds any size."""
    return feeds.keys() == inputs.keys() and all(
        len(tensor.shape) == feeds[name].ndim
        and all(dim == -1 or dim >= size for dim, size in zip(tensor.shape, feeds[name].shape, strict=True))
        for name, tensor in inputs.items()
    )


def _size(shape: tuple[int, ...]) -> int:
    """Elements of a tensor, a free dimension counted as one."""
    return math.prod(max(dim, 1) for dim in shape)


def _filled(values: Any, shape: tuple[int, ...]) -> Any:
    """An array with zeros behind it, up to a shape."""
    import numpy as np

    return np.pad(values, [(0, max(dim - size, 0)) for dim, size in zip(shape, values.shape, strict=True)])


# The tool of each runtime, by the runtime's name.
TOOLS: dict[str, Tool] = {"onnxruntime": PerfTest(), "litert": BenchmarkModel(), "tflite-runtime": BenchmarkModel()}
