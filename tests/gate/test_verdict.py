from __future__ import annotations

import pytest

from edgekit.gate.record import Verdict
from edgekit.gate.verdict import exit_code, is_clear, judge, overall


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.011, 0.03, "regression"),
        (0.01, 0.03, "inconclusive"),  # at the margin nothing is worse than it
        (-0.03, 0.02, "inconclusive"),
        (-0.005, 0.01, "pass"),
        (-0.02, 0.0, "pass"),
        (-0.03, -0.011, "improvement"),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, verdict: Verdict) -> None:
    assert judge(low, high, 0.01, "lower") == verdict
    assert judge(-high, -low, 0.01, "higher") == verdict


def test_an_exact_change_needs_no_margin() -> None:
    assert judge(0.0, 0.0, 0.0, "lower") == "pass"
    assert judge(1e-9, 1e-9, 0.0, "lower") == "regression"


@pytest.mark.parametrize(("low", "high", "clear"), [(-0.02, 0.0, False), (-0.009, 0.009, True), (0.0, 0.02, False)])
def test_more_is_measured_while_a_margin_lies_within(low: float, high: float, clear: bool) -> None:
    assert is_clear(low, high, 0.01) is clear


def test_the_worst_that_is_known_is_the_verdict_of_all() -> None:
    assert overall(["pass", "inconclusive", "regression", "invalid"]) == "regression"
    assert overall(["pass", "inconclusive", "invalid"]) == "invalid"
    assert overall(["improvement", "inconclusive"]) == "inconclusive"
    assert overall(["pass", "improvement"]) == "improvement"
    assert overall([]) == "pass"


def test_exit_codes_tell_verdicts_apart() -> None:
    assert [exit_code(one, strict=False) for one in (None, "pass", "improvement", "inconclusive")] == [0, 0, 0, 0]
    assert [exit_code(one, strict=True) for one in ("inconclusive", "regression", "invalid")] == [6, 1, 7]  # type: ignore[arg-type]
