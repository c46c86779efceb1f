"""The line through what students lose more on the evaluation split."""

from __future__ import annotations

import math

import pytest

from edgekit.search.gap import RIDGE, SLOPE, Gap, removed
from edgekit.trials import TrialRecord


def seen(kept: float | None, gap: float | None) -> TrialRecord:
    """A student that loses a point on the selection split, and so much more on the other."""
    drop = None if gap is None else 0.01 + gap
    return TrialRecord(number=1, kind="full", stages=(), kept=kept, selection_drop=0.01, drop=drop)


def test_nothing_is_known_before_a_trial_was_seen_on_both_splits() -> None:
    assert Gap.of([seen(0.5, None)]) is None
    assert Gap.of([]) is None


def test_what_was_removed_counts_by_its_logarithm() -> None:
    assert removed(seen(math.exp(-2), None)) == pytest.approx(2.0)
    assert removed(seen(1.0, None)) == 0.0
    assert removed(seen(None, None)) == 0.0  # not known: a model whose shape nobody changed


def test_one_look_tells_a_level_and_leaves_the_slope_that_is_expected() -> None:
    line = Gap.of([seen(0.3, -0.02)])
    assert line is not None
    assert line.slope == pytest.approx(SLOPE)
    assert [line.at(seen(kept, None)) for kept in (0.3, 0.3 / math.e)] == pytest.approx([-0.02, -0.02 + SLOPE])


def test_students_of_one_shape_tell_the_mean_of_their_gaps() -> None:
    line = Gap.of([seen(0.3, -0.02), seen(0.3, 0.01)])
    assert line is not None
    assert line.slope == pytest.approx(SLOPE)
    assert line.at(seen(0.3, None)) == pytest.approx(-0.005)


def test_students_that_are_far_apart_say_the_slope_themselves() -> None:
    line = Gap.of([seen(0.9, 0.01), seen(0.01, 0.01)])
    assert line is not None
    assert line.slope < 0.01 * SLOPE


def test_the_slope_is_that_of_least_squares_with_a_ridge() -> None:
    points = [(1.0, 0.001), (1.4, 0.012), (1.2, 0.0), (1.7, 0.027)]
    line = Gap.of([seen(math.exp(-x), gap) for x, gap in points])
    assert line is not None
    assert line.removed == pytest.approx(1.325)
    assert line.mean == pytest.approx(0.01)
    spread = 0.325**2 + 0.075**2 + 0.125**2 + 0.375**2
    told = 0.325 * 0.009 + 0.075 * 0.002 + 0.125 * 0.01 + 0.375 * 0.017
    slope = (told + RIDGE * SLOPE) / (spread + RIDGE)
    assert line.slope == pytest.approx(slope)
    assert line.at(seen(math.exp(-2.0), None)) == pytest.approx(0.01 + 0.675 * slope)


def test_a_gap_that_would_fall_is_level() -> None:
    line = Gap.of([seen(0.4, 0.01), seen(0.2, -0.01)])
    assert line is not None
    assert line.slope == 0
    assert line.at(seen(0.1, None)) == pytest.approx(0.0)


def test_doubt_falls_with_looks_and_grows_away_from_them() -> None:
    one = Gap.of([seen(0.3, 0.0)])
    four = Gap.of([seen(kept, 0.0) for kept in (0.5, 0.4, 0.3, 0.2)])
    assert one is not None
    assert four is not None
    assert one.doubt(seen(0.3, None)) == pytest.approx(math.sqrt(2))  # of the look that was, and of the one that comes
    assert one.doubt(seen(0.3 / math.e, None)) == pytest.approx(math.sqrt(2 + 1 / RIDGE))
    near, far = (four.doubt(seen(kept, None)) for kept in (0.33, 0.1))
    assert math.sqrt(1.25) < near < 1.13
    assert far > 1.5
