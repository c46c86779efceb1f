"""How much more a student loses on the evaluation split than on the selection split, by how much was removed of it.

Students of one original that were looked at tell it of the next. It need not be the same for all: a student may know
texts that resemble the selection split better than others, and that helps it the more the less is left of it. So the
gap is taken as a straight line in the logarithm of what is left, as the bisection of shapes is. In four searches for a
student of MiniLM on SST-2, 13 looks, it grew by 3.7 points for each factor e, with a standard error of 1.3; three
students that had not seen kin of the selection split (``edgekit.tasks.kinship``) say 1.8, with an error as large.

Five looks tell little of a slope, so the line is fitted by least squares with a ridge (Hoerl and Kennard 1970, Ridge
Regression) towards the slope of earlier searches: it is that after one look, and about so while shapes are alike. It
never falls: nothing suggests that removing more brings the splits together, and noise would make narrow students look
good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from edgekit.trials import TrialRecord

# What weighs for the slope that is expected: as much as two looks at students of which one is a third larger than the
# other say of one. In searches that were simulated with gaps of all kinds, 0.01 to 0.2 did equally well.
RIDGE = 0.05
# The slope that is expected before looks say another: that of the 12 looks at students in the three hours of MiniLM on
# SST-2 in benchmarks/results/suite.jsonl, with a standard error of 0.010. In simulated searches at a limit of 1 %
# (tests/search/noisy.py) results were 1.7 % faster with it than with 0, and with 0.06 they were not.
SLOPE = 0.035


@dataclass(frozen=True)
class Gap:
    """A line through the gaps of the trials that were seen on both splits.

    Attributes:
        removed: the mean of what was removed of them, as ``removed`` says it.
        mean: of their gaps, as a share.
        slope: of the gap, for each unit of what is removed; 0 or more.
        spread: squares of what was removed beside its mean, summed; with the ridge.
        share: one by their number.
    """

    removed: float = 0.0
    mean: float = 0.0
    slope: float = 0.0
    spread: float = RIDGE
    share: float = 1.0

    @classmethod
    def of(cls, trials: Sequence[TrialRecord]) -> Self | None:
        """The line of these trials; None where none was seen on both splits."""
        points = [
            (removed(trial), trial.drop - trial.selection_drop)
            for trial in trials
            if trial.drop is not None and trial.selection_drop is not None
        ]
        if not points:
            return None
        share = 1 / len(points)
        middle, mean = (share * sum(column) for column in zip(*points, strict=True))
        spread = RIDGE + sum((x - middle) ** 2 for x, _ in points)
        slope = (RIDGE * SLOPE + sum((x - middle) * (gap - mean) for x, gap in points)) / spread
        return cls(middle, mean, max(0.0, slope), spread, share)

    def at(self, trial: TrialRecord) -> float:
        """The gap that is to be expected of a trial."""
        return self.mean + self.slope * (removed(trial) - self.removed)

    def doubt(self, trial: TrialRecord) -> float:
        """Standard error of a loss that is foreseen, by that of one look: the look's own, the mean's and the slope's.

        The usual one of a prediction by a fitted line (Draper and Smith 1998, Applied Regression Analysis, 3.1).
        """
        return math.sqrt(1 + self.share + (removed(trial) - self.removed) ** 2 / self.spread)


def removed(trial: TrialRecord) -> float:
    """What was removed of a trial's model: the logarithm of how many times smaller it is."""
    return -math.log(trial.kept or 1.0)
