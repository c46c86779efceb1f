"""How trials stand to the limits and to each other.

The limit on the loss is on the evaluation split, which may be looked at five times; trials are ranked on the selection
split, which is cut from the training data. The original has been trained on those samples, so it is better there than
it will ever be, and every student seems to lose more than it does. The two losses of one trial differ by about the same
in all students of one original, so what was measured on those that were looked at tells what the others would lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from edgekit.recipe import Limits
from edgekit.report import MEGABYTE
from edgekit.trials import MEASURING, Search, TrialRecord

LOOKED = ("quantized", "full", "extra")
# A loss beyond the limit by less than this share of it (or this) is made good by training on, rather than given up.
CLOSE, CLOSEST = 1.0, 0.005
# The one-sided 95 % quantile of a normal distribution.
ONE_SIDED = 1.645
# Samples of a selection split of which nothing else is known: its largest size (tasks/data.py).
SELECTION_SAMPLES, USUAL_SCORE = 1000, 0.9
ROUNDING = 1e-9


@dataclass(frozen=True)
class Standing:
    """What can be said of trials.

    Attributes:
        trials: in order; unfinished ones left out.
        search: what they are for.
        limits: that the result must keep.
        strict: whether they must be proven.
    """

    trials: tuple[TrialRecord, ...]
    search: Search
    limits: Limits
    strict: bool = False

    def of(self, kind: str) -> list[TrialRecord]:
        """Finished trials of one kind."""
        return [trial for trial in self.trials if trial.kind == kind and trial.state != "failed"]

    @cached_property
    def candidates(self) -> list[TrialRecord]:
        """Trials that could be the result: those that were looked at, or all where nobody can."""
        known = [trial for trial in self.trials if trial.kind in LOOKED and trial.state != "failed"]
        return [trial for trial in known if trial.drop is not None or trial.look_seconds > 0]

    def pressure(self, trial: TrialRecord) -> float:
        """The largest share of a limit on cost that a trial takes; 0 without such limits."""
        limits, size = self.limits, trial.size_bytes
        pairs = (
            (trial.latency_ms, limits.max_ms),
            (None if size is None else size / MEGABYTE, limits.max_mb),
            (trial.instructions, limits.max_instructions),
        )
        return max((cost / bound for cost, bound in pairs if cost is not None and bound is not None), default=0.0)

    def too_large(self, trial: TrialRecord) -> bool:
        """Whether a trial misses the limit on size."""
        return bool(self.limits.max_mb and trial.size_bytes and trial.size_bytes / MEGABYTE > self.limits.max_mb)

    def expected_drop(self, trial: TrialRecord) -> float | None:
        """The loss on the evaluation split as the limit counts it: what was seen there, else what is to be expected."""
        if trial.drop is not None:
            return trial.drop_high if self.strict and trial.drop_high is not None else trial.drop
        if trial.selection_drop is None or self.offset is None:
            return None
        return trial.selection_drop + self.offset + (ONE_SIDED * self.error if self.strict else 0.0)

    @cached_property
    def offset(self) -> float | None:
        """How much more is lost on the evaluation split than on the other, by the trained trials seen on both."""
        both = [t for t in self.trials if t.steps and t.drop is not None and t.selection_drop is not None]
        gaps = [(trial.drop or 0.0) - (trial.selection_drop or 0.0) for trial in both]
        return sum(gaps) / len(gaps) if gaps else None

    @cached_property
    def error(self) -> float:
        """Standard error of a loss on the evaluation split, by the widest of the paired intervals seen there."""
        widths = [t.drop_high - t.drop for t in self.trials if t.drop_high is not None and t.drop is not None]
        return max(widths, default=0.0) / ONE_SIDED

    @cached_property
    def selection_error(self) -> float:
        """Standard error of the difference of two students on the selection split.

        Two models of one origin are right and wrong on mostly the same samples: about a third of the variance of
        independent ones is left.
        """
        return math.sqrt(2 * USUAL_SCORE * (1 - USUAL_SCORE) / SELECTION_SAMPLES / 3)

    def hopeless(self, trial: TrialRecord) -> bool:
        """Whether a look would likely be wasted: what is to be expected misses the limit by half a standard error."""
        expected, bound = self.expected_drop(trial), self.limits.max_drop
        return expected is not None and bound is not None and expected - self.error / 2 > bound

    def loses(self, trial: TrialRecord) -> bool:
        """Whether a trial loses more than it may."""
        expected, bound = self.expected_drop(trial), self.limits.max_drop
        return expected is not None and bound is not None and expected > bound + ROUNDING

    def close(self, trial: TrialRecord) -> bool:
        """Whether a trial that loses too much does so by little."""
        expected, bound = self.expected_drop(trial), self.limits.max_drop
        if expected is None or bound is None:
            return False
        return expected - bound <= max(CLOSE * bound, CLOSEST)

    def misses(self, trial: TrialRecord) -> float:
        """How far a trial is from keeping all limits: the sum of what exceeds them, each as a share of it."""
        over = max(0.0, self.pressure(trial) - 1)
        expected, bound = self.expected_drop(trial), self.limits.max_drop
        if expected is None or bound is None:
            return over
        return over + max(0.0, expected - bound - ROUNDING) / max(bound, CLOSEST)

    @cached_property
    def best(self) -> TrialRecord | None:
        """The candidate that is the result: within the limits the cheapest, or where these are used up the best.

        Where none is within them, the nearest.
        """
        return min(self.candidates, key=self._rank, default=None)

    def _rank(self, trial: TrialRecord) -> tuple[float, float, float]:
        cost = trial.cost(self.search.objective)
        known = float("inf") if cost is None else cost
        if self.search.fill:
            quality = trial.selection_drop if trial.selection_drop is not None else self.expected_drop(trial)
            return self.misses(trial), quality or 0.0, known
        return self.misses(trial), known, trial.selection_drop or 0.0

    def lever_stays(self, trial: TrialRecord, share: float) -> bool:
        """Whether savings without training cost little, beside the same without them.

        On the selection split, which tells small changes of one model well; else on what was seen on the other.
        """
        before, bound = self.trials[trial.parent or 0], self.limits.max_drop
        if trial.state == "failed" or bound is None:
            return trial.state != "failed"
        for mine, theirs in ((trial.selection_drop, before.selection_drop), (trial.drop, before.drop)):
            if mine is not None and theirs is not None:
                return mine - theirs <= share * max(bound, CLOSEST)
        return True

    def weighed(self, layers: int | None) -> list[TrialRecord]:
        """Pruned trials of so many layers whose cost is known."""
        kinds = ("timing", "proxy", "full")
        known = [trial for trial in self.trials if trial.kind in kinds and trial.kept is not None]
        return [trial for trial in known if trial.layers == layers and self.pressure(trial) > 0]

    def kept_for(self, pressure: float, layers: int | None, *, rest: float) -> float:
        """The share that a model of so many layers keeps when it takes a share of the budget.

        Cost is taken as linear between the two trials of these layers that are nearest to it. With one, the line goes
        through the whole model too; with none it is that of ``untimed``.

        Args:
            pressure: the share of the budget.
            layers: of an encoder.
            rest: as for ``untimed``.
        """
        whole = (1.0, self.pressure(self.trials[0]))
        points = sorted(
            {(trial.kept or 0.0, self.pressure(trial)) for trial in self.weighed(layers)},
            key=lambda point: abs(point[1] - pressure),
        )
        if not points:
            return self.untimed(pressure, rest=rest)
        if len(points) == 1:
            points.append(whole)
        (kept_a, a), (kept_b, b) = points[:2]
        if a == b or kept_a == kept_b:
            return kept_a * pressure / a
        return min(1.0, max(0.0, kept_a + (pressure - a) * (kept_b - kept_a) / (b - a)))

    def untimed(self, pressure: float, *, rest: float) -> float:
        """The share that a model keeps when it takes a share of the budget, by what the whole model takes of it.

        Args:
            pressure: the share of the budget.
            rest: share of the whole model's cost that would stay if nothing were kept.
        """
        return min(1.0, max(0.0, (pressure / self.pressure(self.trials[0]) - rest) / (1 - rest)))


def pareto(trials: Sequence[TrialRecord], search: Search) -> set[int]:
    """Numbers of the trials that no other one beats in both cost and quality.

    Args:
        trials: all of them.
        search: what they are for.
    """
    points = points_of(trials, search)
    return {
        number
        for number, point in points.items()
        if not any(_beats(other, point) for key, other in points.items() if key != number)
    }


def points_of(trials: Sequence[TrialRecord], search: Search) -> dict[int, tuple[float, float]]:
    """Cost and loss of the trials that can be compared, by their number.

    The loss is that on the selection split where any trial was scored there, else on the evaluation split; 0 for all
    without data.
    """
    able = [one for one in trials if one.kind not in MEASURING and one.cost(search.objective) is not None]
    for losses in ({t.number: t.selection_drop for t in able}, {t.number: t.drop for t in able}):
        if any(loss is not None for loss in losses.values()):
            known = {number: loss for number, loss in losses.items() if loss is not None}
            return {
                one.number: (one.cost(search.objective) or 0.0, known[one.number])
                for one in able
                if one.number in known
            }
    return {one.number: (one.cost(search.objective) or 0.0, 0.0) for one in able}


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other
