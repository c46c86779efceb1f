"""From blocks of figures to an interval: what a gate decides by.

What is measured lies in two layers: fresh processes, and in each of them blocks, one a round. Every process has an
offset of its own, which no number of blocks in it averages away: where its memory lies, which processor it runs on. In
a round, the candidate and the baseline each have one block, next to each other, so that what slows the machine slows
both and cancels in their ratio.

The interval is the percentile bootstrap over processes (Efron and Tibshirani 1993, An Introduction to the Bootstrap,
13.3), each with all of its blocks: drawing blocks of a drawn process again would count their noise twice (Davison and
Hinkley 1997, Bootstrap Methods and their Application, 3.8). A bootstrap of few processes is too narrow, as a normal
quantile is in place of Student's t; so its ends are moved away from the estimate as Hesterberg 2015 (What Teachers
Should Know About the Bootstrap, 3.2) proposes: by ``sqrt(n / (n - 1)) * t / z``.

A gate looks at the interval again and again while it measures. Each look is a chance of a false alarm, so the looks go
by a level that leaves almost none, and only the last one by the level that is reported (Haybittle 1971 and Peto et al.
1976: intermediate looks at p < 0.001). ``benchmarks/gate.py simulate`` shows what comes of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

# Of each process the figures of its blocks, in the order taken.
Blocks = Sequence[Sequence[float]]

LEVEL = 0.99
LOOK_LEVEL = 0.999
RESAMPLES = 2000
# With fewer the stretched interval is wider than any margin: t of 3 degrees of freedom is 5.8 at this level.
FEWEST_PROCESSES = 5


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the median over all blocks.
        low, high: infinite where there is only one process, which says nothing of how others would differ.
        level: of the interval.
        n: blocks.
    """

    value: float
    low: float
    high: float
    level: float
    n: int


@dataclass(frozen=True)
class Bootstrap:
    """A statistic and its resamples, from which intervals of any level are read.

    Attributes:
        value: of the sample itself.
        resampled: [resamples].
        processes: how many there are.
        n: blocks.
    """

    value: float
    resampled: Values
    processes: int
    n: int

    def at(self, level: float) -> Estimate:
        """The interval of a level: the quantiles of ``LEVEL``, which the resamples resolve, stretched."""
        import numpy as np

        if self.processes < 2:
            return Estimate(self.value, -math.inf, math.inf, level, self.n)
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(self.resampled, [tail, 1 - tail])
        by = stretch(self.processes, level)
        return Estimate(
            self.value,
            min(self.value, self.value + by * (float(low) - self.value)),
            max(self.value, self.value + by * (float(high) - self.value)),
            level,
            self.n,
        )


def resample(blocks: Blocks, seed: int = 0) -> Bootstrap:
    """The median over all blocks, and over those of processes that are drawn again.

    Args:
        blocks: at least one process, each with at least one block. All processes weigh the same: where one has fewer
            blocks than another, they count more often.
        seed: of the resampling.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    longest = max(map(len, blocks))
    table = np.array([[one[at * len(one) // longest] for at in range(longest)] for one in blocks], float)
    drawn = random.integers(0, len(blocks), (RESAMPLES, len(blocks)))
    resampled = np.median(table[drawn].reshape(RESAMPLES, -1), axis=1)
    return Bootstrap(float(np.median(table)), resampled, len(blocks), sum(map(len, blocks)))


def paired_change(candidate: Blocks, baseline: Blocks, seed: int = 0) -> Bootstrap:
    """The relative change of figures that were measured beside each other: of each round the ratio, less 1."""
    ratios = [
        [one / other - 1 for one, other in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(candidate, baseline, strict=True)
    ]
    return resample(ratios, seed)


def unpaired_change(candidate: Blocks, baseline: Blocks, seed: int = 0) -> Bootstrap:
    """The relative change against figures of another time: both sides are resampled on their own."""
    ours, theirs = resample(candidate, seed), resample(baseline, seed + 1)
    return Bootstrap(
        ours.value / theirs.value - 1,
        ours.resampled / theirs.resampled - 1,
        min(ours.processes, theirs.processes),
        ours.n,
    )


@cache
def stretch(processes: int, level: float) -> float:
    """By how much the ends of the interval at ``LEVEL`` are moved away for an interval of a level, at least 1 of many.

    Args:
        processes: at least 2.
        level: of the interval.
    """
    degrees = processes - 1
    student = t_quantile((1 + level) / 2, degrees)
    return math.sqrt(processes / degrees) * student / NormalDist().inv_cdf((1 + LEVEL) / 2)


def t_quantile(share: float, degrees: int) -> float:
    """The quantile of Student's t distribution at a share of at least a half, by bisection."""
    low, high = 0.0, 1.0
    while _t_cdf(high, degrees) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, degrees) < share else (low, middle)
    return high


def _t_cdf(t: float, degrees: int) -> float:
    """For t of at least 0: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2 == 1
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for number in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine * cosine * ((number - 1) / number)
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + within / 2
