from __future__ import annotations

import pytest

from edgekit.errors import UnknownNameError, UsageError
from edgekit.gate.margins import default_margins, parse_margins


def test_margins_are_shares_without_a_sign() -> None:
    found = parse_margins("latency.p50=1%, size=+2 %,accuracy=-0.5pp,throughput=-3%").of
    assert found == pytest.approx({"latency.p50": 0.01, "size": 0.02, "accuracy": 0.005, "throughput": 0.03})
    assert parse_margins("accuracy=1%,size=0%").of == {"accuracy": 0.01, "size": 0.0}


def test_what_is_gated_where_nothing_is_said() -> None:
    assert default_margins(timed=True, data=False).of == {"latency.p50": 0.01, "size": 0.01}
    assert default_margins(timed=False, data=True).of == {"instructions": 0.01, "size": 0.01, "accuracy": 0.005}


def test_a_margin_below_what_two_sessions_differ_by_is_doubted() -> None:
    (doubt,) = parse_margins("latency.p50=0.5%,size=0.1%").doubts(stored=False)
    assert doubt.startswith("latency.p50: two sessions of one model differ by half a percent")
    assert parse_margins("latency.p50=1%").doubts(stored=False) == ()


def test_a_result_of_another_session_takes_a_larger_margin() -> None:
    (doubt,) = parse_margins("latency.p50=1%,size=0.1%").doubts(stored=True)
    assert doubt == "latency.p50: two sessions of one model differ by half a percent; take a margin of 3%"
    assert default_margins(timed=True, data=False, stored=True).of == {"latency.p50": 0.03, "size": 0.01}
    assert default_margins(timed=True, data=False, stored=True).doubts(stored=True) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("latency.p50", "'latency.p50' is no METRIC=MARGIN"),
        ("", "'' is no METRIC=MARGIN"),
        ("size=1%,size=2%", "size is given twice"),
        ("size=1", "the margin of size is written in %, as in size=1%"),
        ("size=1pp", "the margin of size is written in %"),
        ("accuracy=0.01", "the margin of accuracy is written in pp or %, as in accuracy=1pp"),
        ("size=x%", "'x%' is no margin of size"),
        ("size=nan%", "'nan%' is no margin of size"),
        ("size=-1%", "a size that is worse has the sign +"),
        ("accuracy=+1pp", "a accuracy that is worse has the sign -"),
    ],
)
def test_what_is_no_margin_is_an_error(text: str, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_margins(text)
    assert raised.value.id == "usage.bad-value"
    assert why in raised.value.why


def test_a_metric_that_does_not_exist_is_an_error_with_those_that_do() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'latency\.p50'") as raised:
        parse_margins("latency.p5=1%")
    assert raised.value.id == "unknown-name.metric"
