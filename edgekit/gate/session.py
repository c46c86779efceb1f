"""Measuring the sides of a gate at one place: their times, what they cost to begin, their instructions, their size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgekit.diagnosis.machine import Kernel
from edgekit.environment import host
from edgekit.gate import conditions
from edgekit.gate.figures import (
    BASELINE,
    CANDIDATE,
    Comparison,
    clear_of_margins,
    missing,
    started_series,
    subject_name,
    timed_series,
)
from edgekit.gate.margins import TIMES
from edgekit.gate.metrics import METRICS, STARTED, TIMED
from edgekit.gate.protocol import Measure, Outcome, Plan, copies_of, measure_at, start_sides, time_sides
from edgekit.gate.record import BenchRecord, Metric, Series, Side
from edgekit.gate.statistics import LOOK_LEVEL
from edgekit.gate.stored import unlike
from edgekit.measure.instructions import count_subjects
from edgekit.places import NO_CLOCK
from edgekit.report import Count, TimedOn
from edgekit.runtimes.measuring import Answer, Place, Subject

# What is named as missing where there is no clock, though nobody asked for it.
UNTIMED = ("latency.p50", "latency.p90", "memory.peak")

# Of a small model, the first inferences take one to two percent more or less: the interpreter specializes its code, and
# the runtime lays out its memory. In a large one that is nothing, and emulation is slow.
SMALL_BYTES, SMALL_COUNT, SMALL_WARMUP = 10_000_000, 7, 10

Sides = Mapping[Side, Mapping[str, Subject]]


@dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
        plan: how long.
        comparison: the margins, and how the sides are compared.
        started: whether processes of one subject are started for what they cost to begin.
        batch: answers of one inference.
        stored: a result of before that stands for the baseline.
        counter: what counts the instructions that are gated beside times; None where there is no such thing.
    """

    plan: Plan
    comparison: Comparison
    started: bool
    batch: int = 1
    stored: BenchRecord | None = None
    counter: Place | None = None


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        metrics: with their verdicts.
        samples: behind them.
        protocol: fields of the record's protocol.
        warnings: what disturbed.
        version: of the runtime.
        timed_on: the machine, where it is another one.
        counts: under emulation, of the candidate on each device.
    """

    metrics: tuple[Metric, ...]
    samples: tuple[Series, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    version: str = ""
    timed_on: TimedOn | None = None
    counts: tuple[Count, ...] = ()


def measure_timed(sides: Sides, place: Place, asked: Asked, measure: Measure | None = None) -> Found:
    """Everything that a clock and fresh processes tell.

    Args:
        sides: the candidate, and the baseline where it is measured beside it; each with its components.
        place: where.
        asked: what.
        measure: runs processes; those of the place by default.
    """
    components = list(sides[CANDIDATE])
    subjects = {subject_name(side, name): one for side, parts in sides.items() for name, one in parts.items()}
    measure = measure or measure_at(place, subjects)
    # Before anything is timed: a model that the emulator does not run has not cost a minute then.
    counted = count_metrics(sides, (asked.counter,) if asked.counter else (), asked)
    kernel, began = Kernel(), time.monotonic()
    before = conditions.read(kernel, began)
    starts = start_sides(list(subjects), asked.plan, measure) if asked.started else {}
    # Everywhere else each look would send the files again.
    looking = BASELINE in sides and place.local
    clear = clear_of_margins(components, asked.comparison, asked.batch, LOOK_LEVEL) if looking else None
    copies = asked.plan.copies or (copies_of(max(map(_bytes, subjects.values()))) if place.provider == "cpu" else 1)
    left = replace(asked.plan, budget_s=asked.plan.budget_s - (time.monotonic() - began), copies=copies)
    outcome = time_sides(list(subjects), left, measure, clear)
    after = conditions.read(kernel, time.monotonic())
    found = {component: _series(sides, component, outcome, starts, asked) for component in components}
    samples = [one for series in found.values() for one in series]
    answers = outcome.trace.answers
    seen = [
        *(conditions.between(before, after) if place.local else ()),
        *conditions.of_processes(answers),
        *_throttled(samples),
    ]
    disturbed = tuple(dict.fromkeys(one.kind for one in seen))
    doubt = unlike(disturbed, asked.stored) if asked.stored else ""
    metrics = [one for name, series in found.items() for one in _metrics(name, series, outcome, asked, doubt)]
    clocks = conditions.clocks(kernel, host().cores) if place.local else []
    return Found(
        (*metrics, *counted.metrics),
        tuple(samples),
        {
            **_protocol(outcome, subjects, left, time.monotonic() - began),
            "budget_s": asked.plan.budget_s,
            "disturbed": disturbed,
        },
        (*clocks, *(one.told for one in seen)),
        answers[0].runtime_version,
        None if place.local else TimedOn(device=place.device.label, facts=answers[0].host),
        counted.counts,
    )


def _bytes(subject: Subject) -> int:
    return sum(file.stat().st_size for file in (subject.graph, *subject.beside))


def _series(
    sides: Sides, component: str, outcome: Outcome, starts: Mapping[str, list[Answer]], asked: Asked
) -> list[Series]:
    """The samples of one component, of every side."""
    found = list[Series]()
    for side in sides:
        found += timed_series(outcome.trace, side, component, asked.batch)
        if starts:
            found += started_series(starts[subject_name(side, component)], side, component)
    return found


def _metrics(component: str, samples: Sequence[Series], outcome: Outcome, asked: Asked, doubt: str) -> Iterator[Metric]:
    """Every metric that a clock and fresh processes give, with what could not be had where it is gated."""
    ours = {one.metric: one for one in samples if one.side == CANDIDATE}
    theirs = {one.metric: one for one in samples if one.side == BASELINE}
    if asked.stored is not None:
        stored = ((name, asked.stored.series(name, component, CANDIDATE)) for name in ours)
        theirs = {name: one for name, one in stored if one is not None}
    inferences = outcome.trace.inferences(subject_name(CANDIDATE, component))
    comparison = asked.comparison
    for name in (*TIMED, *STARTED):
        if name in ours and (name in theirs or name not in comparison.margins):
            n = len(ours[name].processes) if name in STARTED else inferences
            yield comparison.metric(ours[name], theirs.get(name), n, doubt if name in TIMES else "")
        elif name in ours:
            yield comparison.unknown(name, "the baseline does not have it", component)
        elif name in comparison.margins or name.startswith("latency."):
            few = missing(outcome.trace, component, name)
            yield comparison.unknown(name, few or comparison.why(name), component, "inconclusive" if few else None)
    if "instructions" in comparison.margins and asked.counter is None:
        yield comparison.unknown("instructions", comparison.why("instructions"), component, None)


def _throttled(samples: Sequence[Series]) -> list[conditions.Seen]:
    """What the trace of the candidate's first component says, else the baseline's."""
    first = next(one for one in samples if one.metric == "latency.p50" and one.side == CANDIDATE)
    return conditions.throttled([one for process in first.processes for one in process])


def _protocol(outcome: Outcome, subjects: Mapping[str, Subject], plan: Plan, spent_s: float) -> dict[str, Any]:
    trace, first = outcome.trace, next(iter(subjects))
    return {
        "preset": plan.preset,
        "spent_s": round(spent_s, 2),
        "process_s": round(plan.seconds, 4),
        "copies": plan.copies,
        "seed": plan.seed,
        "processes": len(trace.answers),
        "rounds": sum(map(len, trace.blocks_ms(first))),
        "trimmed": sum(trace.trimmed),
        "inferences": trace.inferences(first),
        "clock": trace.answers[0].clock,
        "overhead_us": trace.answers[0].overhead_us,
        "stopped": outcome.stopped,
        "looks": outcome.looks,
    }


def measure_counted(sides: Sides, places: Sequence[Place], asked: Asked) -> Found:
    """Everything that emulated devices tell: instructions, and why there are no times."""
    counted = count_metrics(sides, places, asked)
    timed = [name for name in (*TIMED, *STARTED) if name in asked.comparison.margins or name in UNTIMED]
    untimed = [asked.comparison.unknown(name, NO_CLOCK, verdict=None) for name in timed]
    return Found(
        (*counted.metrics, *untimed),
        protocol={"inferences": len(counted.counts[0].samples[0]), "seed": asked.plan.seed},
        version=counted.counts[0].runtime.partition(" ")[2],
        counts=counted.counts,
    )


def count_metrics(sides: Sides, places: Sequence[Place], asked: Asked) -> Found:
    """Instructions of one inference on emulated devices; they repeat, so that no time is spent on more of them.

    The interval of a change is its whole range over the inferences that were counted.
    """
    metrics, counts = list[Metric](), list[Count]()
    for place in places:
        ours = _count(sides[CANDIDATE], place)
        counts.append(ours)
        metric = Metric(
            name="instructions",
            unit=METRICS["instructions"].unit,
            value=float(ours.instructions),
            n=len(ours.samples[0]),
            device=place.device.label if len(places) > 1 or asked.counter else "",
        )
        theirs = _baseline_count(sides, place, asked)
        if asked.comparison.paired is None:
            metrics.append(metric)
        elif theirs is None:
            metrics.append(asked.comparison.unknown("instructions", "the baseline does not have it"))
        else:
            metrics.append(_compared(metric, ours, theirs, asked.comparison))
    return Found(tuple(metrics), counts=tuple(counts))


def _count(subjects: Mapping[str, Subject], place: Place) -> Count:
    """The instructions of a side, of more inferences where it is small."""
    if sum(map(_bytes, subjects.values())) > SMALL_BYTES:
        return count_subjects(subjects, place)
    return count_subjects(subjects, place, SMALL_COUNT, SMALL_WARMUP)


def _baseline_count(sides: Sides, place: Place, asked: Asked) -> Count | None:
    """The baseline's instructions on a device: counted, or those of the stored result."""
    if BASELINE in sides:
        return _count(sides[BASELINE], place)
    stored = asked.stored.counts if asked.stored else ()
    return next((count for count in stored if count.device == place.device.label), None)


def _compared(metric: Metric, ours: Count, theirs: Count, comparison: Comparison) -> Metric:
    (least, most), (their_least, their_most) = _range(ours), _range(theirs)
    ends = (least / their_most - 1, most / their_least - 1)
    return comparison.exact(metric, float(theirs.instructions), ends)


def _range(count: Count) -> tuple[int, int]:
    """The fewest and the most instructions of an inference, over all components."""
    return sum(map(min, count.samples)), sum(map(max, count.samples))
