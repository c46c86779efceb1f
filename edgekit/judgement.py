"""The rule by which a stage stays or is undone.

A stage is undone when it breaks the limit, when it makes the model slower on the target, or when it makes it neither
faster nor smaller. The same graph with other weights is neither, whatever the clock says: it does the same work. What
cannot be timed is judged by the instructions of an inference on the emulated device, and where there is none by size
alone; the reason says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.measure.latency import MARGIN
from edgekit.measure.quality import exceeds
from edgekit.measure.statistics import Interval
from edgekit.report import MEGABYTE


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate.

    Attributes:
        size_before, size_after: bytes of the model's files.
        operators_before, operators_after: nodes of the graphs.
        same_graph: whether both have the same operators on weights of the same shapes and types.
        slowdown: latency of the candidate over its parent's, with a 99 % interval; None where it cannot be timed.
        dearer: instructions of the candidate over its parent's, by emulated device; empty where none is emulated.
        drop: loss of the metric against the original, as the limit counts it; None without data.
        max_drop: the limit, or None.
        proof: whether the drop is the bound by which a limit is proven, and not what was found.
        not_timed_because: why latency was not measured.
        unchanged_because: what the stage says of why it left the graph as it was, where it knows.
    """

    size_before: int
    size_after: int
    operators_before: int
    operators_after: int
    same_graph: bool
    slowdown: tuple[float, Interval] | None
    drop: float | None
    max_drop: float | None
    not_timed_because: str = ""
    unchanged_because: str = ""
    proof: bool = False
    dearer: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """Whether a stage stays, and the sentence that says why."""

    kept: bool
    reason: str


def judge(evidence: Evidence) -> Judgement:
    """Apply the rule."""
    if evidence.drop is not None and evidence.max_drop is not None and exceeds(evidence.drop, evidence.max_drop):
        loses = "may lose up to" if evidence.proof else "loses"
        allowed = f"allowed {evidence.max_drop * 100:.2f}" + (", by its 95 % bound" if evidence.proof else "")
        return Judgement(False, f"{loses} {evidence.drop * 100:.2f} points in all, {allowed}")
    if evidence.same_graph:
        why = evidence.unchanged_because or "the same graph with other weights"
        return Judgement(False, f"neither faster nor smaller: {why}")
    smaller = evidence.size_after < evidence.size_before * (1 - MARGIN)
    size = f"{evidence.size_before / MEGABYTE:.1f} -> {evidence.size_after / MEGABYTE:.1f} MB"
    if evidence.slowdown is None and evidence.dearer:
        return _judge_instructions(evidence.dearer, f"smaller, {size}" if smaller else "")
    if evidence.slowdown is None:
        fewer = evidence.operators_after < evidence.operators_before
        kept = smaller or (fewer and evidence.size_after <= evidence.size_before)
        what = f"smaller, {size}" if smaller else "fewer operators" if kept else f"not smaller, {size}"
        return Judgement(kept, f"{what}; not timed: {evidence.not_timed_because}")
    ratio, interval = evidence.slowdown
    times = f"{1 / ratio:.2f}x as fast"
    if interval.low > 1 and ratio > 1 + MARGIN:
        return Judgement(False, f"slower: {times}" + (f", although smaller, {size}" if smaller else ""))
    if interval.high < 1 and ratio < 1 - MARGIN:
        return Judgement(True, times)
    if smaller:
        return Judgement(True, f"smaller, {size}, and as fast")
    return Judgement(False, f"neither faster nor smaller: {times}, {size}")


def _judge_instructions(dearer: Mapping[str, float], smaller: str) -> Judgement:
    """By the instructions of one inference: never dearer on any of the devices, and cheaper on one, or smaller."""
    said = " and ".join(f"{ratio:.2f}x" for ratio in dearer.values())
    worst = max(dearer, key=lambda device: dearer[device])
    if dearer[worst] > 1 + MARGIN:
        what = f"dearer on {worst.partition(',')[0]}: instructions {said}"
        return Judgement(False, what + (f", although {smaller}" if smaller else ""))
    if min(dearer.values()) < 1 - MARGIN:
        return Judgement(True, f"cheaper: instructions {said}")
    if smaller:
        return Judgement(True, f"{smaller}, and as cheap: instructions {said}")
    return Judgement(False, f"neither cheaper nor smaller: instructions {said}")
