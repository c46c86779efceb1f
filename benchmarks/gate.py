"""What the regression gate is worth: false alarms, what it finds, under load, and on traces whose truth is known.

python benchmarks/gate.py idle                 # 300 gates of a model against itself
python benchmarks/gate.py bursty               # the same beside others that compute in bursts
python benchmarks/gate.py slower-3             # 100 gates of a model that is 3 % slower; slower-5, faster-3, faster-5
python benchmarks/gate.py hogs                 # 100 gates of one that is 10 % slower, beside four hogs
python benchmarks/gate.py emulated             # 20 gates by instructions of an emulated arm64 processor
python benchmarks/gate.py stored               # a model in 12 sessions, each against the result of each other
python benchmarks/gate.py traces               # throttling, warming up and drift; computed
python benchmarks/gate.py answers              # accuracy on 500 samples: a fifth of a point, and three points; computed
python benchmarks/gate.py simulate             # the gate with its looks on drawn processes; computed
python benchmarks/gate.py overhead             # what the harness adds to an inference
python benchmarks/gate.py report               # what the results say, and whether it is what they have to

`--model five` is a model of 5 ms, `one` of one; `--format tflite` takes two .tflite files; `--budget` and `--count` are
other ones than a part's own. Each gate is one line of `results/gate.jsonl`; a part goes on where it was stopped, and
ends when it is certain what it shows.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gate_evidence import Rule, done, keep, state_of
from gate_load import load
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.gate.figures import Comparison
from edgekit.gate.margins import default_margins
from edgekit.gate.record import BenchRecord, Series
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
        "disturbed": record.protocol.disturbed,
    }


@dataclass(frozen=True)
class Part:
    """Gates of a kind, and what they have to show.

    Attributes:
        rules: all have to hold; the part ends as soon as it is certain that they do, or that one does not.
        change: of the candidate, in percent; slower where it is positive.
        count: gates.
        budget: seconds of each.
        hogs: how many others compute meanwhile.
        bursts: whether they pause.
    """

    rules: tuple[Rule, ...]
    change: float = 0.0
    count: int = 100
    budget: float = 60.0
    hogs: int = 0
    bursts: bool = False


NO_ALARM = Rule(("pass", "inconclusive"), 1.0)
PARTS = {
    "idle": Part((NO_ALARM,), count=300, budget=10.0),
    "bursty": Part((NO_ALARM,), count=300, budget=10.0, hogs=3, bursts=True),
    "slower-3": Part((Rule(("regression",), 0.90),), 3.0),
    "slower-5": Part((Rule(("regression",), 0.99),), 5.0),
    "faster-3": Part((Rule(("improvement",), 0.90),), -3.0),
    "faster-5": Part((Rule(("improvement",), 0.99),), -5.0),
    "hogs": Part(
        (Rule(("regression", "inconclusive"), 0.99), Rule(("regression", "pass", "improvement"), 0.50)), 10.0, hogs=4
    ),
}
EMULATED = Part((Rule(("regression",), 1.0),), 2.0, count=20)


def key_of(name: str, part: Part, model: str, ending: str) -> dict[str, Any]:
    """What the lines of a part have in common."""
    what = name if ending == "onnx" else f"{name}-{ending}"
    return {"what": what, "model": model, "change": part.change, "budget": part.budget}


def run_gates(name: str, part: Part, model: str, ending: str) -> None:
    """Gates until it is certain what they show."""
    key = key_of(name, part, model, ending)
    while_loaded = load(part.hogs, bursts=part.bursts) if part.hogs else contextlib.nullcontext()
    if settled(key, part):
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        baseline, candidate, truth = make_pair(Path(folder), model, part.change, ending)
        with while_loaded:
            while not settled(key, part):
                seed = len(done(key))
                gate = {"gate": "latency.p50=1%", "budget_s": part.budget, "seed": seed}
                record = edgekit.bench(candidate, baseline=baseline, **gate)
                keep({**key, "seed": seed, "truth": truth, **line_of(record, "latency.p50")})
                print(seed + 1, record.verdict, record.metric("latency.p50").delta_ci, flush=True)  # type: ignore[union-attr]


def emulated(part: Part) -> None:
    """Instructions under emulation; the truth is known from the layers."""
    key = {"what": "emulated", "change": part.change}
    layers, rows, width = 50, 4, 64
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        baseline = write_chain(Path(name) / "baseline.onnx", layers, rows, width)
        added = round(layers * part.change / PERCENT)
        candidate = write_chain(Path(name) / "candidate.onnx", layers + added, rows, width)
        while not settled(key, part):
            where = {"target": "arm64", "device": "emulated"}
            record = edgekit.bench(candidate, baseline=baseline, gate="instructions=1%", **where)
            truth, seed = added / layers * PERCENT, len(done(key))
            keep({**key, "seed": seed, "truth": truth, **line_of(record, "instructions")})
            print(seed + 1, record.verdict, record.metric("instructions").delta, flush=True)  # type: ignore[union-attr]


def settled(key: dict[str, Any], part: Part) -> bool:
    """Whether it is certain what a part shows; then it is told."""
    state = state_of(part.rules, [line["verdict"] for line in done(key)], part.count)
    if state != "open":
        report(key, part)
    return state != "open"


def stored(sessions: int, model: str) -> None:
    """One model in sessions of its own, each against the result of each other one, at the default margin.

    Pairs of sessions are not independent: so many sessions tell less than so many pairs would.
    """
    key = {"what": "stored", "model": model}
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        file = write_chain(Path(name) / "model.onnx", *MODELS[model])
        while len(done(key)) < sessions:
            record = edgekit.bench(file, seed=len(done(key)))
            series = record.series("latency.p50", "model", "candidate")
            assert series is not None
            processes = [[round(one, 5) for one in process] for process in series.processes]
            keep({**key, "processes": processes, "disturbed": record.protocol.disturbed})
            print(len(done(key)), record.metric("latency.p50").value, flush=True)  # type: ignore[union-attr]
    lines = done(key)
    comparison = Comparison(default_margins(timed=True, data=False, stored=True), False)
    told: Counter[str] = Counter()
    for now, before in itertools.permutations(lines, 2):
        doubt = "" if set(now["disturbed"]) == set(before["disturbed"]) else "disturbed in other ways"
        sides = (Series(metric="latency.p50", unit="ms", processes=one["processes"]) for one in (now, before))
        told[str(comparison.metric(*sides, 1, doubt).verdict)] += 1
    medians = [statistics.median(itertools.chain(*line["processes"])) for line in lines]
    spread = max(medians) / min(medians) - 1
    print(f"{len(lines)} sessions, medians within {spread:.2%}; gates of each against each: {dict(told)}")


def report(key: dict[str, Any], part: Part) -> None:
    """What the lines of a part say, and what they have to."""
    rows = done(key)
    verdicts = [row["verdict"] for row in rows]
    told = ", ".join(f"{verdict} {count}" for verdict, count in Counter(verdicts).most_common()) or "nothing yet"
    spent = [row["spent_s"] for row in rows if row.get("spent_s") is not None]
    seconds = f"; seconds a gate: median {statistics.median(spent):.1f}, most {max(spent):.1f}" if spent else ""
    gates = f"{len(rows)} gates, {sum(bool(row.get('disturbed')) for row in rows)} of them disturbed"
    for rule in part.rules:
        state = rule.state(verdicts, part.count)
        print(f"{json.dumps(key)}: {gates}: {told}{seconds}; {rule.words} of {part.count}: {state}")


def report_all(model: str, ending: str) -> None:
    """Every part of gates."""
    for name, part in PARTS.items():
        report(key_of(name, part, model, ending), part)
    report({"what": "emulated", "change": EMULATED.change}, EMULATED)


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
    from gate_computed import answers, simulate, traces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    others = ("emulated", "stored", "traces", "answers", "simulate", "overhead", "report")
    parser.add_argument("what", choices=(*PARTS, *others))
    parser.add_argument("--count", type=int, default=None, help="gates, or sessions")
    parser.add_argument("--budget", type=float, default=None, help="seconds of a gate")
    parser.add_argument("--model", choices=MODELS, default="tenth")
    parser.add_argument("--format", choices=("onnx", "tflite"), default="onnx", help="of both sides")
    options = parser.parse_args()
    given = {name: value for name in ("count", "budget") if (value := getattr(options, name)) is not None}
    if options.what in PARTS:
        run_gates(options.what, replace(PARTS[options.what], **given), options.model, options.format)
        return
    computed: dict[str, Iterator[dict[str, Any]]] = {
        "traces": traces(),
        "answers": answers(),
        "simulate": simulate(options.count),
    }
    if options.what in computed:
        for line in computed[options.what]:
            print(json.dumps(line), flush=True)
            keep(line)
        return
    {
        "emulated": lambda: emulated(replace(EMULATED, **given)),
        "stored": lambda: stored(options.count or 12, options.model),
        "overhead": overhead,
        "report": lambda: report_all(options.model, options.format),
    }[options.what]()


if __name__ == "__main__":
    main()
