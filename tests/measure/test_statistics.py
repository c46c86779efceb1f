from __future__ import annotations

import numpy as np
import pytest

from edgekit.measure.statistics import FEWEST, median_bound, paired_bootstrap, percentile, ratio_of_medians


def test_percentiles_are_numpys() -> None:
    samples = np.random.default_rng(0).gamma(2.0, size=1000).tolist()
    for rank in (50, 90, 99):
        assert percentile(samples, rank) == pytest.approx(np.percentile(samples, rank))


@pytest.mark.parametrize(("rank", "fewest"), [(50, 1), (90, 64), (99, 662)])
def test_a_percentile_needs_its_number_of_samples(rank: int, fewest: int) -> None:
    assert FEWEST[rank] == fewest
    assert percentile([2.0] * fewest, rank) == 2.0
    assert percentile([2.0] * (fewest - 1), rank) is None


def test_the_bound_of_a_median_is_the_order_statistic() -> None:
    # of 10 values, at most 7 lie below the median with 94.5 %, at most 8 with 98.9 %
    assert median_bound([float(value) for value in range(10)]) == 8.0
    assert median_bound([5.0, 1.0, 4.0, 2.0, 3.0]) == 5.0  # all five below: 3 %
    assert median_bound([1.0, 2.0, 3.0, 4.0]) is None  # all four below: 6 %
    assert median_bound([float(value) for value in range(30)]) == 19.0  # at most 19 with 95.1 %


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(60):
        samples = np.random.default_rng(trial).normal(3.0, 1.0, 60)
        low, high, level = paired_bootstrap(
            lambda chosen, s=samples: float(s[chosen].mean()), 60, level=0.9, seed=trial
        )
        assert level == 0.9
        covered += low <= 3.0 <= high
    assert 48 <= covered <= 60  # 54 expected; 48 or fewer has a probability of 2 %


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    samples = np.random.default_rng(0).normal(0.0, 1.0, 400)
    low, high, _ = paired_bootstrap(lambda chosen: float(samples[chosen].mean()), 400, level=0.9)
    half = 1.645 * samples.std() / 20
    assert low == pytest.approx(samples.mean() - half, abs=0.01)
    assert high == pytest.approx(samples.mean() + half, abs=0.01)


def test_pairs_stay_together() -> None:
    before = np.random.default_rng(0).normal(0.0, 100.0, 200)
    after = before - 0.5
    found = paired_bootstrap(lambda chosen: float(before[chosen].mean() - after[chosen].mean()), 200, level=0.9)
    assert (found.low, found.high) == (pytest.approx(0.5), pytest.approx(0.5))


def test_the_same_seed_gives_the_same_interval() -> None:
    samples = np.random.default_rng(0).normal(size=50)
    one, same, other = (
        paired_bootstrap(lambda chosen: float(samples[chosen].mean()), 50, level=0.9, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_the_ratio_is_the_median_over_rounds_of_block_medians() -> None:
    slow = [[2.0, 2.2, 9.0], [4.0, 4.0, 4.0], [30.0, 3.0, 3.0]]
    fast = [[1.0, 1.1, 1.0], [1.0, 1.0, 7.0], [1.0, 1.0, 1.0]]
    ratio, interval = ratio_of_medians(slow, fast, level=0.99)
    assert ratio == 3.0  # of 2.2, 4 and 3
    assert 2.2 <= interval.low <= 3.0 <= interval.high <= 4.0


def test_what_slows_a_whole_round_cancels() -> None:
    random = np.random.default_rng(0)
    slowdown = random.uniform(1, 5, 30)
    fast = [[float(s * random.normal(1.0, 0.001)) for _ in range(3)] for s in slowdown]
    slow = [[float(s * random.normal(1.5, 0.001)) for _ in range(3)] for s in slowdown]
    ratio, interval = ratio_of_medians(slow, fast, level=0.99)
    assert ratio == pytest.approx(1.5, abs=0.002)
    assert interval.high - interval.low < 0.01


def test_equal_subjects_have_an_interval_around_1() -> None:
    random = np.random.default_rng(0)
    one, other = ([[float(random.normal(1.0, 0.05)) for _ in range(3)] for _ in range(30)] for _ in range(2))
    _, interval = ratio_of_medians(one, other, level=0.99)
    assert interval.low < 1 < interval.high


def test_rounds_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio_of_medians([[1.0]], [[1.0], [1.0]], level=0.99)
