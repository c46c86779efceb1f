"""From what processes measured to the samples of metrics, and from samples to metrics with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgekit.gate.margins import Margins
from edgekit.gate.metrics import METRICS
from edgekit.gate.protocol import Trace
from edgekit.gate.record import Metric, Series, Side, Verdict
from edgekit.gate.statistics import (
    FEWEST_PROCESSES,
    LEVEL,
    Blocks,
    Bootstrap,
    Estimate,
    paired_change,
    resample,
    unpaired_change,
)
from edgekit.gate.verdict import is_clear, judge
from edgekit.measure.statistics import FEWEST
from edgekit.runtimes.measuring import Answer

CANDIDATE: Side = "candidate"
BASELINE: Side = "baseline"
DIGITS = 6


def subject_name(side: Side, component: str) -> str:
    """What a component of a side is called among the subjects of a process."""
    return f"{side}/{component}"


def timed_series(trace: Trace, side: Side, component: str, batch: int) -> Iterator[Series]:
    """The samples that blocks of times give: latency, throughput and, where counters can be read, energy.

    Args:
        trace: of all processes.
        side: whose.
        component: which part.
        batch: answers of one inference, for the throughput.
    """
    subject = subject_name(side, component)
    processes = trace.blocks_ms(subject)
    medians = [[median(block) for block in blocks] for blocks in processes]
    yield _series("latency.p50", component, side, medians)
    flat = [[one for block in blocks for one in block] for blocks in processes]
    inferences = sum(map(len, flat))
    for rank in (90, 99):
        if inferences >= FEWEST[rank]:
            yield _series(f"latency.p{rank}", component, side, [[_rank(process, rank)] for process in flat])
    rates = [[batch * len(block) / (sum(block) / 1e3) for block in blocks] for blocks in processes]
    yield _series("throughput", component, side, rates)
    energies = [
        answer.energy_uj.get(subject, [])[cut:] for answer, cut in zip(trace.answers, trace.trimmed, strict=True)
    ]
    known = [[one for one in energy if one is not None] for energy in energies]
    if all(known) and all(len(some) == len(energy) for some, energy in zip(known, energies, strict=True)):
        yield _series("energy", component, side, known)


def _rank(samples: Sequence[float], rank: int) -> float:
    """A percentile of one process; whether all processes together support it, its caller has seen."""
    import numpy as np

    return float(np.percentile(samples, rank))


def started_series(answers: Sequence[Answer], side: Side, component: str) -> Iterator[Series]:
    """The samples that fresh processes of one subject give."""
    firsts = [answer.first_ms for answer in answers if answer.first_ms is not None]
    if len(firsts) == len(answers):
        yield _series("cold_start", component, side, [[one] for one in firsts])
    yield _series("load", component, side, [[answer.load_ms] for answer in answers])
    peaks = [float(answer.peak_memory_bytes) for answer in answers]
    if all(peaks):
        yield _series("memory.peak", component, side, [[one] for one in peaks])


def _series(metric: str, component: str, side: Side, processes: Blocks) -> Series:
    rounded = tuple(tuple(float(f"{one:.{DIGITS}g}") for one in blocks) for blocks in processes)
    return Series(metric=metric, component=component, side=side, unit=METRICS[metric].unit, processes=rounded)


@dataclass(frozen=True)
class Comparison:
    """How a gate compares.

    Attributes:
        margins: what is gated.
        paired: whether the baseline was measured beside the candidate, round by round; None where there is none.
        seed: of the bootstrap.
    """

    margins: Margins
    paired: bool | None
    seed: int = 0

    def change(self, candidate: Series, baseline: Series) -> Bootstrap:
        """The change of a metric, resampled."""
        compare = paired_change if self.paired else unpaired_change
        return compare(candidate.processes, baseline.processes, self.seed)

    def metric(self, candidate: Series, baseline: Series | None, n: int) -> Metric:
        """A metric from its samples, with its verdict where it is gated.

        Args:
            candidate: the sample.
            baseline: the other side's, if there is one.
            n: inferences, or processes, behind the candidate's value.
        """
        own = resample(candidate.processes, self.seed).at(LEVEL)
        kind = METRICS[candidate.metric]
        found = Metric(
            name=candidate.metric,
            component=candidate.component,
            unit=kind.unit,
            direction=kind.direction,
            value=own.value,
            **interval(own),
            level=LEVEL if _known(own) else None,
            n=n,
        )
        if baseline is None:
            return found
        change = self.change(candidate, baseline)
        estimate = change.at(LEVEL)
        compared = found.model_copy(
            update={
                "baseline": resample(baseline.processes, self.seed).value,
                "delta": estimate.value,
                "delta_ci": (estimate.low, estimate.high) if _known(estimate) else None,
            }
        )
        margin = self.margins.get(found.name)
        if margin is None:
            return compared
        return compared.model_copy(update={"margin": margin, **self._verdict(change, estimate, compared)})

    def _verdict(self, change: Bootstrap, estimate: Estimate, metric: Metric) -> dict[str, object]:
        if change.processes < FEWEST_PROCESSES:
            why = f"{change.processes} processes were measured, and a verdict takes {FEWEST_PROCESSES}"
            return {"verdict": "inconclusive", "reason": why}
        margin = self.margins.of[metric.name]
        verdict = judge(estimate.low, estimate.high, margin, metric.direction)
        return {"verdict": verdict, "reason": UNCLEAR if verdict == "inconclusive" else ""}

    def exact(self, metric: Metric, baseline: float, ends: tuple[float, float] | None = None) -> Metric:
        """A metric that does not scatter, or whose whole range is known, beside the baseline's.

        Args:
            metric: with the candidate's value.
            baseline: the other value.
            ends: the least and the largest change, where it has a range.
        """
        assert metric.value is not None
        delta = metric.value / baseline - 1
        compared = metric.model_copy(update={"baseline": baseline, "delta": delta, "delta_ci": ends or (delta, delta)})
        margin = self.margins.get(metric.name)
        if margin is None:
            return compared
        verdict = judge(*(ends or (delta, delta)), margin, metric.direction)
        reason = UNCLEAR if verdict == "inconclusive" else ""
        return compared.model_copy(update={"margin": margin, "verdict": verdict, "reason": reason})

    def unknown(self, name: str, reason: str, component: str = "model", verdict: Verdict = "invalid") -> Metric:
        """A metric that could not be measured or compared, and why."""
        kind, margin = METRICS[name], self.margins.get(name) if self.paired is not None else None
        return Metric(
            name=name,
            component=component,
            unit=kind.unit,
            direction=kind.direction,
            value=None,
            margin=margin,
            verdict=None if margin is None else verdict,
            reason=reason,
        )


UNCLEAR = "the margin lies within the interval"


def interval(estimate: Estimate) -> dict[str, float | None]:
    """Both ends as a metric has them; None where they are not known."""
    known = _known(estimate)
    return {"ci_low": estimate.low if known else None, "ci_high": estimate.high if known else None}


def _known(estimate: Estimate) -> bool:
    return abs(estimate.low) != float("inf")


def clear_of_margins(
    components: Sequence[str], comparison: Comparison, batch: int, level: float
) -> Callable[[Trace], bool]:
    """Whether what was timed so far is clear of every margin on a time, at the level of a look."""

    def clear(trace: Trace) -> bool:
        for component in components:
            sides: Mapping[Side, Mapping[str, Series]] = {
                side: {one.metric: one for one in timed_series(trace, side, component, batch)}
                for side in (CANDIDATE, BASELINE)
            }
            for name, series in sides[CANDIDATE].items():
                margin = comparison.margins.get(name)
                if margin is None:
                    continue
                estimate = comparison.change(series, sides[BASELINE][name]).at(level)
                if not is_clear(estimate.low, estimate.high, margin):
                    return False
            if any(missing(trace, component, name) for name in comparison.margins.of):
                return False
        return True

    return clear


def missing(trace: Trace, component: str, name: str) -> str:
    """Why a percentile has no value yet; empty where it has one, or is none."""
    rank = {"latency.p90": 90, "latency.p99": 99}.get(name)
    if rank is None:
        return ""
    n = trace.inferences(subject_name(CANDIDATE, component))
    return "" if n >= FEWEST[rank] else f"{n} inferences are too few for p{rank}, which takes {FEWEST[rank]}"
