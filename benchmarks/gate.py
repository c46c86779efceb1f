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
python benchmarks/gate.py all                  # whatever the report does not have yet, then the report

`--model five` is a model of 5 ms, `one` of one; `--format tflite` takes two .tflite files; `--budget` and `--count` are
other ones than a part's own. Each gate is one line of `results/gate.jsonl`; a part goes on where it was stopped, and
ends sooner where it is certain that it does not show what it has to. The exit code is 0 where it does, and else 1.

A gate of `idle` in which the machine was not quiet counts only if it is a false alarm; after ten such gates in a row
the part ends, for another day.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gate_computed import answers, simulate, traces
from gate_evidence import CLAIMS, OVERHEAD_LAYERS, Claim, Rule, State, alone, done, keep, origin, worst
from gate_load import load
from gate_models import MODELS, PERCENT, make_pair, write_chain

import edgekit
from edgekit.gate.figures import Comparison
from edgekit.gate.margins import default_margins
from edgekit.gate.record import BenchRecord, Series

# So many gates in a row in which the machine was not quiet end a part that wants it idle.
MOST_DISTURBED = 10


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
        rules: all have to hold; the part ends as soon as it is certain that one does not.
        change: of the candidate, in percent; slower where it is positive.
        count: gates.
        budget: seconds of the times of each.
        within_s: most seconds of each, with all that is done before and after.
        hogs: how many others compute meanwhile.
        bursts: whether they pause.
        idle: whether a gate that is right counts only where nothing else was seen to run.
    """

    rules: tuple[Rule, ...]
    change: float = 0.0
    count: int = 100
    budget: float = 60.0
    within_s: float = math.inf
    hogs: int = 0
    bursts: bool = False
    idle: bool = False

    def counts(self, row: dict[str, Any]) -> bool:
        """Whether a gate counts."""
        return not (self.idle and row["disturbed"] and all(row["verdict"] in rule.verdicts for rule in self.rules))

    def state(self, rows: Sequence[dict[str, Any]]) -> State:
        """What gates show."""
        counted = [row for row in rows if self.counts(row)]
        slow: list[State] = ["fails"] if any(row["took_s"] > self.within_s for row in counted) else []
        return worst((*slow, *(rule.state((row["verdict"] for row in counted), self.count) for rule in self.rules)))


NO_ALARM = Rule(("pass", "inconclusive"), 1.0)
# A gate takes a few seconds more than its budget, which is for the times.
WITHIN = {"budget": 54.0, "within_s": 60.0}
PARTS = {
    "idle": Part((NO_ALARM,), count=300, budget=10.0, idle=True),
    "bursty": Part((NO_ALARM,), count=300, budget=10.0, hogs=3, bursts=True),
    "slower-3": Part((Rule(("regression",), 0.90),), 3.0, **WITHIN),
    "slower-5": Part((Rule(("regression",), 0.99),), 5.0, **WITHIN),
    "faster-3": Part((Rule(("improvement",), 0.90),), -3.0, **WITHIN),
    "faster-5": Part((Rule(("improvement",), 0.99),), -5.0, **WITHIN),
    "hogs": Part(
        (Rule(("regression", "inconclusive"), 0.99), Rule(("regression", "pass", "improvement"), 0.50)), 10.0, hogs=4
    ),
}
EMULATED = Part((Rule(("regression",), 1.0),), 2.0, count=20)
# Of one model, each compared with each other.
SESSIONS = 12
# What has to be shown: the part, the model, the format, and of how many gates.
CHANGED = ("slower-3", "slower-5", "faster-3", "faster-5")
SHOWN = (
    *((name, "tenth", "onnx", part.count) for name, part in PARTS.items()),
    *((name, "five", "onnx", PARTS[name].count) for name in CHANGED),
    *((name, "tenth", "tflite", 20) for name in ("idle", "slower-5", "faster-5")),
)


def key_of(name: str, part: Part, model: str, ending: str) -> dict[str, Any]:
    """What the lines of a part have in common."""
    what = name if ending == "onnx" else f"{name}-{ending}"
    shape = list(MODELS[model])
    return {"what": what, "model": model, "shape": shape, "change": part.change, "budget": part.budget}


def run_gates(name: str, part: Part, model: str, ending: str) -> State:
    """Gates until it is known what they show."""
    key, in_a_row = key_of(name, part, model, ending), 0
    while_loaded = load(part.hogs, bursts=part.bursts) if part.hogs else contextlib.nullcontext()
    if part.state(done(key)) == "open":
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            baseline, candidate, truth = make_pair(Path(folder), model, part.change, ending)
            gate = {"baseline": baseline, "gate": "latency.p50=1%", "budget_s": part.budget}
            with while_loaded:
                while part.state(done(key)) == "open" and in_a_row < MOST_DISTURBED:
                    line = run_gate(key, truth, "latency.p50", candidate, **gate)
                    in_a_row = 0 if part.counts(line) else in_a_row + 1
    return report(key, part)


def run_gate(key: dict[str, Any], truth: float, name: str, candidate: Path, **gate: Any) -> dict[str, Any]:
    """One more gate, and the line of it that is kept."""
    seed, began = len(done(key)), time.monotonic()
    record = edgekit.bench(candidate, seed=seed, **gate)
    took = round(time.monotonic() - began, 2)
    line = {**key, "seed": seed, "truth": truth, "took_s": took, **line_of(record, name)}
    keep(line)
    print(seed + 1, line["verdict"], line["delta_ci"], *line["disturbed"], flush=True)
    return line


EMULATED_KEY = {"what": "emulated", "change": EMULATED.change}


def emulated(part: Part) -> State:
    """Instructions under emulation; the truth is known from the layers."""
    layers, rows, width = 50, 4, 64
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        baseline = write_chain(Path(name) / "baseline.onnx", layers, rows, width)
        added = round(layers * part.change / PERCENT)
        candidate = write_chain(Path(name) / "candidate.onnx", layers + added, rows, width)
        gate = {"baseline": baseline, "gate": "instructions=1%", "target": "arm64", "device": "emulated"}
        while part.state(done(EMULATED_KEY)) == "open":
            run_gate(EMULATED_KEY, added / layers * PERCENT, "instructions", candidate, **gate)
    return report(EMULATED_KEY, part)


def stored(sessions: int, model: str) -> None:
    """One model in sessions of its own, each against the result of each other one, at the default margin.

    Pairs of sessions are not independent: so many sessions tell less than so many pairs would.
    """
    key = {"what": "stored", "model": model, "shape": list(MODELS[model])}
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


def report(key: dict[str, Any], part: Part) -> State:
    """What the lines of a part say, and what they have to."""
    rows, state = done(key), part.state(done(key))
    counted = [row for row in rows if part.counts(row)]
    verdicts = Counter(row["verdict"] for row in counted)
    disturbed = Counter(kind for row in rows for kind in row["disturbed"])
    words = [f"{len(counted)} of {part.count} gates: {listed(verdicts) or 'nothing yet'}"]
    if len(counted) < len(rows):
        words.append(f"{len(rows) - len(counted)} more do not count, as the machine was not idle")
    if disturbed:
        words.append(f"disturbed: {listed(disturbed)}")
    if counted:
        truths, took = ([row[name] for row in counted] for name in ("truth", "took_s"))
        found = statistics.median(row["delta"] for row in counted) * PERCENT
        words.append(f"truly {min(truths):+.2f} to {max(truths):+.2f} %, measured {found:+.2f} % in the middle")
        words.append(f"seconds a gate: median {statistics.median(took):.1f}, most {max(took):.1f}")
    wanted = [rule.words for rule in part.rules]
    wanted += [f"at most {part.within_s:.0f} s each"] if part.within_s < math.inf else []
    print(f"{json.dumps(key)}: {'; '.join(words)}. Wanted: {', '.join(wanted)}: {state}", flush=True)
    return state


def listed(counts: Counter[str]) -> str:
    """How often there is what, in words."""
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def report_claim(claim: Claim) -> State:
    """What a line says that is not of gates, and what it has to."""
    state, line = claim.state(), claim.line() or {}
    told = {name: value for name, value in line.items() if name not in claim.key.keys() | origin().keys()}
    print(f"{json.dumps(claim.key)}: {told or 'nothing yet'}. Wanted: {claim.words}: {state}", flush=True)
    return state


def report_all() -> State:
    """Everything that has to be shown."""
    parts = [(key_of(name, PARTS[name], *where), replace(PARTS[name], count=count)) for name, *where, count in SHOWN]
    states = [report(key, part) for key, part in (*parts, (EMULATED_KEY, EMULATED))]
    return worst((*states, *map(report_claim, CLAIMS)))


def run_all() -> State:
    """What is not known yet of everything that has to be shown, and of what docs/gate.md tells beside it."""
    for what in dict.fromkeys(claim.key["what"] for claim in CLAIMS if claim.state() == "open"):
        run_claims(what, None)
    for name, model, ending, count in SHOWN:
        run_gates(name, replace(PARTS[name], count=count), model, ending)
    emulated(EMULATED)
    run_claims("simulate", None)
    stored(SESSIONS, "tenth")
    return report_all()


def run_claims(what: str, count: int | None) -> State:
    """Lines that are not of gates."""
    computed = {"traces": traces, "answers": answers, "simulate": lambda: simulate(count), "overhead": overhead}
    for line in computed[what]():
        print(json.dumps(line), flush=True)
        keep(line)
    return worst(report_claim(claim) for claim in CLAIMS if claim.key["what"] == what)


def overhead() -> Iterator[dict[str, Any]]:
    """An inference as the harness tells it beside a bare loop's, in turns, ten at a time.

    Whatever else runs only adds time, to long pieces more than to short ones: so of both the tenth of the pieces that
    took least is compared.
    """
    from edgekit.devices.runner import OnnxGraph, measure_latency

    length, pieces = 10, 2000
    spec = {"seed": 0, "warmup": 1, "block": length, "seconds": 0.0, "enough_seconds": 60.0}
    spec |= dict.fromkeys(("rounds", "most_rounds", "fewest_rounds"), 1)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        for layers in OVERHEAD_LAYERS:
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
            yield {
                "what": "overhead",
                "layers": layers,
                "bare_us": alone,
                "added_us": float(np.quantile(told, 0.1)) - alone,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    others = ("emulated", "stored", "traces", "answers", "simulate", "overhead", "report", "all")
    parser.add_argument("what", choices=(*PARTS, *others))
    parser.add_argument("--count", type=int, default=None, help="gates, or sessions")
    parser.add_argument("--budget", type=float, default=None, help="seconds of a gate")
    parser.add_argument("--model", choices=MODELS, default="tenth")
    parser.add_argument("--format", choices=("onnx", "tflite"), default="onnx", help="of both sides")
    options = parser.parse_args()
    if options.what == "report":
        sys.exit(report_all() != "holds")
    with alone():
        sys.exit(not shows(options))


def shows(options: argparse.Namespace) -> bool:
    """Measure what was asked for, and whether it is what has to be shown."""
    what = options.what
    given = {name: value for name in ("count", "budget") if (value := getattr(options, name)) is not None}
    if what == "stored":
        stored(options.count or SESSIONS, options.model)
        return True
    if what in PARTS:
        state = run_gates(what, replace(PARTS[what], **given), options.model, options.format)
    elif what == "emulated":
        state = emulated(replace(EMULATED, **given))
    else:
        state = run_all() if what == "all" else run_claims(what, options.count)
    return state == "holds"


if __name__ == "__main__":
    main()
