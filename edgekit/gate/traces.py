"""What a trace of figures in the order taken tells: where warming up ends, and whether the machine became slower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Inferences that are looked at together: a median of five is not moved by one or two that were interrupted.
BATCH = 5
# Fewest batches in which an end of warming up is looked for.
FEWEST_BATCHES = 8
# A first part that is slower by less is not worth leaving out: half of the least margin.
WARM = 0.005
# A machine that is slower by less than this is not called throttled: load and clocks move medians by as much.
SLOWER = 0.05
SIGNIFICANT = 0.001


def warm_after(trace: Sequence[float]) -> int:
    """How many figures at the beginning belong to warming up; at most half.

    White's marginal standard error rule (White 1997, An effective truncation heuristic for bias reduction in simulation
    output, Simulation 69; on batches, as MSER-5): the cut that leaves the rest with the least standard error of its
    mean. Here it is taken on medians of batches, cut off at three times their middle spread so that an interruption is
    no reason to cut, and only if what is left out was slower.

    Args:
        trace: positive figures in the order taken.
    """
    import numpy as np

    count = len(trace) // BATCH
    if count < FEWEST_BATCHES:
        return 0
    medians = np.median(np.asarray(trace[: count * BATCH], float).reshape(count, BATCH), axis=1)
    later = medians[count // 2 :]
    middle = float(np.median(later))
    spread = 1.4826 * float(np.median(np.abs(later - middle)))  # of a normal distribution its standard deviation
    rest = np.clip(medians, middle - 3 * spread, middle + 3 * spread) if spread > 0 else medians
    errors = [float(np.var(rest[cut:])) / (count - cut) for cut in range(count // 2 + 1)]
    cut = int(np.argmin(errors))
    if cut == 0 or float(np.median(medians[:cut])) < (1 + WARM) * float(np.median(medians[cut:])):
        return 0
    return cut * BATCH


class Shift(NamedTuple):
    """A point from which on a trace stays slower.

    Attributes:
        at: index of the first slower figure.
        by: how much slower, as a share.
    """

    at: int
    by: float


def slower_after(trace: Sequence[float]) -> Shift | None:
    """Where a machine became slower and stayed so, as one does that throttles; None where it did not.

    Pettitt's test for one change at an unknown place (Pettitt 1979, A non-parametric approach to the change-point
    problem, Applied Statistics 28), which also answers to a drift. A burst of other load ends again: so both halves of
    what comes after have to be slower than what came before.

    Args:
        trace: positive figures in the order taken, such as medians of blocks.
    """
    import numpy as np

    values = np.asarray(trace, float)
    n = len(values)
    if n < 4 * FEWEST_BATCHES:
        return None
    ranks = np.empty(n)
    ranks[np.argsort(values, kind="stable")] = np.arange(1, n + 1)
    statistic = 2 * np.cumsum(ranks) - np.arange(1, n + 1) * (n + 1)  # of each cut, Mann and Whitney's, centred
    at = int(np.argmin(statistic)) + 1  # the smallest: low ranks before, high ranks after
    found = -float(statistic[at - 1])
    if at in (0, n) or 2 * math.exp(-6 * found**2 / (n**3 + n**2)) > SIGNIFICANT:
        return None
    before, after = float(np.median(values[:at])), values[at:]
    halves = [half for half in np.array_split(after, 2) if len(half)]
    if min(float(np.median(half)) for half in halves) < (1 + SLOWER) * before:
        return None
    return Shift(at, float(np.median(after)) / before - 1)
