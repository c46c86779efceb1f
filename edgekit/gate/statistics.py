"""From blocks of figures to an interval: what a gate decides by.

What is measured lies in two layers: fresh processes, and in each of them blocks, one a round. Every process has an
offset of its own, which no number of blocks in it averages away: where its memory lies, which processor it runs on. In
a round, the candidate and the baseline each have one block, next to each other, so that what slows the machine slows
both and cancels in their ratio.

What is resampled is a quantile of the figures of all processes together: the median of block ratios, or a percentile of
single inferences, whose tail no one process holds enough of.

The interval is the percentile bootstrap over processes (Efron and Tibshirani 1993, An Introduction to the Bootstrap,
13.3), each with all of its blocks: drawing blocks of a drawn process again would count their noise twice (Davison and
Hinkley 1997, Bootstrap Methods and their Application, 3.8). A bootstrap of few processes is too narrow, as a normal
quantile is in place of Student's t; so its ends are moved away from the estimate as Hesterberg 2015 (What Teachers
Should Know About the Bootstrap, 3.2) proposes: by ``sqrt(n / (n - 1)) * t / z``. He speaks of means; medians of few
scatter more, and ``t`` has ``n - 2`` degrees of freedom, one less: at just the margin, 38 of 5,000 drawn gates of five
or six processes said regression then, and 54 with ``n - 1``. All figures are positive, and the ends are moved as
ratios: an end that was moved as a difference could lie below 0, or a change below -100 %.

A gate looks at the interval again and again while it measures. Each look is a chance of a false alarm, so the looks go
by a level that leaves almost none, and only the last one by the level that is reported (Haybittle 1971 and Peto et al.
1976: intermediate looks at p < 0.001). ``benchmarks/gate.py simulate`` shows what comes of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
# So many counters are computed at once: 64 MB.
MOST_CELLS = 8_000_000
# Two sessions of one model differ by half a percent whatever is measured in each (docs/decisions/0014-the-gate.md): a
# change of a time from one session to another is known to twice that at best.
BETWEEN_SESSIONS = 0.01
# With fewer the stretched interval is wider than any margin: t of 2 degrees of freedom is 9.9 at this level.
FEWEST_PROCESSES = 5
FEWEST_STRETCHED = 3


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the quantile of all figures.
        low, high: infinite where there are only one or two processes, which do not say how others would differ.
        level: of the interval.
        n: figures.
    """

    value: float
    low: float
    high: float
    level: float
    n: int

    def widened(self, by: float) -> Estimate:
        """The same change with ends that lie further out by so much, as ratios."""
        return replace(self, low=self.low - by * (1 + self.low), high=self.high + by * (1 + self.high))


@dataclass(frozen=True)
class Bootstrap:
    """A positive statistic and its resamples, from which intervals of any level are read.

    Attributes:
        value: of the sample itself.
        resampled: [resamples].
        processes: how many there are.
        n: figures.
        less: what is taken from it at last: 1 of a ratio, whose change is wanted.
    """

    value: float
    resampled: Values
    processes: int
    n: int
    less: float = 0.0

    def at(self, level: float) -> Estimate:
        """The interval of a level: the quantiles of ``LEVEL``, which the resamples resolve, stretched."""
        import numpy as np

        value = self.value - self.less
        if self.processes < FEWEST_STRETCHED:
            return Estimate(value, -math.inf, math.inf, level, self.n)
        tail, by = (1 - LEVEL) / 2, stretch(self.processes, level)
        low, high = (float(end) / self.value for end in np.quantile(self.resampled, [tail, 1 - tail]))
        least, most = (self.value * end**by - self.less for end in (min(low, 1.0), max(high, 1.0)))
        return Estimate(value, least, most, level, self.n)


def resample(blocks: Blocks, seed: int = 0, share: float = 0.5) -> Bootstrap:
    """A quantile of all figures together, and that of the figures of processes that are drawn again.

    Args:
        blocks: at least one process, each with at least one figure, all positive. All processes weigh the same: where
            one has fewer figures than another, they count more often.
        seed: of the resampling.
        share: which quantile; the median by default.
    """
    import numpy as np

    processes, longest = len(blocks), max(map(len, blocks))
    table = np.array([[one[at * len(one) // longest] for at in range(longest)] for one in blocks], float)
    drawn = np.random.default_rng(seed).integers(0, processes, (RESAMPLES, processes))
    times = np.array([np.bincount(one, minlength=processes) for one in drawn])
    return Bootstrap(
        float(np.quantile(table, share)), _quantiles(table, times, share), processes, sum(map(len, blocks))
    )


def _quantiles(table: Values, times: npt.NDArray[np.int64], share: float) -> Values:
    """A quantile of each resample [resamples], interpolated as numpy does; some resamples at once, to bound memory.

    Args:
        table: figures [processes, figures].
        times: how often each resample has each process [resamples, processes].
        share: which quantile.
    """
    import numpy as np

    order = np.argsort(table, axis=None, kind="stable")
    values, owner = table.reshape(-1)[order], order // table.shape[1]
    at = share * (len(values) - 1)
    below, above = math.floor(at), math.ceil(at)
    found = np.empty(len(times))
    step = max(1, MOST_CELLS // len(values))
    for start in range(0, len(times), step):
        up_to = np.cumsum(times[start : start + step][:, owner], axis=1)  # figures of the resample up to each value
        low, high = (values[(up_to <= rank).sum(axis=1)] for rank in (below, above))
        found[start : start + step] = low + (at - below) * (high - low)
    return found


def paired_change(candidate: Blocks, baseline: Blocks, seed: int = 0) -> Bootstrap:
    """The relative change of figures that were measured beside each other: of each round the ratio, less 1."""
    ratios = [
        [one / other for one, other in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(candidate, baseline, strict=True)
    ]
    return replace(resample(ratios, seed), less=1.0)


def pooled_change(candidate: Blocks, baseline: Blocks, share: float, seed: int = 0) -> Bootstrap:
    """The relative change of a quantile of all figures; both sides are resampled by the same processes."""
    return _ratio(resample(candidate, seed, share), resample(baseline, seed, share))


def unpaired_change(candidate: Blocks, baseline: Blocks, share: float = 0.5, seed: int = 0) -> Bootstrap:
    """The relative change against figures of another time: both sides are resampled on their own."""
    return _ratio(resample(candidate, seed, share), resample(baseline, seed + 1, share))


def _ratio(ours: Bootstrap, theirs: Bootstrap) -> Bootstrap:
    processes = min(ours.processes, theirs.processes)
    return Bootstrap(ours.value / theirs.value, ours.resampled / theirs.resampled, processes, ours.n, less=1.0)


@cache
def stretch(n: int, level: float, taken: float = LEVEL) -> float:
    """By how much the ends of a bootstrap's interval are moved away for an interval of a level, at least 1 of many.

    Args:
        n: what was resampled, at least ``FEWEST_STRETCHED``.
        level: of the interval.
        taken: of the one whose ends are moved.
    """
    student = t_quantile((1 + level) / 2, n - 2)
    return math.sqrt(n / (n - 1)) * student / NormalDist().inv_cdf((1 + taken) / 2)


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
