"""From what processes measured to the samples of metrics, and from samples to metrics with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from edgekit.gate.margins import TIMES, Margins
from edgekit.gate.metrics import METRICS, TIMED
from edgekit.gate.protocol import Trace
from edgekit.gate.record import Metric, Series, Side, Verdict
from edgekit.gate.statistics import (
    BETWEEN_SESSIONS,
    FEWEST_PROCESSES,
    LEVEL,
    Blocks,
    Bootstrap,
    Estimate,
    paired_change,
    pooled_change,
    resample,
    unpaired_change,
)
from edgekit.gate.verdict import is_clear, judge
from edgekit.measure.statistics import FEWEST, PERCENTILES
from edgekit.runtimes.measuring import Answer

CANDIDATE: Side = "candidate"
BASELINE: Side = "baseline"
DIGITS = 6
# Of each process so many inferences are kept for percentiles: four lie above its p99.
MOST_INFERENCES = 400


def subject_name(side: Side, component: str) -> str:
    """What a component of a side is called among the subjects of a process."""
    return f"{side}/{component}"


def timed_series(
    trace: Trace, side: Side, component: str, batch: int, names: Collection[str] = TIMED
) -> Iterator[Series]:
    """The samples that blocks of times give: latency, throughput and, where counters can be read, energy.

    Args:
        trace: of all processes.
        side: whose.
        component: which part.
        batch: answers of one inference, for the throughput.
        names: of the metrics that are wanted.
    """
    subject = subject_name(side, component)
    processes = trace.blocks_ms(subject)
    if "latency.p50" in names:
        medians = [[median(block) for block in blocks] for blocks in processes]
        yield _series("latency.p50", component, side, medians)
    for name, rank in PERCENTILES.items():
        if name in names and trace.inferences(subject) >= FEWEST[rank]:
            flat = [[one for block in blocks for one in block] for blocks in processes]
            yield _series(name, component, side, [thinned(one) for one in flat])
    if "throughput" in names:
        rates = [[batch * len(block) / (sum(block) / 1e3) for block in blocks] for blocks in processes]
        yield _series("throughput", component, side, rates)
    if "energy" in names and (energy := _energy_uj(trace, subject)):
        yield _series("energy", component, side, energy)


def thinned(samples: Sequence[float]) -> list[float]:
    """The inferences of a process, the fastest first; of more than ``MOST_INFERENCES`` so many evenly spread ones."""
    ordered = sorted(samples)
    count = min(len(ordered), MOST_INFERENCES)
    return [ordered[(2 * at + 1) * len(ordered) // (2 * count)] for at in range(count)]


def _energy_uj(trace: Trace, subject: str) -> list[list[float]]:
    """Of each process the energy in the rounds in which that of every subject is known; empty where one has none."""
    found = []
    for answer, cut in zip(trace.answers, trace.trimmed, strict=True):
        rounds = list(zip(*answer.energy_uj.values(), strict=True))[cut:]
        own = zip(answer.energy_uj.get(subject, [])[cut:], rounds, strict=True)
        found.append([one for one, beside in own if one is not None and all(beside)])
    return found if all(found) else []


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
        lacking: metrics that the place has no means to measure, and why.
    """

    margins: Margins
    paired: bool | None
    seed: int = 0
    lacking: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str) -> str:
        """Why a metric cannot be measured there."""
        return self.lacking.get(name, f"{name} cannot be had there")

    def change(self, candidate: Series, baseline: Series) -> Bootstrap:
        """The change of a metric, resampled."""
        ours, theirs, share = candidate.processes, baseline.processes, _share(candidate.metric)
        if not self.paired:
            return unpaired_change(ours, theirs, share, self.seed)
        if candidate.metric in PERCENTILES:
            return pooled_change(ours, theirs, share, self.seed)
        return paired_change(ours, theirs, self.seed)

    def metric(self, candidate: Series, baseline: Series | None, n: int, doubt: str = "") -> Metric:
        """A metric from its samples, with its verdict where it is gated.

        Args:
            candidate: the sample.
            baseline: the other side's, if there is one.
            n: inferences, or processes, behind the candidate's value.
            doubt: why nothing can be told of a change; empty where something can.
        """
        own = resample(candidate.processes, self.seed, _share(candidate.metric)).at(LEVEL)
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
        if not self.paired and found.name in TIMES:
            estimate = estimate.widened(BETWEEN_SESSIONS)
        compared = found.model_copy(
            update={
                "baseline": resample(baseline.processes, self.seed, _share(baseline.metric)).value,
                "delta": estimate.value,
                "delta_ci": (estimate.low, estimate.high) if _known(estimate) else None,
            }
        )
        margin = self.margins.get(found.name)
        if margin is None:
            return compared
        if change.processes < FEWEST_PROCESSES:
            doubt = f"{change.processes} processes were measured, and a verdict takes {FEWEST_PROCESSES}"
        verdict = "inconclusive" if doubt else judge(estimate.low, estimate.high, margin, kind.direction)
        reason = doubt or (UNCLEAR if verdict == "inconclusive" else "")
        return compared.model_copy(update={"margin": margin, "verdict": verdict, "reason": reason})

    def exact(self, metric: Metric, baseline: float, ends: tuple[float, float] | None = None) -> Metric:
        """A metric that does not scatter, or whose whole range is known, beside the baseline's.

        Args:
            metric: with the candidate's value.
            baseline: the other value.
            ends: the least and the largest change, where it has a range.
        """
        assert metric.value is not None
        delta = (metric.value - baseline) / baseline  # a hundredth more is 0.01 so, and a ratio less 1 is above it
        compared = metric.model_copy(update={"baseline": baseline, "delta": delta, "delta_ci": ends or (delta, delta)})
        margin = self.margins.get(metric.name)
        if margin is None:
            return compared
        verdict = judge(*(ends or (delta, delta)), margin, metric.direction)
        reason = UNCLEAR if verdict == "inconclusive" else ""
        return compared.model_copy(update={"margin": margin, "verdict": verdict, "reason": reason})

    def unknown(self, name: str, reason: str, component: str = "model", verdict: Verdict | None = "invalid") -> Metric:
        """A metric that has no value or no comparison, and why; without a verdict where it cannot be measured there."""
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


def _share(name: str) -> float:
    """Which quantile of its figures a metric is."""
    return PERCENTILES.get(name, 50) / 100


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
    gated = [name for name in TIMED if name in comparison.margins and name not in comparison.lacking]

    def clear(trace: Trace) -> bool:
        for component in components:
            ours, theirs = (
                {one.metric: one for one in timed_series(trace, side, component, batch, gated)}
                for side in (CANDIDATE, BASELINE)
            )
            if ours.keys() != theirs.keys() or any(missing(trace, component, name) for name in gated):
                return False
            for name, series in ours.items():
                estimate = comparison.change(series, theirs[name]).at(level)
                if not is_clear(estimate.low, estimate.high, comparison.margins.of[name]):
                    return False
        return True

    return clear


def missing(trace: Trace, component: str, name: str) -> str:
    """Why a percentile has no value yet; empty where it has one, or is none."""
    rank = PERCENTILES.get(name)
    if rank is None:
        return ""
    n = trace.inferences(subject_name(CANDIDATE, component))
    return "" if n >= FEWEST[rank] else f"{n} inferences are too few for p{rank}, which takes {FEWEST[rank]}"
