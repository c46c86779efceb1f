from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.gate.statistics import (
    FEWEST_PROCESSES,
    LEVEL,
    LOOK_LEVEL,
    paired_change,
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
    assert stretch(5, LEVEL) == pytest.approx(math.sqrt(5 / 4) * 4.604 / 2.5758, rel=1e-3)
    assert stretch(1000, LEVEL) == pytest.approx(1.0, abs=0.01)
    assert stretch(5, LOOK_LEVEL) > stretch(5, LEVEL) > stretch(6, LEVEL) > 1


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


def test_one_process_tells_nothing_of_others() -> None:
    found = resample([[1.0, 1.1, 1.2]]).at(LEVEL)
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
        found = resample([random.normal(offset, 0.005, 30).tolist() for offset in offsets], seed=trial).at(LEVEL)
        missed += not found.low <= 0 <= found.high
    assert missed <= 6  # 2 are expected; 7 or more have a probability of half a percent
