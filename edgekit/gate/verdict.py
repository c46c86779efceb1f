"""From an interval and a margin to a verdict, of a metric and of all.

A change for the worse is told from one that is none by the whole interval, not by the estimate:

=============  =========================================================
regression     all of the interval is worse than the margin
improvement    all of it is better by more than the margin
pass           none of it is worse than the margin
inconclusive   the margin lies within it: more has to be measured
invalid        the two sides cannot be compared
=============  =========================================================

What a place has no means to measure, such as energy without a counter, has no verdict and a warning: the other metrics
decide, and where there is no other, the gate is invalid. With ``--strict`` it counts as what is not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.gate.record import BenchRecord, Direction, Metric, Verdict

# The first that any metric has is that of all: a regression that was found stays one, whatever else is not known.
RANKED: tuple[Verdict, ...] = ("regression", "invalid", "inconclusive", "improvement", "pass")
REGRESSION_EXIT_CODE, INCONCLUSIVE_EXIT_CODE, INVALID_EXIT_CODE = 1, 6, 7


def judge(low: float, high: float, margin: float, direction: Direction) -> Verdict:
    """The verdict on a change.

    Args:
        low: least end of the interval of the change, candidate over baseline.
        high: its other end.
        margin: the change for the worse that is allowed, not negative.
        direction: which is better.
    """
    least, most = (low, high) if direction == "lower" else (-high, -low)  # of how much worse it is
    if least > margin:
        return "regression"
    if most < -margin:
        return "improvement"
    return "pass" if most <= margin else "inconclusive"


def is_clear(low: float, high: float, margin: float) -> bool:
    """Whether more of the same would change no verdict: neither margin lies within the interval."""
    return not any(low <= edge <= high for edge in (-margin, margin))


def overall(metrics: Iterable[Metric]) -> Verdict:
    """The verdict of all gated metrics together; a pass where none is gated, invalid where none can be measured."""
    gated = [one for one in metrics if one.margin is not None]
    found = {one.verdict for one in gated}
    return next((one for one in RANKED if one in found), "invalid" if gated else "pass")


def exit_code(record: BenchRecord, *, strict: bool) -> int:
    """What a command line ends in.

    Args:
        record: of a gate, or of a measurement alone.
        strict: whether it is enough for a failure that of some metric nothing is known.
    """
    failed = {"regression": REGRESSION_EXIT_CODE, "invalid": INVALID_EXIT_CODE}.get(record.verdict or "", 0)
    return failed or (INCONCLUSIVE_EXIT_CODE if strict and is_unknown(record) else 0)


def is_unknown(record: BenchRecord) -> bool:
    """Whether of some gated metric nothing is known: it is inconclusive, or cannot be measured there."""
    return record.verdict == "inconclusive" or bool(record.unmeasured)
