from __future__ import annotations

from typing import Any

import pytest

from edgekit.judgement import Evidence, Judgement, judge
from edgekit.measure.latency import MARGIN
from edgekit.measure.statistics import Interval


def verdict(ratio: float | None = None, *, spread: float = 0.005, **changes: Any) -> Judgement:
    """The judgement of a candidate that takes ``ratio`` times as long as its parent."""
    slowdown = None if ratio is None else (ratio, Interval(ratio - spread, ratio + spread, 0.99))
    values: dict[str, Any] = {
        "size_before": 10_000_000,
        "size_after": 10_000_000,
        "operators_before": 100,
        "operators_after": 100,
        "same_graph": False,
        "slowdown": slowdown,
        "drop": 0.0,
        "max_drop": 0.01,
    }
    return judge(Evidence(**(values | changes)))


def test_over_the_limit_is_undone_however_fast() -> None:
    found = verdict(0.2, drop=0.0151, size_after=2_000_000)
    assert found == Judgement(False, "loses 1.51 points in all, allowed 1.00")


def test_a_bound_is_not_told_as_a_loss() -> None:
    found = verdict(0.2, drop=0.013, proof=True)
    assert found == Judgement(False, "may lose up to 1.30 points in all, allowed 1.00, by its 95 % bound")
    assert verdict(0.2, drop=0.013).reason == "loses 1.30 points in all, allowed 1.00"


def test_at_the_limit_is_kept() -> None:
    assert verdict(0.2, drop=0.01).kept is True
    assert verdict(0.2, drop=0.03 - 0.02).kept is True  # a hair above 0.01 in binary


@pytest.mark.parametrize("limit", [{"drop": None}, {"max_drop": None, "drop": 0.9}])
def test_without_data_or_limit_quality_does_not_decide(limit: dict[str, Any]) -> None:
    assert verdict(0.5, **limit) == Judgement(True, "2.00x as fast")


def test_slower_though_smaller_is_undone() -> None:
    found = verdict(1.25, size_after=2_500_000)
    assert found == Judgement(False, "slower: 0.80x as fast, although smaller, 10.0 -> 2.5 MB")
    assert verdict(1.25).reason == "slower: 0.80x as fast"


def test_faster_is_kept_though_larger() -> None:
    assert verdict(0.5, size_after=20_000_000) == Judgement(True, "2.00x as fast")


def test_smaller_and_as_fast_is_kept() -> None:
    assert verdict(1.0, size_after=2_500_000) == Judgement(True, "smaller, 10.0 -> 2.5 MB, and as fast")


def test_neither_faster_nor_smaller_is_undone() -> None:
    found = verdict(1.0)
    assert found == Judgement(False, "neither faster nor smaller: 1.00x as fast, 10.0 -> 10.0 MB")


@pytest.mark.parametrize("ratio", [1 - MARGIN / 2, 1 + MARGIN / 2])
def test_a_change_within_the_margin_is_none(ratio: float) -> None:
    assert verdict(ratio, spread=1e-6).reason.startswith("neither faster nor smaller")
    assert verdict(ratio, spread=1e-6, size_after=2_500_000).kept is True


@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_a_change_whose_interval_holds_1_is_none(ratio: float) -> None:
    assert verdict(ratio, spread=0.2).reason.startswith("neither faster nor smaller")


@pytest.mark.parametrize(("size", "kept"), [(9_950_000, False), (9_850_000, True)])
def test_a_size_within_the_margin_is_the_same(size: int, kept: bool) -> None:
    assert verdict(1.0, size_after=size).kept is kept


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size_after": 2_500_000}, Judgement(True, "smaller, 10.0 -> 2.5 MB; not timed: elsewhere")),
        ({"operators_after": 90}, Judgement(True, "fewer operators; not timed: elsewhere")),
        (
            {"operators_after": 90, "size_after": 11_000_000},
            Judgement(False, "not smaller, 10.0 -> 11.0 MB; not timed: elsewhere"),
        ),
        ({}, Judgement(False, "not smaller, 10.0 -> 10.0 MB; not timed: elsewhere")),
        ({"drop": 0.02}, Judgement(False, "loses 2.00 points in all, allowed 1.00")),
    ],
)
def test_what_cannot_be_timed_is_judged_by_size_and_operators(changes: dict[str, Any], expected: Judgement) -> None:
    assert verdict(None, not_timed_because="elsewhere", **changes) == expected


def test_the_same_graph_is_not_faster_whatever_was_measured() -> None:
    expected = Judgement(False, "neither faster nor smaller: the same graph with other weights")
    assert verdict(0.9, same_graph=True) == expected
    assert verdict(same_graph=True, not_timed_because="no device") == expected
    because = Judgement(False, "neither faster nor smaller: it needs data")
    assert verdict(0.9, same_graph=True, unchanged_because="it needs data") == because
    assert verdict(0.9, unchanged_because="it needs data").kept
    assert verdict(0.9, same_graph=True, drop=0.02).reason == "loses 2.00 points in all, allowed 1.00"
