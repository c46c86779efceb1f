from __future__ import annotations

from collections.abc import Sequence

import pytest
from records import make_record, p50

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
    def of(*verdicts: Verdict | None) -> Verdict:
        return overall([p50(1.0, margin=0.01, verdict=one) for one in verdicts])

    assert of("pass", "inconclusive", "regression", "invalid") == "regression"
    assert of("pass", "inconclusive", "invalid") == "invalid"
    assert of("improvement", "inconclusive") == "inconclusive"
    assert of("pass", "improvement") == "improvement"
    assert overall([p50(1.0)]) == "pass"


def test_what_cannot_be_measured_leaves_the_verdict_to_the_others() -> None:
    unmeasured, passed = p50(None, margin=0.01), p50(1.0, margin=0.01, verdict="pass")
    assert overall([unmeasured, passed]) == "pass"
    assert overall([unmeasured, p50(1.0)]) == "invalid"
    record = make_record(unmeasured, passed, verdict="pass")
    assert record.unmeasured == (unmeasured,)
    assert [exit_code(record, strict=strict) for strict in (False, True)] == [0, 6]
    worse = make_record(unmeasured, passed, verdict="regression")
    assert exit_code(worse, strict=True) == 1


def test_exit_codes_tell_verdicts_apart() -> None:
    def codes(verdicts: Sequence[Verdict | None], *, strict: bool) -> list[int]:
        return [exit_code(make_record(p50(1.0), verdict=one), strict=strict) for one in verdicts]

    assert codes((None, "pass", "improvement", "inconclusive"), strict=False) == [0, 0, 0, 0]
    assert codes(("pass", "inconclusive", "regression", "invalid"), strict=True) == [0, 6, 1, 7]
