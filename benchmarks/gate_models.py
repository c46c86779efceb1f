"""Models that gates are tried on: chains of products, whose time is known by the number of their layers."""

from __future__ import annotations

import functools
import itertools
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.measure.subjects import subjects_at
from edgekit.tasks.base import Workload

# Layers, rows and width of a chain of products: about 0.1, 1 and 5 ms on a processor of 2023.
MODELS = {"tenth": (200, 1, 32), "one": (200, 8, 128), "five": (200, 32, 160)}
PERCENT = 100.0


def write_chain(file: Path, layers: int, rows: int, width: int) -> Path:
    """y [rows, width] = x through so many products with a ReLU each: its time is linear in the layers."""
    if file.suffix == ".tflite":
        return write_tflite_chain(file, layers, rows, width)
    draw = np.random.default_rng(0)
    nodes, weights = [], []
    for layer in range(layers):
        values = draw.normal(0, width**-0.5, (width, width)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"r{layer}", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer + 1}"]))
    shape = [rows, width]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("r0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"r{layers}", TensorProto.FLOAT, shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def write_tflite_chain(file: Path, layers: int, rows: int, width: int) -> Path:
    """The same as a TFLite file."""
    import torch

    from edgekit.formats.tflite_export import export_component
    from edgekit.tasks.base import ComponentSpec

    torch.manual_seed(0)
    pairs = [(torch.nn.Linear(width, width, bias=False), torch.nn.ReLU()) for _ in range(layers)]
    chain = torch.nn.Sequential(*itertools.chain(*pairs)).eval()
    export_component(ComponentSpec(chain, {"input": torch.ones(rows, width)}, {}, ("y",)), file)
    return file


def time_chains(files: dict[int, Path], rounds: int = 400) -> dict[int, float]:
    """The median milliseconds of each, in turns in this process, over several copies."""
    from edgekit.devices.runner import LOADERS, measure_latency

    sys.path.append(
        str(Path(edgekit.__file__).parent / "runtimes")
    )  # of TFLite files, as the runner finds it beside it
    calls: dict[str, Any] = {}
    for layers, file in files.items():
        subject = subjects_at(file, Workload())["model"]
        loaded = {"graph": str(file), "component": subject.component and subject.component.model_dump(mode="json")}
        load = LOADERS["litert" if file.suffix == ".tflite" else "onnxruntime"]
        calls[str(layers)] = [functools.partial(load(loaded, 1), subject.feeds) for _ in range(8)]
    spec = {
        "seed": 0,
        "warmup": 5,
        "block": 5,
        "block_ms": 3.0,
        "rounds": rounds,
        "seconds": 0.0,
        "most_rounds": rounds,
    }
    blocks = measure_latency(calls, {**spec, "fewest_rounds": rounds, "enough_seconds": 600.0})
    return {int(name): statistics.median(map(statistics.median, found)) for name, found in blocks.items()}


def make_pair(folder: Path, model: str, change: float, ending: str = "onnx") -> tuple[Path, Path, float]:
    """A baseline and a candidate that is slower (or faster) by about so many percent; what it truly is, by a fit.

    Of chains of 100, 150 and 200 layers the time of a layer is fitted; so many layers are added that it is the change.
    """
    layers, rows, width = MODELS[model]
    baseline = write_chain(folder / f"baseline.{ending}", layers, rows, width)
    if not change:
        candidate = folder / f"candidate.{ending}"
        candidate.write_bytes(baseline.read_bytes())
        return baseline, candidate, 0.0
    lengths = (layers // 2, layers * 3 // 4, layers)
    files = {length: write_chain(folder / f"{length}.{ending}", length, rows, width) for length in lengths}
    times = time_chains(files)
    slope, base = np.polyfit(list(times), list(times.values()), 1)
    whole = base + slope * layers
    added = round(change / PERCENT * whole / slope)
    candidate = write_chain(folder / f"candidate.{ending}", layers + added, rows, width)
    return baseline, candidate, added * slope / whole * PERCENT
