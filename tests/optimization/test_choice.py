"""Which rewrites stay, by what was measured with and without each."""

from __future__ import annotations

import pytest

from edgekit.measure.statistics import Interval
from edgekit.optimization import REWRITES
from edgekit.stages.optimize import pays


@pytest.mark.parametrize(
    ("ratio", "low", "high", "proven", "in_doubt"),
    [
        (1.09, 1.03, 1.15, True, True),
        (1.02, 0.98, 1.06, False, True),
        (1.005, 1.001, 1.01, False, True),
        (0.995, 0.99, 0.999, False, True),
        (0.94, 0.9, 0.97, False, False),
    ],
)
def test_a_rewrite_has_to_be_proven_unless_it_stays_in_doubt(
    ratio: float, low: float, high: float, *, proven: bool, in_doubt: bool
) -> None:
    interval = Interval(low, high, 0.99)
    assert pays(REWRITES["packed"], ratio, interval) == proven
    assert pays(REWRITES["residual"], ratio, interval) == in_doubt


def test_what_leaves_out_work_stays_in_doubt_and_what_moves_it_does_not() -> None:
    assert [name for name, rewrite in REWRITES.items() if rewrite.stays_in_doubt] == [
        "first_token",
        "attention",
        "residual",
    ]
