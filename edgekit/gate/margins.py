"""Margins: how much worse a metric may be, as ``latency.p50=1%,accuracy=-0.5pp`` says it.

A margin is the change for the worse that is allowed. It is relative (``1%`` of the baseline's value), and for
``accuracy`` points of the metric's own scale (``0.5pp`` or ``0.5%``). A sign may be written, and has to be that of what
is worse: ``+1%`` of a latency, ``-0.5pp`` of the accuracy.

Two sessions of one model differ by half a percent though nothing changed (docs/decisions/0014-the-gate.md): a margin
below one percent on a time finds differences that are none, and is doubted in a warning. A result of another session as
the baseline is known to one percent at best, so that a margin of a time has to be three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.errors import UnknownNameError, UsageError
from edgekit.gate.metrics import METRICS

EXAMPLE = "latency.p50=1%,size=1%,accuracy=-0.5pp"
LEAST_OF_TIMES, LEAST_OF_SESSIONS = 0.01, 0.03
TIMES = ("latency.p50", "latency.p90", "latency.p99", "throughput", "cold_start", "load", "energy")
DEFAULT_TIMED, DEFAULT_COUNTED = "latency.p50=1%,size=1%", "instructions=1%,size=1%"
DEFAULT_STORED = "latency.p50=3%,size=1%"
DEFAULT_WITH_DATA = "accuracy=-0.5pp"


@dataclass(frozen=True)
class Margins:
    """The margins of a gate, by metric; none is negative."""

    of: Mapping[str, float]

    def __contains__(self, name: str) -> bool:
        return name in self.of

    def get(self, name: str) -> float | None:
        """The margin of a metric; None where it is not gated."""
        return self.of.get(name)

    def doubts(self, *, stored: bool) -> tuple[str, ...]:
        """Margins that are too small to be trusted, one sentence each.

        Args:
            stored: whether the baseline is a result of another session.
        """
        least = LEAST_OF_SESSIONS if stored else LEAST_OF_TIMES
        small = [name for name, margin in self.of.items() if name in TIMES and margin < least]
        return tuple(
            f"{name}: two sessions of one model differ by half a percent; take a margin of {least:.0%}"
            for name in small
        )


def default_margins(*, timed: bool, data: bool, stored: bool = False) -> Margins:
    """What is gated where nothing is said.

    Args:
        timed: whether there is a clock; instructions are counted otherwise.
        data: whether there are samples to answer.
        stored: whether the baseline is a result of another session.
    """
    text = (DEFAULT_STORED if stored else DEFAULT_TIMED) if timed else DEFAULT_COUNTED
    return parse_margins(f"{text},{DEFAULT_WITH_DATA}" if data else text)


def parse_margins(text: str) -> Margins:
    """Margins as ``--gate`` has them.

    Raises:
        UnknownNameError: no such metric.
        UsageError: no margin, or a metric that is named twice.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or not value:
            raise _wrong(text, f"{part.strip()!r} is no METRIC=MARGIN")
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS, id="unknown-name.metric")
        if name in found:
            raise _wrong(text, f"{name} is given twice")
        found[name] = _margin(text, name, value)
    return Margins(found)


def _margin(text: str, name: str, value: str) -> float:
    kind = METRICS[name]
    units = ("pp", "%") if kind.points else ("%",)
    unit = next((unit for unit in units if value.endswith(unit)), None)
    if unit is None:
        raise _wrong(text, f"the margin of {name} is written in {' or '.join(units)}, as in {name}=1{units[0]}")
    number = value.removesuffix(unit).strip()
    try:
        margin = float(number) / 100
    except ValueError:
        margin = math.nan
    if not abs(margin) < 10:  # true for NaN, too
        raise _wrong(text, f"{value!r} is no margin of {name}")
    worse = "-" if kind.direction == "higher" else "+"
    if number[0] in "+-" and number[0] != worse and margin:
        why = f"a {name} that is worse has the sign {worse}, and the margin of {name} was given as {value}"
        raise _wrong(text, why)
    return abs(margin)


def _wrong(text: str, why: str) -> UsageError:
    hint = f"Write it as in --gate {EXAMPLE}."
    return UsageError(f"--gate {text!r} cannot be read", id="usage.bad-value", why=why, hint=hint)
