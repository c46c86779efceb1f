"""How trials stand to the limits and to each other.

The limit on the loss is on the evaluation split, which may be looked at five times; trials are ranked on the selection
split, which is cut from the training data. The original has been trained on those samples, so it is better there than
it will ever be, and every student seems to lose more than it does. How much the two losses of one trial differ follows
from how much was removed, so what was measured on those that were looked at tells what the others would lose (``gap``).
What was only quantized has learned nothing: it is compared with others of its kind, and loses as much on both splits
where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from edgekit.recipe import Limits
from edgekit.report import MEGABYTE
from edgekit.search.gap import Gap
from edgekit.trials import MEASURING, Search, TrialRecord

LOOKED = ("quantized", "full", "extra")
# A loss beyond the limit by less than this share of it (or of this, which is more) is made good by training on, rather
# than given up.
CLOSE, CLOSEST = 0.5, 0.005
# The most that a saving without training may lose on the selection split, of what may be lost in all and in any case.
LEVER_SHARE, LEVER_MOST = 0.25, 0.0025
# The one-sided 95 % quantile of a normal distribution.
ONE_SIDED = 1.645
# Of the standard error of a look, how far graphs that were only quantized are apart.
ALIKE = 0.5
ROUNDING = 1e-9
# What a timed shape has to cost of the budget: the user sees 0.90 to 1.00, and a clock errs by 1 to 2 %.
WINDOW, AIM = (0.915, 0.985), 0.955


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
        gap = self._gap(trial)
        if trial.selection_drop is None or gap is None:
            return None
        return trial.selection_drop + gap.at(trial) + (ONE_SIDED * self.error if self.strict else 0.0)

    def _gap(self, trial: TrialRecord) -> Gap | None:
        return self.gap if _trained(trial) else self.untrained_gap

    @cached_property
    def gap(self) -> Gap | None:
        """How much more is lost on the evaluation split than on the other, by the trained trials seen on both."""
        return Gap.of([trial for trial in self.trials if _trained(trial)])

    @cached_property
    def untrained_gap(self) -> Gap:
        """The same of trials that were only quantized; none before one was seen on both."""
        return Gap.of([trial for trial in self.trials if not _trained(trial)]) or Gap()

    @cached_property
    def error(self) -> float:
        """Standard error of a loss on the evaluation split, by the widest of the paired intervals seen there."""
        widths = [t.drop_high - t.drop for t in self.trials if t.drop_high is not None and t.drop is not None]
        return max(widths, default=0.0) / ONE_SIDED

    def hopeless(self, trial: TrialRecord) -> bool:
        """Whether a look would likely be wasted: what is to be expected misses the limit by its standard error.

        One in six of those keeps it. With less let through, one look that is off by its error spoils a search: every
        student after it seems to lose too much, and looks are left over. What was only quantized answers nearly as the
        others of its kind, and errs with them.
        """
        expected, gap, bound = self.expected_drop(trial), self._gap(trial), self.limits.max_drop
        if expected is None or gap is None or bound is None:
            return False
        doubt = gap.doubt(trial) if _trained(trial) else ALIKE
        return expected - self.error * doubt > bound

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
        return min(self.candidates, key=self.rank, default=None)

    def rank(self, trial: TrialRecord) -> tuple[float, float, float]:
        """What trials are ordered by: how far from the limits, then cost or loss; the least is the best."""
        cost = trial.cost(self.search.objective)
        known = float("inf") if cost is None else cost
        if self.search.fill:
            return self.misses(trial), self._quality(trial), known
        return self.misses(trial), known, trial.selection_drop or 0.0

    def _quality(self, trial: TrialRecord) -> float:
        """What a trial loses; where nothing was trained, how far its answers are, which tells more of small changes."""
        if trial.divergence is not None and not any(_trained(one) for one in self.candidates):
            return trial.divergence
        return (trial.selection_drop if trial.selection_drop is not None else self.expected_drop(trial)) or 0.0

    def may_win(self, trial: TrialRecord) -> bool:
        """Whether a look at a trial could make it the best: a loss that is not hopeless may be within the limit."""
        if self.best is None:
            return True
        mine = self.rank(trial)
        if not self.hopeless(trial):
            mine = (max(0.0, self.pressure(trial) - 1), *mine[1:])
        return mine < self.rank(self.best)

    def to_look_at(self, looks: int, *, ending: bool) -> TrialRecord | None:
        """The trial that the evaluation split is looked at for next; None where that would be a waste.

        Trials are chosen by what they lose on the selection split, so only one that would be the result is looked at,
        or one that tells what others lose on the other split. The last look is kept for the end, unless it could end
        the search; savings without training are ranked by the other split alone, until they would be the result.

        Args:
            looks: that are left.
            ending: whether no further trial will be made.
        """
        waiting = [trial for trial in self.trials if waits(trial)]
        if not waiting or looks <= 0:
            return None
        unknown = [trial for trial in waiting if self.expected_drop(trial) is None]
        if unknown:
            return unknown[0]
        worth = [trial for trial in waiting if self.may_win(trial) and (self._ends(trial) or not self._dear(trial))]
        if not ending:
            worth = [trial for trial in worth if self._ends(trial) or (looks > 1 and trial.kind != "extra")]
        return min(worth, key=self.rank, default=None)

    def _dear(self, trial: TrialRecord) -> bool:
        """Whether a trial is a saving of size that loses too much for it, where size is not what counts."""
        return trial.kind == "extra" and self.search.objective != "size" and not self.lever_stays(trial)

    def _ends(self, trial: TrialRecord) -> bool:
        """Whether a trial keeps every limit, where nothing more is wanted."""
        return self.search.fill and self.misses(trial) == 0

    def lever_stays(self, trial: TrialRecord) -> bool:
        """Whether savings without training cost little, beside the same without them.

        On the selection split, which tells small changes of one model well; else on what was seen on the other.
        """
        before, bound = self.trials[trial.parent or 0], self.limits.max_drop
        if trial.state == "failed" or bound is None:
            return trial.state != "failed"
        for mine, theirs in ((trial.selection_drop, before.selection_drop), (trial.drop, before.drop)):
            if mine is not None and theirs is not None:
                return mine - theirs <= min(LEVER_SHARE * max(bound, CLOSEST), LEVER_MOST)
        return True

    def weighed(self, layers: int | None) -> list[TrialRecord]:
        """Pruned trials of so many layers whose cost is known."""
        kinds = ("timing", "proxy", "full")
        known = [trial for trial in self.trials if trial.kind in kinds and trial.kept is not None]
        return [trial for trial in known if trial.layers == layers and self.pressure(trial) > 0]

    @cached_property
    def excess(self) -> float:
        """How much more a trained shape costs than it did when only its cost was wanted: layers that fell back."""
        fulls = [trial for trial in self.of("full") if self.pressure(trial) > 0]
        quick = {(one.asked, one.layers): self.pressure(one) for one in self.of("proxy") + self.of("timing")}
        pairs = [(self.pressure(full), quick.get((full.asked, full.layers), 0.0)) for full in fulls]
        return max((cost / before for cost, before in pairs if before > 0), default=1.0)

    def foreseen(self, trial: TrialRecord) -> float:
        """The pressure that a trial's shape has as a result."""
        return self.pressure(trial) * (max(1.0, self.excess) if trial.kind in ("timing", "proxy") else 1.0)

    def kept_for(self, pressure: float, layers: int | None, *, rest: float) -> float:
        """The share that a model of so many layers keeps when it takes a share of the budget.

        Cost is taken as linear between the two trials of these layers that are nearest to it. With one, the line goes
        through the whole model too; with none it is that of ``untimed``. What a result cost counts before what its
        shape cost untrained.

        Args:
            pressure: the share of the budget.
            layers: of an encoder.
            rest: as for ``untimed``.
        """
        costs = {
            trial.kept or 0.0: self.foreseen(trial)
            for trial in sorted(self.weighed(layers), key=lambda trial: trial.kind == "full")
        }
        points = sorted(costs.items(), key=lambda point: abs(point[1] - pressure))
        if not points:
            return self.untimed(pressure, rest=rest)
        if len(points) == 1:
            points.append((1.0, self.pressure(self.trials[0])))
        (kept_a, a), (kept_b, b) = points[:2]
        if a == b or kept_a == kept_b:
            return min(1.0, kept_a * pressure / a)
        return min(1.0, max(0.0, kept_a + (pressure - a) * (kept_b - kept_a) / (b - a)))

    def untimed(self, pressure: float, *, rest: float) -> float:
        """The share that a model keeps when it takes a share of the budget, by what the whole model takes of it.

        Args:
            pressure: the share of the budget.
            rest: share of the whole model's cost that would stay if nothing were kept.
        """
        return min(1.0, max(0.0, (pressure / self.pressure(self.trials[0]) - rest) / (1 - rest)))


def waits(trial: TrialRecord) -> bool:
    """Whether a trial could be the result, and was not looked at yet."""
    return trial.kind in LOOKED and trial.state == "kept" and not trial.look_seconds


def _trained(trial: TrialRecord) -> bool:
    return trial.steps > 0 or any(table.get("stage") == "distill" for table in trial.stages)


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
    """Cost and loss of the trials that can be compared, by their number: on one split; without data the loss is 0."""
    able = [one for one in trials if one.kind not in MEASURING and one.state != "failed"]
    costs = {one.number: cost for one in able if (cost := one.cost(search.objective)) is not None}
    _, losses = compared_on([one for one in able if one.number in costs])
    return {
        number: (cost, losses[number] if losses else 0.0)
        for number, cost in costs.items()
        if not losses or number in losses
    }


def compared_on(trials: Sequence[TrialRecord]) -> tuple[str, dict[int, float]]:
    """The split on which the losses of the most trials are known, and these by their number; none without data.

    Where it is as many on both it is the selection split: in a long box every trial was scored there, in a short one
    few were.
    """
    selection = {one.number: one.selection_drop for one in trials if one.selection_drop is not None}
    evaluation = {one.number: one.drop for one in trials if one.drop is not None}
    return ("selection", selection) if len(selection) >= len(evaluation) else ("evaluation", evaluation)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other
