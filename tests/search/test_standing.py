"""How trials stand to the limits and to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from edgekit.recipe import Limits
from edgekit.search.outcome import settle
from edgekit.search.standing import Standing, pareto
from edgekit.trials import Search, TrialRecord

LATENCY = Search(objective="latency")
LIMITS = Limits(max_drop=0.01)


def trial(number: int, kind: str = "full", **figures: Any) -> TrialRecord:
    known: dict[str, Any] = {"steps": 100, "state": "kept", "look_seconds": 1.0, "size_bytes": 1000}
    return TrialRecord.model_validate({"number": number, "kind": kind, "stages": (), **known, **figures})


def standing(*trials: TrialRecord, search: Search = LATENCY, limits: Limits = LIMITS, strict: bool = False) -> Standing:
    return Standing(trials, search, limits, strict)


def test_what_one_student_loses_beside_the_selection_split_is_expected_of_the_next() -> None:
    seen = trial(0, selection_drop=0.03, drop=0.005, drop_high=0.015)
    unseen = trial(1, selection_drop=0.042, look_seconds=0.0)
    now = standing(seen, unseen)
    assert now.expected_drop(unseen) == pytest.approx(0.017)
    assert now.error == pytest.approx(0.01 / 1.645)
    assert now.loses(unseen)
    assert not now.hopeless(unseen)  # 0.7 points beyond the limit; two looks of 0.6 each are off by 0.86
    assert now.hopeless(trial(2, selection_drop=0.044, look_seconds=0.0))


def test_nothing_is_expected_before_a_student_was_looked_at() -> None:
    untrained = trial(0, "quantized", steps=0, selection_drop=0.01, drop=0.0)
    unseen = trial(1, selection_drop=0.08, look_seconds=0.0)
    now = standing(untrained, unseen)
    assert now.gap is None
    assert now.expected_drop(unseen) is None
    assert not now.hopeless(unseen)


# Of an hour for a MiniLM on SST-2, before kin was left out: what students keep, ms, and points lost on both splits.
STUDENTS = (
    (0.349, 2.304, 0.4, 0.573),
    (0.244, 1.670, 0.2, 1.376),
    (0.292, 1.978, 0.5, -0.459),
    (0.267, 1.819, 0.3, None),
    (0.255, 1.742, -0.3, None),
    (0.244, 1.749, -0.1, None),
    (0.171, 1.265, 1.3, None),
    (0.204, 1.444, 0.1, None),
    (0.187, 1.339, 0.2, None),
    (0.179, 1.286, 0.7, None),  # it was looked at last, since the mean of the gaps is 0.13: it loses 3.44
)


def students(looks: Mapping[int, float] | None = None) -> Standing:
    """The trials of that search, with further looks: points lost by number."""
    found = [trial(0, "quantized", steps=0, latency_ms=6.461, selection_drop=0.003, drop=0.0034, drop_high=0.0103)]
    for number, (kept, ms, selection, drop) in enumerate(STUDENTS, 1):
        points = (looks or {}).get(number, drop)
        figures = {} if points is None else {"drop": points / 100, "drop_high": (points + 1.37) / 100}
        look = {"look_seconds": 0.0 if points is None else 20.0}
        one = {"kept": kept, "latency_ms": ms, "selection_drop": selection / 100}
        found.append(trial(number, **one, **figures, **look))
    return standing(*found)


def test_the_narrowest_student_is_expected_to_lose_more_than_its_mean_gap_says() -> None:
    now = students()
    assert now.gap is not None
    assert now.gap.mean == pytest.approx(0.0013, abs=1e-4)
    assert [now.loses(now.trials[number]) for number in (5, 6, 8, 9, 10)] == [False, False, True, True, True]
    found = now.to_look_at(1, ending=True)
    assert found is not None
    assert found.number == 5  # the cheapest of those that are expected to keep the limit


def test_a_look_that_fails_makes_the_next_one_a_wider_student() -> None:
    now = students({5: 2.5})
    found = now.to_look_at(1, ending=True)
    assert found is not None
    assert found.number == 4


def test_another_way_to_quantize_is_looked_at_where_the_selection_split_says_that_it_is_better() -> None:
    first = trial(0, "quantized", steps=0, selection_drop=0.01, drop=0.016, drop_high=0.026, latency_ms=5.0)
    unseen = {"steps": 0, "look_seconds": 0.0, "latency_ms": 5.1}
    same, better = (trial(1, "quantized", selection_drop=seen, **unseen) for seen in (0.01, 0.006))
    assert standing(first, same).to_look_at(4, ending=False) is None
    assert standing(first, better).to_look_at(4, ending=False) == better


def test_strict_counts_the_bound() -> None:
    one = trial(0, drop=0.005, drop_high=0.02)
    assert not standing(one).loses(one)
    assert standing(one, strict=True).loses(one)


def test_the_best_is_the_cheapest_within_the_limits_and_else_the_nearest() -> None:
    good = trial(0, latency_ms=10.0, drop=0.0)
    fast = trial(1, latency_ms=5.0, drop=0.009)
    faster = trial(2, latency_ms=4.0, drop=0.02)
    assert standing(good, fast, faster).best == fast
    assert standing(faster, trial(3, latency_ms=3.0, drop=0.013)).best is not None
    nearest = standing(faster, trial(3, latency_ms=3.0, drop=0.013)).best
    assert nearest is not None
    assert nearest.number == 3


def test_where_a_budget_is_used_up_the_best_is_the_one_that_loses_least_on_the_selection_split() -> None:
    search, limits = Search(objective="latency", fill=True), Limits(max_drop=0.01, max_ms=6.0)
    fast = trial(0, latency_ms=3.0, drop=0.004, selection_drop=0.03)
    slow = trial(1, latency_ms=5.9, drop=0.006, selection_drop=0.01)
    over = trial(2, latency_ms=7.0, drop=0.0, selection_drop=0.0)
    now = standing(fast, slow, over, search=search, limits=limits)
    assert now.best == slow
    assert now.pressure(over) == pytest.approx(7 / 6)
    assert now.misses(over) == pytest.approx(1 / 6)


def test_pressure_is_the_largest_of_all_limits_on_cost() -> None:
    limits = Limits(max_ms=10.0, max_mb=2.0, max_instructions=1000)
    one = trial(0, latency_ms=5.0, size_bytes=3_000_000, instructions=900)
    now = standing(one, limits=limits)
    assert now.pressure(one) == 1.5
    assert now.too_large(one)


def test_cost_is_linear_between_the_two_nearest_of_the_same_layers() -> None:
    limits = Limits(max_ms=10.0)
    whole = trial(0, "quantized", latency_ms=20.0)
    now = standing(whole, limits=limits)
    assert now.kept_for(0.95, 4, rest=0.1) == pytest.approx((0.95 - 0.2) / 1.8)
    half = trial(1, "timing", kept=0.5, layers=4, latency_ms=9.0)
    other = trial(2, "timing", kept=0.6, layers=3, latency_ms=1.0)
    now = standing(whole, half, other, limits=limits)
    assert now.kept_for(0.95, 4, rest=0.1) == pytest.approx(0.5 + 0.05 * 0.5 / 1.1)
    near = trial(3, "timing", kept=0.54, layers=4, latency_ms=9.8)
    now = standing(whole, half, near, limits=limits)
    assert now.kept_for(0.95, 4, rest=0.1) == pytest.approx(0.5 + 0.05 * 0.04 / 0.08)
    roomy = standing(whole, trial(1, "timing", kept=1.0, layers=6, latency_ms=20.0), limits=Limits(max_ms=40.0))
    assert roomy.kept_for(0.95, 6, rest=0.1) == 1.0  # no more than there is


def test_pareto_holds_what_nothing_beats_in_both() -> None:
    points = ((10.0, 0.00), (5.0, 0.01), (6.0, 0.02), (4.0, 0.03), (4.0, 0.04), (5.0, 0.01))
    trials = [trial(n, latency_ms=cost, selection_drop=drop) for n, (cost, drop) in enumerate(points)]
    assert pareto(trials, LATENCY) == {0, 1, 3, 5}


def test_pareto_leaves_out_what_cannot_be_compared() -> None:
    trials = [
        trial(0, latency_ms=10.0, selection_drop=0.0),
        trial(1, "timing", latency_ms=1.0),
        trial(2, latency_ms=None, selection_drop=0.0),
        trial(3, latency_ms=2.0, selection_drop=None, drop=0.0),
    ]
    assert pareto(trials, LATENCY) == {0}
    seen = [
        trial(0, latency_ms=2.0, drop=0.0),
        trial(1, latency_ms=1.0, drop=0.01),
        trial(2, latency_ms=3.0, drop=0.01),
    ]
    assert pareto(seen, LATENCY) == {0, 1}


def test_pareto_is_of_the_split_on_which_most_were_scored() -> None:
    trials = [  # of a short box, where only other ways to quantize are ranked on the selection split
        trial(0, "quantized", latency_ms=10.0, drop=0.02),
        trial(1, "quantized", latency_ms=9.0, selection_drop=0.01, drop=0.001),
        trial(2, latency_ms=5.0, drop=0.005),
    ]
    assert pareto(trials, LATENCY) == {1, 2}


def test_pareto_leaves_out_what_failed() -> None:
    trials = [trial(0, "quantized", size_bytes=9), trial(1, "quantized", size_bytes=5, state="failed")]
    assert pareto(trials, Search(objective="size")) == {0}


def test_each_trial_is_told_what_became_of_it() -> None:
    trials = (
        trial(0, "quantized", latency_ms=10.0, selection_drop=0.002, drop=0.0, steps=0),
        trial(1, latency_ms=5.0, selection_drop=0.02, drop=0.005),
        trial(2, latency_ms=4.0, selection_drop=0.05, drop=0.03),
        trial(3, "proxy", latency_ms=6.0, selection_drop=0.06, look_seconds=0.0),
        trial(4, "timing", state="timed", latency_ms=5.0),
        trial(5, state="failed", reason="it cannot be"),
    )
    told = [(one.state, one.reason, one.pareto) for one in settle(standing(*trials))]
    assert told == [
        ("kept", "nothing is cheaper and better", True),
        ("kept", "the result", True),
        ("failed", "loses 3.00 points, 1.00 allowed", True),
        ("dominated", "trial 1 is as cheap and as good", False),
        ("timed", "", False),
        ("failed", "it cannot be", False),
    ]


def test_a_trial_that_no_look_was_left_for_is_told_so() -> None:
    trials = (
        trial(0, latency_ms=5.0, selection_drop=0.02, drop=0.005),
        trial(1, latency_ms=4.0, selection_drop=0.02, look_seconds=0.0),
        trial(2, latency_ms=6.0, selection_drop=0.01, look_seconds=0.0),
    )
    told = [one.reason for one in settle(standing(*trials))]
    assert told == [
        "the result",
        "might be the result, and was not looked at on the evaluation split",
        "nothing is cheaper and better",
    ]


def test_a_saving_may_lose_a_quarter_of_the_limit_and_a_quarter_of_a_point_at_the_most() -> None:
    first = trial(0, "quantized", steps=0, selection_drop=0.001, drop=0.001)

    def stays(lost: float, bound: float) -> bool:
        saved = trial(1, "extra", steps=0, parent=0, selection_drop=0.001 + lost)
        return standing(first, saved, limits=Limits(max_drop=bound)).lever_stays(saved)

    assert [stays(lost, 0.01) for lost in (0.0024, 0.0026)] == [True, False]
    assert [stays(lost, 0.05) for lost in (0.0024, 0.0026)] == [True, False]
    assert [stays(lost, 0.002) for lost in (0.0012, 0.0013)] == [True, False]


def test_the_last_look_is_kept_for_the_end_unless_it_ends_the_search() -> None:
    first = trial(0, "quantized", steps=0, latency_ms=8.0, selection_drop=0.0, drop=0.0)
    seen = trial(1, latency_ms=4.0, selection_drop=0.02, drop=0.004, drop_high=0.01)
    faster = trial(2, latency_ms=3.0, selection_drop=0.022, look_seconds=0.0)
    slower = trial(3, latency_ms=5.0, selection_drop=0.021, look_seconds=0.0)
    hopeless = trial(4, latency_ms=2.0, selection_drop=0.05, look_seconds=0.0)
    now = standing(first, seen, faster, slower, hopeless)
    assert now.to_look_at(2, ending=False) == faster
    assert now.to_look_at(1, ending=False) is None
    assert now.to_look_at(1, ending=True) == faster
    assert now.to_look_at(0, ending=True) is None
    assert standing(first, seen, slower, hopeless).to_look_at(4, ending=True) is None
    fills = standing(
        trial(0, "quantized", steps=0, latency_ms=8.0, selection_drop=0.0, drop=0.0, divergence=0.1),
        trial(1, "quantized", steps=0, latency_ms=3.9, selection_drop=0.0, look_seconds=0.0, divergence=0.2),
        search=Search(objective="latency", fill=True),
        limits=Limits(max_drop=0.01, max_ms=4.0),
    )
    assert fills.to_look_at(1, ending=False) == fills.trials[1]


def test_a_saving_that_loses_too_much_is_looked_at_where_size_counts() -> None:
    first = trial(0, "quantized", steps=0, latency_ms=8.0, selection_drop=0.0, drop=0.0)
    saved = {"steps": 0, "parent": 0, "look_seconds": 0.0, "latency_ms": 7.9, "size_bytes": 500}
    dear = trial(1, "extra", selection_drop=0.008, **saved)
    cheap = trial(2, "extra", selection_drop=0.001, **saved)
    assert standing(first, dear).to_look_at(4, ending=True) is None
    assert standing(first, dear, cheap).to_look_at(4, ending=True) == cheap
    assert standing(first, dear, cheap).to_look_at(4, ending=False) is None
    assert standing(first, dear, search=Search(objective="size")).to_look_at(4, ending=True) == dear


def test_what_a_result_costs_beyond_its_shape_is_foreseen_of_the_next() -> None:
    limits = Limits(max_ms=10.0)
    timed = trial(1, "timing", kept=0.5, asked=0.5, layers=4, latency_ms=9.5)
    full = trial(2, "full", kept=0.5, asked=0.5, layers=4, latency_ms=10.07)
    now = standing(trial(0, "quantized", latency_ms=20.0), timed, full, limits=limits)
    assert now.excess == pytest.approx(1.06)
    assert now.foreseen(timed) == pytest.approx(1.007)
    assert now.foreseen(full) == pytest.approx(1.007)
    assert now.kept_for(0.955, 4, rest=0.1) == pytest.approx(0.5 - (1.007 - 0.955) * 0.5 / (2 - 1.007))
