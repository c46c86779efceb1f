"""The verdict on each limit: met by the figure, proven by its bound, unknown without either."""

from __future__ import annotations

import pytest

from edgekit.recipe import Limits
from edgekit.report import Quality
from edgekit.verdicts import Found, verdicts

LIMITS = Limits(max_drop=0.01, max_ms=5.0, max_mb=8.0, max_instructions=1000, time=60.0)
QUALITY = Quality(
    metric="accuracy",
    before=0.9,
    after=0.895,
    drop=0.005,
    drop_low=-0.01,
    drop_high=0.02,
    n=100,
    flips=3,
    cosine=0.99,
    split="validation",
    looks=1,
)
FOUND = Found(QUALITY, p50_ms=4.9, p50_bound_ms=5.1, megabytes=8.0, instructions=1001, seconds=59.0)


def test_each_limit_has_its_verdict() -> None:
    told = {one.limit: (one.bound, one.value, one.met, one.proven) for one in verdicts(LIMITS, FOUND)}
    assert told == {
        "max_drop": (0.01, 0.005, True, False),
        "max_ms": (5.0, 4.9, True, False),
        "max_mb": (8.0, 8.0, True, True),
        "max_instructions": (1000, 1001, False, False),
        "time": (60.0, 59.0, True, True),
    }


def test_what_was_not_measured_is_unknown() -> None:
    found = Found(None, p50_ms=None, p50_bound_ms=None, megabytes=1.0, instructions=None, seconds=1.0)
    told = {one.limit: (one.met, one.proven) for one in verdicts(LIMITS, found)}
    assert told["max_drop"] == told["max_ms"] == told["max_instructions"] == (None, None)


@pytest.mark.parametrize(("p50", "met", "proven"), [(4.0, True, None), (6.0, False, False)])
def test_latency_without_a_bound_is_never_proven(p50: float, met: bool, proven: bool | None) -> None:
    found = Found(None, p50_ms=p50, p50_bound_ms=None, megabytes=1.0, instructions=None, seconds=1.0)
    (verdict,) = verdicts(Limits(max_ms=5.0), found)
    assert (verdict.met, verdict.proven) == (met, proven)


def test_no_limit_has_no_verdict() -> None:
    assert verdicts(Limits(), FOUND) == ()
