"""What the regression gate is worth: false alarms, what it finds, under load, and on traces whose truth is known.

python benchmarks/gate.py false-alarms --count 300            # quiet; --load bursty; --budget 10
python benchmarks/gate.py power --change 3 --count 100        # a slower model; --change -3: a faster one; --model five
python benchmarks/gate.py hogs --change 10 --count 100        # four hogs
python benchmarks/gate.py emulated --change 2 --count 20      # instructions of an emulated arm64 processor
python benchmarks/gate.py traces                              # throttling, warming up and drift; computed
python benchmarks/gate.py simulate                            # the gate with its looks on drawn processes; computed
python benchmarks/gate.py overhead                            # what the harness adds to an inference
python benchmarks/gate.py report                              # what the results say

Each gate is one line of `results/gate.jsonl`; what is there already from the same code is not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gate_load import load
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.environment import code_digest, host
from edgekit.gate.record import BenchRecord

GATE = Path(edgekit.__file__).parent / "gate"
RESULTS = Path(__file__).parent / "results" / "gate.jsonl"
# Layers, rows and width of a chain of products: about 0.1, 1 and 5 ms on a processor of 2023.
MODELS = {"tenth": (200, 1, 32), "one": (200, 8, 128), "five": (200, 32, 160)}
PERCENT = 100.0


def write_chain(file: Path, layers: int, rows: int, width: int) -> Path:
    """y [rows, width] = x through so many products with a ReLU each: its time is linear in the layers."""
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


def time_chains(files: dict[int, Path], rounds: int = 400) -> dict[int, float]:
    """The median milliseconds of each, in turns in this process, over several copies."""
    from edgekit.devices.runner import OnnxGraph, measure_latency

    calls: dict[str, Any] = {}
    for layers, file in files.items():
        shape = onnx.load(file, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
        feeds = {"r0": np.ones([one.dim_value for one in shape], np.float32)}
        copies = [OnnxGraph({"graph": str(file)}, 1) for _ in range(8)]
        calls[str(layers)] = [lambda run=run, feeds=feeds: run(feeds) for run in copies]
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


def make_pair(folder: Path, model: str, change: float) -> tuple[Path, Path, float]:
    """A baseline and a candidate that is slower (or faster) by about so many percent; what it truly is, by a fit.

    Of chains of 100, 150 and 200 layers the time of a layer is fitted; so many layers are added that it is the change.
    """
    layers, rows, width = MODELS[model]
    baseline = write_chain(folder / "baseline.onnx", layers, rows, width)
    if not change:
        candidate = folder / "candidate.onnx"
        candidate.write_bytes(baseline.read_bytes())
        return baseline, candidate, 0.0
    lengths = (layers // 2, layers * 3 // 4, layers)
    files = {length: write_chain(folder / f"{length}.onnx", length, rows, width) for length in lengths}
    times = time_chains(files)
    slope, base = np.polyfit(list(times), list(times.values()), 1)
    whole = base + slope * layers
    added = round(change / PERCENT * whole / slope)
    candidate = write_chain(folder / "candidate.onnx", layers + added, rows, width)
    return baseline, candidate, added * slope / whole * PERCENT


def code() -> str:
    """sha256 of what decides a gate: the package's own digest leaves out the folder of the gate."""
    digest = hashlib.sha256(code_digest().encode())
    for file in sorted(GATE.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def done(key: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a kind, of this code and this machine."""
    if not RESULTS.exists():
        return []
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    wanted = {**key, "code": code(), "host": host().fingerprint}
    return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]


def keep(line: dict[str, Any]) -> None:
    line = {**line, "edgekit": edgekit.__version__, "code": code(), "host": host().fingerprint}
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def line_of(record: BenchRecord, name: str) -> dict[str, Any]:
    found = record.metric(name)
    assert found is not None
    return {
        "verdict": found.verdict,
        "delta": found.delta,
        "delta_ci": found.delta_ci,
        "value": found.value,
        "processes": record.protocol.processes,
        "looks": record.protocol.looks,
        "stopped": record.protocol.stopped,
        "spent_s": record.protocol.spent_s,
        "warnings": len(record.warnings),
    }


def run_gates(options: argparse.Namespace, *, hogs: int, bursts: bool) -> None:
    """Gates until so many are kept."""
    key = {name: getattr(options, name) for name in ("what", "model", "change", "load", "budget")}
    if len(done(key)) >= options.count:
        report(key)
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        baseline, candidate, truth = make_pair(Path(name), options.model, options.change)
        with load(hogs, bursts=bursts) if hogs else contextlib.nullcontext():
            while len(rows := done(key)) < options.count:
                gate = {"gate": "latency.p50=1%", "budget_s": options.budget, "seed": len(rows)}
                record = edgekit.bench(candidate, baseline=baseline, **gate)
                keep({**key, "seed": len(rows), "truth": truth, **line_of(record, "latency.p50")})
                print(len(rows) + 1, record.verdict, record.metric("latency.p50").delta_ci, flush=True)  # type: ignore[union-attr]
    report(key)


def emulated(options: argparse.Namespace) -> None:
    """Instructions under emulation; the truth is known from the layers."""
    key = {"what": "emulated", "change": options.change}
    layers, rows, width = 50, 4, 64
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        baseline = write_chain(Path(name) / "baseline.onnx", layers, rows, width)
        added = round(layers * options.change / PERCENT)
        candidate = write_chain(Path(name) / "candidate.onnx", layers + added, rows, width)
        while len(found := done(key)) < options.count:
            where = {"target": "arm64", "device": "emulated"}
            record = edgekit.bench(candidate, baseline=baseline, gate="instructions=1%", **where)
            truth = added / layers * PERCENT
            keep({**key, "seed": len(found), "truth": truth, **line_of(record, "instructions")})
            print(len(found) + 1, record.verdict, record.metric("instructions").delta, flush=True)  # type: ignore[union-attr]
    report(key)


def report(key: dict[str, Any]) -> None:
    """What the lines of a kind say."""
    rows = [row for row in done(key) if "verdict" in row]  # what is computed or timed says itself what it found
    if not rows:
        return
    verdicts = Counter(row["verdict"] for row in rows)
    spent = [row["spent_s"] for row in rows if row["spent_s"] is not None]
    told = ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common())
    seconds = f"; seconds a gate: median {statistics.median(spent):.1f}, most {max(spent):.1f}" if spent else ""
    print(f"{json.dumps(key)}: {len(rows)} gates: {told}{seconds}")


def report_all() -> None:
    names = ("what", "model", "change", "load", "budget")
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []
    for key in {json.dumps({name: line[name] for name in names if name in line}): None for line in lines}:
        report(json.loads(key))


def overhead() -> None:
    """An inference as the harness tells it beside a bare loop's, in turns, ten at a time.

    Whatever else runs only adds time, to long pieces more than to short ones: so of both the tenth of the pieces that
    took least is compared.
    """
    from edgekit.devices.runner import OnnxGraph, measure_latency

    length, pieces = 10, 2000
    spec = {"seed": 0, "warmup": 1, "block": length, "seconds": 0.0, "enough_seconds": 60.0}
    spec |= dict.fromkeys(("rounds", "most_rounds", "fewest_rounds"), 1)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        for layers in (1, 20, 200):
            file = write_chain(Path(name) / f"{layers}.onnx", layers, 1, 32)
            graph, feeds = OnnxGraph({"graph": str(file)}, 1), {"r0": np.ones((1, 32), np.float32)}
            session, names = graph._session, graph._names
            told, bare = [], []
            for _ in range(pieces):
                (block,) = measure_latency({"m": lambda graph=graph, feeds=feeds: graph(feeds)}, spec)["m"]
                told.append(statistics.fmean(block) * 1e3)
                session.run(names, feeds)  # as the harness does before each block
                began = time.perf_counter()
                for _ in range(length):
                    session.run(names, feeds)
                bare.append((time.perf_counter() - began) / length * 1e6)
            alone = float(np.quantile(bare, 0.1))
            added = float(np.quantile(told, 0.1)) - alone
            print(f"{layers} layers: bare {alone:.2f} us, the harness {added:+.2f} us ({added / alone:+.1%})")
            keep({"what": "overhead", "layers": layers, "bare_us": alone, "added_us": added})


def main() -> None:
    from gate_computed import simulate, traces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ("false-alarms", "power", "hogs", "emulated", "traces", "simulate", "overhead", "report")
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--budget", type=float, default=None)
    parser.add_argument("--change", type=float, default=None, help="percent")
    parser.add_argument("--load", choices=("quiet", "bursty"), default="quiet")
    parser.add_argument("--model", choices=MODELS, default="tenth")
    options = parser.parse_args()
    defaults = {"false-alarms": (300, 10.0, 0.0), "power": (100, 60.0, 3.0), "hogs": (100, 60.0, 10.0)}
    count, budget, change = defaults.get(options.what, (20, None, 2.0))
    options.count = count if options.count is None else options.count
    options.budget = budget if options.budget is None else options.budget
    options.change = change if options.change is None else options.change
    if options.what == "hogs":
        options.load = "four hogs"
    if options.what in defaults:
        bursty = options.load == "bursty"
        run_gates(options, hogs={"quiet": 0, "bursty": 3}.get(options.load, 4), bursts=bursty)
        return
    computed: dict[str, Iterator[dict[str, Any]]] = {"traces": traces(), "simulate": simulate(options.count)}
    if options.what in computed:
        for line in computed[options.what]:
            print(json.dumps(line), flush=True)
            keep(line)
        return
    {"emulated": lambda: emulated(options), "overhead": overhead, "report": report_all}[options.what]()


if __name__ == "__main__":
    main()
