"""What of the gate is computed on drawn figures, whose truth is known: see `gate.py traces` and `gate.py simulate`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gate_evidence import ANSWERING, code, done

from edgekit.gate.accuracy import LEVEL, SHARE_OF_RIGHT, accuracy_metric, mcnemar, tango
from edgekit.gate.figures import Comparison, clear_of_margins, timed_series
from edgekit.gate.margins import DEFAULT_WITH_DATA, parse_margins
from edgekit.gate.protocol import Plan, time_sides
from edgekit.gate.record import Accuracy
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
            draw_gate(draw, Drawn(), change=0.0, drift=draw.uniform(0.1, 0.3) * drifts, seed=trial)
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


# Of 500 samples those that only the baseline and only the candidate answers right: a fifth of a point, three points.
FIFTH, THREE = ((1, 0), (3, 2), (11, 10)), ((15, 0), (20, 5), (24, 9))
# Of two models that are alike, so large a share is answered right by either one alone.
SAMPLES, USUAL = 500, 0.005


def answers() -> Iterator[dict[str, Any]]:
    """Verdicts on the accuracy, at the default margin of half a point, of losses that are known and that are drawn."""
    for points, pairs in ((0.2, FIFTH), (3.0, THREE)):
        verdicts = {f"{lost} lost, {gained} gained": verdict_of(lost, gained) for lost, gained in pairs}
        yield {"what": "answers", "points": points, "samples": SAMPLES, "judge": code(ANSWERING), **verdicts}
    draw = np.random.default_rng(0)
    for points in (0.0, 0.5, 3.0):
        worse = USUAL + points / 100
        drawn = draw.multinomial(SAMPLES, (worse, USUAL, 1 - worse - USUAL), size=1000).tolist()
        verdicts = Counter(verdict_of(lost, gained) for lost, gained, _ in drawn)
        yield {"what": "answers", "truly": points, "samples": SAMPLES, "of": 1000, **verdicts}


def verdict_of(lost: int, gained: int) -> str:
    """Of ``SAMPLES``, of which so many are lost and gained."""
    delta = (gained - lost) / SAMPLES
    found = Accuracy(
        metric=SHARE_OF_RIGHT,
        candidate=0.9 + delta,
        baseline=0.9,
        delta=delta,
        delta_ci=tango(lost, gained, SAMPLES),
        level=LEVEL,
        n=SAMPLES,
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained),
    )
    return str(accuracy_metric(found, parse_margins(DEFAULT_WITH_DATA)).verdict)


@dataclass(frozen=True)
class Drawn:
    """How the figures of a gate are drawn.

    Attributes:
        offset: standard deviation of the difference between the sides that a process has of its own.
        budget: seconds; more processes with more of them. ``None`` is what gives the least processes, five to seven.
        heavy: whether offsets and noise are Student's t of three degrees of freedom, of the same middle spread.
    """

    offset: float = 0.005
    budget: float | None = 10.0
    heavy: bool = False

    def deviates(self, draw: np.random.Generator, scale: float, n: int = 1) -> Values:
        """Deviates of a scale."""
        if not self.heavy:
            return draw.normal(0, scale, n)
        same: Values = draw.standard_t(3, n) * scale * 0.6745 / 0.7649  # quartiles of both distributions
        return same


def draw_gate(
    draw: np.random.Generator, drawn: Drawn, *, change: float, seed: int, drift: float = 0.0
) -> dict[str, Any]:
    """One gate on drawn processes: an offset of each and side, rounds with a spread of 2 % in which others interfere.

    Of ten rounds one is slower for both sides; a process takes half a second before it times anything.
    """
    budget = drawn.budget or draw.uniform(4.1, 5.6)
    now, plan = [0.0], Plan(budget_s=budget, seed=seed)
    takes, rounds = 0.5 + plan.seconds, round(plan.seconds / 0.03)

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
                own = np.exp(drawn.deviates(draw, drawn.offset / 2**0.5) + drawn.deviates(draw, 0.02, rounds))
                times = truth * own * machine
                blocks[side] = [[float(time)] * 3 for time in times]
            answers.append(Answer.model_construct(load_ms=1.0, peak_memory_bytes=1, blocks_ms=blocks))
        return answers

    comparison = Comparison(parse_margins("latency.p50=1%"), True, seed)
    clear = clear_of_margins(["model"], comparison, 1, LOOK_LEVEL)
    outcome = time_sides(SIDES, plan, measure, clear, lambda: now[0])
    ours, theirs = (
        next(timed_series(outcome.trace, side, "model", 1, ["latency.p50"])) for side in ("candidate", "baseline")
    )
    metric = comparison.metric(ours, theirs, 1)
    assert metric.delta is not None
    processes = len(outcome.trace.answers)
    return {"verdict": metric.verdict, "delta": metric.delta, "stopped": outcome.stopped, "processes": processes}


# So many gates of each kind; at just the margin a false alarm is likeliest.
KINDS = (
    (Drawn(budget=None), 0.01, 5000),
    (Drawn(budget=None, heavy=True), 0.01, 5000),
    (Drawn(heavy=True), 0.01, 5000),
    (Drawn(offset=0.015), 0.01, 5000),
    (Drawn(heavy=True, budget=60.0), 0.01, 2000),
    (Drawn(offset=0.015, heavy=True, budget=60.0), 0.01, 2000),
    (Drawn(), 0.0, 1000),
    (Drawn(heavy=True), 0.0, 1000),
    (Drawn(), 0.03, 500),
    (Drawn(offset=0.015, heavy=True, budget=60.0), 0.03, 200),
)


def simulate(count: int | None) -> Iterator[dict[str, Any]]:
    """Whole gates with their looks: at just the margin, the worst case of a false alarm; at no change, and above it.

    A kind that is there already from the same code is not drawn again.
    """
    for drawn, change, usual in KINDS:
        draw, of = np.random.default_rng(0), count or usual
        kind = {"what": "simulate", "change": change, **vars(drawn), "of": of}
        if done(kind):
            continue
        gates = [draw_gate(draw, drawn, change=change, seed=seed) for seed in range(of)]
        verdicts = Counter(gate["verdict"] for gate in gates)
        processes = sorted(gate["processes"] for gate in gates)
        yield {
            **kind,
            "processes": [processes[0], processes[of // 2], processes[-1]],
            "early": sum(gate["stopped"] == "clear" for gate in gates),
            "regressions_at_most": most_likely(verdicts["regression"], of),
            **{verdict: verdicts[verdict] for verdict in sorted(verdicts)},
        }


def most_likely(seen: int, of: int) -> float:
    """The largest share, at 95 %, that gives so few of so many: Clopper and Pearson 1934, by bisection."""
    low, high = seen / of, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        terms = (
            math.lgamma(of + 1)
            - math.lgamma(k + 1)
            - math.lgamma(of - k + 1)
            + k * math.log(middle)
            + (of - k) * math.log1p(-middle)
            for k in range(seen + 1)
        )
        low, high = (middle, high) if sum(map(math.exp, terms)) > 0.05 else (low, middle)
    return round(high, 5)
