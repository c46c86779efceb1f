"""What of the gate is computed on drawn figures, whose truth is known: see `gate.py traces` and `gate.py simulate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.gate.figures import Comparison, clear_of_margins, timed_series
from edgekit.gate.margins import parse_margins
from edgekit.gate.protocol import Plan, time_sides
from edgekit.gate.statistics import LOOK_LEVEL
from edgekit.gate.traces import slower_after, warm_after
from edgekit.runtimes.measuring import Answer, ProcessRun

Values = npt.NDArray[np.float64]
SIDES = ("candidate/model", "baseline/model")
SHAPES = {
    "decay": lambda runs, by: 1 + by * np.exp(-3 * np.arange(runs) / runs),
    "step": lambda runs, by: np.full(runs, 1 + by),
    "linear": lambda runs, by: 1 + by * (1 - np.arange(runs) / runs),
}


def inferences(draw: np.random.Generator, n: int) -> Values:
    """Times around 1 with a spread of 2 %, one in a hundred interrupted."""
    return np.exp(draw.normal(0, 0.02, n)) * np.where(draw.random(n) < 0.01, draw.uniform(1.5, 4, n), 1)


def medians(draw: np.random.Generator, n: int) -> Values:
    """Medians of blocks around 1, with a spread of 1 % and an offset of half a percent for each process of 25."""
    offsets = np.repeat(np.exp(draw.normal(0, 0.005, n // 25 + 1)), 25)[:n]
    found: Values = np.exp(draw.normal(0, 0.01, n)) * offsets
    return found


def traces() -> Iterator[dict[str, Any]]:
    """Throttling, what is none, warming up of 1 to 200 runs, and drift."""
    draw = np.random.default_rng(0)
    yield {"what": "traces", "kind": "warming up", **warm_ups(draw)}
    n, flagged = 200, 0
    for _ in range(100):
        trace, at, ramp = medians(draw, n), draw.integers(n // 5, n * 4 // 5), draw.integers(1, 30)
        trace *= 1 + draw.uniform(0.1, 0.5) * np.clip((np.arange(n) - at) / ramp, 0, 1)
        flagged += slower_after(trace.tolist()) is not None
    yield {"what": "traces", "kind": "throttling of 10 to 50 %", "flagged": flagged, "of": 100}
    steady = sum(slower_after(medians(draw, n).tolist()) is not None for _ in range(300))
    yield {"what": "traces", "kind": "steady", "flagged": steady, "of": 300}
    bursts = 0
    for _ in range(300):
        trace, at = medians(draw, n), draw.integers(0, n * 3 // 4)
        trace[at : at + draw.integers(5, 40)] *= draw.uniform(1.1, 2.0)
        bursts += slower_after(trace.tolist()) is not None
    yield {"what": "traces", "kind": "one burst that ends", "flagged": bursts, "of": 300}
    for drifts in (False, True):
        gates = [
            draw_gate(draw, change=0.0, offset=0.005, drift=draw.uniform(0.1, 0.3) * drifts, seed=trial)
            for trial in range(100)
        ]
        line = {
            "typical_false_change": float(np.median([abs(gate["delta"]) for gate in gates])),
            "alarms": sum(gate["verdict"] in ("regression", "improvement") for gate in gates),
        }
        yield {"what": "traces", "kind": "drift of 10 to 30 %" if drifts else "no drift", **line, "of": 100}


def warm_ups(draw: np.random.Generator) -> dict[str, Any]:
    """The bias of the median after the cut, over warm-ups of 1 to 200 runs of each shape, 10 to 200 % slower."""
    biases: dict[str, float] = {}
    for shape, slower in SHAPES.items():
        for runs in range(1, 201):
            trace = inferences(draw, 1000)
            truth = float(np.median(trace))
            trace[:runs] *= slower(runs, draw.uniform(0.1, 2.0))
            cut = warm_after(trace.tolist())
            bias = abs(float(np.median(trace[cut:])) / truth - 1)
            biases[shape] = max(biases.get(shape, 0.0), bias)
    return {"largest_bias": biases, "of": 200 * len(SHAPES)}


def draw_gate(
    draw: np.random.Generator, *, change: float, offset: float, seed: int, drift: float = 0.0, budget: float = 10.0
) -> dict[str, Any]:
    """One gate on drawn processes: an offset of each and side, rounds with a spread of 2 % in which others interfere.

    Of ten rounds one is slower for both sides; a process takes half a second before it times anything.
    """
    now, plan = [0.0], Plan(budget_s=budget, seed=seed)
    takes, rounds = 0.5 + plan.seconds, round(plan.seconds / 0.012)

    def measure(runs: Sequence[ProcessRun], seconds: float, fewest: int) -> list[Answer]:
        began, answers = now[0], list[Answer]()
        for _ in runs:
            if len(answers) >= fewest and now[0] - began + takes > seconds:
                break
            now[0] += takes
            others = np.where(draw.random(rounds) < 0.1, draw.uniform(1.2, 2.5, rounds), 1.0)
            machine = others * (1 + drift * now[0] / budget)
            blocks = {}
            for side, truth in zip(SIDES, (1 + change, 1.0), strict=True):
                own = np.exp(draw.normal(0, offset / 2**0.5) + draw.normal(0, 0.02, rounds))
                times = truth * own * machine
                blocks[side] = [[float(time)] * 3 for time in times]
            answers.append(Answer(load_ms=1.0, peak_memory_bytes=1, blocks_ms=blocks))
        return answers

    comparison = Comparison(parse_margins("latency.p50=1%"), True, seed)
    clear = clear_of_margins(["model"], comparison, 1, LOOK_LEVEL)
    outcome = time_sides(SIDES, plan, measure, clear, lambda: now[0])
    ours, theirs = (next(timed_series(outcome.trace, side, "model", 1)) for side in ("candidate", "baseline"))
    metric = comparison.metric(ours, theirs, 1)
    assert metric.delta is not None
    return {"verdict": metric.verdict, "delta": metric.delta, "stopped": outcome.stopped}


def simulate(count: int) -> Iterator[dict[str, Any]]:
    """Whole gates with their looks: at no change, at just the margin (worst case of a false alarm), and above it."""
    for offset, budget in ((0.005, 10.0), (0.015, 10.0), (0.015, 60.0)):
        for change in (0.0, 0.01, 0.03, 0.05):
            draw = np.random.default_rng(0)
            gates = [draw_gate(draw, change=change, offset=offset, seed=seed, budget=budget) for seed in range(count)]
            verdicts = Counter(gate["verdict"] for gate in gates)
            early = sum(gate["stopped"] == "clear" for gate in gates)
            line = {
                "what": "simulate",
                "change": change,
                "offset": offset,
                "budget": budget,
                "of": count,
                "early": early,
            }
            yield {**line, **{verdict: verdicts[verdict] for verdict in sorted(verdicts)}}
