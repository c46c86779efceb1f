"""Intervals and percentiles, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]

# Fewest samples behind a percentile: MLPerf Inference's early-stopping rule for the single-stream scenario
# (mlcommons/inference_policies, inference_rules.adoc, "Early Stopping"): 64 queries for p90, 662 for p99.
FEWEST = {50: 1, 90: 64, 99: 662}
# Percentiles of single inferences, by their metric's name.
PERCENTILES = {"latency.p90": 90, "latency.p99": 99}
RESAMPLES = 2000


class Interval(NamedTuple):
    """A two-sided interval at ``level``; each end is a one-sided bound at ``1 - (1 - level) / 2``."""

    low: float
    high: float
    level: float


def percentile(samples: Sequence[float], rank: int) -> float | None:
    """The percentile, or None where the sample is smaller than its rule asks for."""
    import numpy as np

    return float(np.percentile(samples, rank)) if len(samples) >= FEWEST[rank] else None


def median_bound(values: Sequence[float], level: float = 0.95) -> float | None:
    """One-sided upper bound of the median; None where the sample is too small for one.

    An order statistic: how many values lie below the median is binomial (David and Nagaraja 2003, Order Statistics,
    7.1).
    """
    n, below, term = len(values), 0.0, 0.5 ** len(values)
    for rank, value in enumerate(sorted(values)):
        below += term  # probability that at most `rank` values lie below the median, which is then no larger than this
        if below >= level:
            return value
        term *= (n - rank) / (rank + 1)
    return None


def paired_bootstrap(difference: Callable[[Indices], float], n: int, *, level: float, seed: int = 0) -> Interval:
    """Percentile bootstrap of a paired statistic.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.

    Args:
        difference: the statistic of the samples at the given indices [n].
        n: samples; resampled as pairs, since an index names the same sample on both sides.
        level: of the two-sided interval.
        seed: of the resampling.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    values = [difference(random.integers(0, n, n)) for _ in range(RESAMPLES)]
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def ratio_of_medians(
    numerator: Sequence[Sequence[float]], denominator: Sequence[Sequence[float]], *, level: float, seed: int = 0
) -> tuple[float, Interval]:
    """How many times slower ``numerator`` is: median over rounds of the ratio of block medians, and its interval.

    Block ``i`` of both was measured in the same round, so that what slows the machine slows both and cancels.
    """
    import numpy as np

    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(numerator, denominator, strict=True)])
    interval = paired_bootstrap(lambda chosen: float(np.median(ratios[chosen])), len(ratios), level=level, seed=seed)
    return float(np.median(ratios)), interval
