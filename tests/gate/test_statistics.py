from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from edgekit.gate.statistics import (
    FEWEST_PROCESSES,
    LEVEL,
    LOOK_LEVEL,
    paired_change,
    pooled_change,
    resample,
    stretch,
    t_quantile,
    unpaired_change,
)


@pytest.mark.parametrize(
    ("share", "degrees", "value"),
    # Abramowitz and Stegun 1964, table 26.10
    [(0.995, 1, 63.657), (0.995, 4, 4.604), (0.975, 5, 2.571), (0.995, 30, 2.750), (0.9995, 9, 4.781)],
)
def test_students_quantiles_are_those_of_the_tables(share: float, degrees: int, value: float) -> None:
    assert t_quantile(share, degrees) == pytest.approx(value, abs=5e-4)


def test_an_interval_of_few_processes_is_stretched() -> None:
    assert stretch(5, LEVEL) == pytest.approx(math.sqrt(5 / 4) * 5.841 / 2.5758, rel=1e-3)
    assert stretch(100, 0.95, taken=0.95) == pytest.approx(math.sqrt(100 / 99) * 1.9845 / 1.95996, rel=1e-3)
    assert stretch(1000, LEVEL) == pytest.approx(1.0, abs=0.01)
    assert stretch(5, LOOK_LEVEL) > stretch(5, LEVEL) > stretch(6, LEVEL) > 1


def test_many_processes_take_little_memory() -> None:
    """An hour's are some thousands: a table of every resample by every process twice would be gigabytes."""
    tracemalloc.start()
    try:
        found = resample([[1.0 + 0.001 * (number % 7)] for number in range(1000)]).at(LEVEL)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()
    assert found.low <= 1.003 <= found.high


def test_what_slows_both_sides_cancels() -> None:
    slowed = np.linspace(1, 9, 40)
    machine = (1.0, 1.3, 0.8, 1.1, 2.0)
    baseline = [(slowed * process * 2.0).tolist() for process in machine]
    candidate = [(slowed * process * 2.1).tolist() for process in machine]
    found = paired_change(candidate, baseline).at(LEVEL)
    assert (found.value, found.low, found.high) == pytest.approx((0.05, 0.05, 0.05))
    assert found.n == 200
    apart = unpaired_change(candidate, baseline).at(LEVEL)
    assert apart.low < 0 < apart.high


def test_a_percentile_is_that_of_all_processes_together() -> None:
    """Nine fast processes and a slow one: the median over processes of their p90 does not know the slow one."""
    random = np.random.default_rng(0)
    blocks = [(np.exp(random.normal(0, 0.05, 100)) * slow).tolist() for slow in [1.0] * 8 + [3.0, 3.0]]
    found = resample(blocks, share=0.9)
    assert found.value == pytest.approx(np.quantile(np.ravel(blocks), 0.9))
    assert found.value > 2.5
    assert found.n == 1000
    estimate = found.at(LEVEL)
    assert estimate.low < 1.2  # with no slow process drawn
    assert estimate.high > 2.9  # with several


@pytest.mark.parametrize("cells", [1, 1000, 10**9])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_resamples_are_quantiles_of_what_was_drawn(share: float, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.gate.statistics.MOST_CELLS", cells)
    monkeypatch.setattr("edgekit.gate.statistics.RESAMPLES", 50)
    blocks = np.random.default_rng(1).normal(10, 1, (6, 7))
    found = resample(blocks.tolist(), seed=3, share=share)
    drawn = np.random.default_rng(3).integers(0, 6, (50, 6))
    assert found.resampled == pytest.approx([np.quantile(blocks[rows], share) for rows in drawn], abs=1e-12)


def test_a_percentile_of_both_sides_is_resampled_by_the_same_processes() -> None:
    random = np.random.default_rng(0)
    baseline = [(np.exp(random.normal(0, 0.05, 80)) * slow).tolist() for slow in (1.0, 1.4, 0.7, 2.0, 1.1)]
    candidate = [[one * 1.1 for one in process] for process in baseline]
    found = pooled_change(candidate, baseline, 0.9).at(LEVEL)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    apart = unpaired_change(candidate, baseline, 0.9).at(LEVEL)
    assert apart.low < 0
    assert apart.high > 0.2


def test_no_end_of_a_wide_interval_is_beyond_what_there_can_be() -> None:
    """A process of five is four times slower: moved as a difference, the low end would be negative."""
    random = np.random.default_rng(0)
    slow = (1.0, 1.0, 1.0, 4.0, 1.0)
    baseline, candidate = ([(np.exp(random.normal(0, 0.3, 100)) * one).tolist() for one in slow] for _ in range(2))
    own = resample(baseline, share=0.99).at(LEVEL)
    assert 0 < own.low < own.value < own.high
    found = unpaired_change(candidate, baseline, 0.99).at(LEVEL)
    back = unpaired_change(baseline, candidate, 0.99).at(LEVEL)
    assert -1 < found.low < -0.8
    assert back.high > 4
    for end in (found, back):
        assert -1 < end.low < end.value < end.high


@pytest.mark.parametrize("processes", [1, 2])
def test_one_or_two_processes_tell_nothing_of_others(processes: int) -> None:
    found = resample([[1.0, 1.1, 1.2]] * processes).at(LEVEL)
    assert (found.value, found.low, found.high) == (1.1, -math.inf, math.inf)


def test_processes_of_different_lengths_weigh_the_same() -> None:
    found = resample([[1.0] * 90, *[[2.0] * 10] * 4], seed=1)
    assert found.value == 2.0
    assert found.n == 130
    assert set(np.unique(found.resampled)) == {1.0, 2.0}


def test_the_offset_of_a_process_is_not_averaged_away_by_its_blocks() -> None:
    """Of 200 samples of the least processes, the interval has the truth in at least as many as its level says."""
    random = np.random.default_rng(0)
    missed = 0
    for trial in range(200):
        offsets = random.normal(0.0, 0.01, FEWEST_PROCESSES)
        blocks = [np.exp(random.normal(offset, 0.005, 30)).tolist() for offset in offsets]
        found = resample(blocks, seed=trial).at(LEVEL)
        missed += not found.low <= 1 <= found.high
    assert missed <= 6  # 2 are expected; 7 or more have a probability of half a percent
