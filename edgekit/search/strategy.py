"""Which trial comes next, from those that were made and the time that is left. It remembers nothing and runs nothing.

The order, where there is data and a model to train:

1. The base recipe without training: a valid artifact at once. Where it loses too much, other ways to quantize; later
   students are quantized in the way that did best.
2. Savings of size that take no training (``space.LEVERS``), unless the box is short and size is not what matters; those
   that make an inference slower only where size matters. Those that stay are in every later trial.
3. A few steps of training, for the time that one takes; then, for an encoder and unless the box is short, a table of
   costs (``edgekit.costing``). Shares of a model are shares of its cost by that table, else of multiply-accumulates.
4. Limits on cost that are to be used up: shapes are timed untrained, since latency does not depend on weights, until
   one lies within the window.
5. Where time allows, shapes of equal cost are trained briefly and compared: successive halving with two rungs
   (Jamieson and Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter Optimization), by how far
   their answers are from the original's. Of those as good as the best by the rule of one standard error (Breiman et al.
   1984, Classification and Regression Trees, 3.4.3) the one with the usual number of layers goes on: they cost the
   same, and a short training says little of a long one.
6. The long distillation. Without limits on cost, bisection on the logarithm of what is left of the model: faster while
   the limit on the loss holds, slower when it does not. A faster one goes on from the good student, which is gradual
   pruning (Kurtic et al. 2023, ZipLM). Trainings are as long as what is left of the box allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgekit.recipe import Limits
from edgekit.search.pace import Pace
from edgekit.search.space import SHORT_BOX, Shape, Space, Tables, training_of
from edgekit.search.spending import next_share
from edgekit.search.standing import AIM, WINDOW, Standing
from edgekit.trials import Search, TrialRecord

PACE_STEPS = 8
# Of what is left of the box, the most that comparing shapes may take; fewest and most that are compared.
PROXY_SHARE, FEWEST_PROXIES, MOST_PROXIES = 0.2, 2, 5
PROXY_STEPS, TIE = (50, 250), 1.0
MOST_TIMINGS = 7  # of shapes of so many layers
LEAST_KEPT, SAME = 0.02, 0.005
# A training shorter than this share of the base recipe's is not begun.
SHORTEST = 0.025
# How much faster a step of the bisection is where nothing has failed yet, and where no other will follow; and when two
# ends have met.
FASTER, LAST, MET = 0.7, 0.85, 1.06
# Trainings that the rest of the box is divided among, and how many times the usual steps one has at the most.
TRAININGS, LONGEST = 3, 3
# Of a training's estimated room, what it is given: steps take longer when the machine is busy.
PRUDENCE = 0.9
# Shares of the base recipe's training, and of its ratio what each is known to bring back: all of it, a quarter what
# dropping a third of the layers takes. Between two of them the ratio goes with the logarithm of the training. One that
# is shorter than a quarter is trusted with no whole layer, and learns at half the rate: of a MiniLM on SST-2, 25 % in
# all six took 100 steps to lose -0.3 points (n = 872), 30 % lost 0.3 after 200, and 40 % 0.0; at the usual rate 0.6.
TRUSTED = ((0.025, 0.36), (0.25, 0.57), (1.0, 1.0))
SHORT_TRAINING = TRUSTED[1][0]
# What a shape without any multiply-accumulates is taken to cost, of the whole model, before two were timed. A table of
# costs holds all that is left.
REST = 0.15

# Trials without which there is no training: a failure of one ends the search, and one of a proxy does not.
NEEDED = ("pace", "timing", "full")

Suggest = Callable[[Shape, Sequence[int]], tuple[int, Shape]]


@dataclass(frozen=True)
class Room:
    """What time there is.

    Attributes:
        left: seconds for trials, without what the end takes.
        looks: at the evaluation split that are left.
        beside: seconds that a full trial takes beside its training, its look included.
        timing: seconds that timing a shape takes.
        pace: how long steps of training take; None before any was timed.
    """

    left: float
    looks: int
    beside: float
    timing: float
    pace: Pace | None

    def steps(self, kept: float) -> int:
        """Steps of training that fit, for a student that keeps so much."""
        assert self.pace is not None
        return self.pace.steps(PRUDENCE * (self.left - self.beside), kept)


@dataclass(frozen=True)
class Strategy:
    """What to try next.

    Attributes:
        space: what trials are made of.
        search: what for.
        limits: that the result must keep.
        strict: whether they must be proven.
        suggest: a sampler's proposal for a shape that costs as much as the one given, with its number; it has one of
            the numbers of layers that are given, too.
    """

    space: Space
    search: Search
    limits: Limits
    strict: bool
    suggest: Suggest

    def propose(self, trials: Sequence[TrialRecord], room: Room) -> TrialRecord | str:
        """The next trial, or why there is none."""
        if not trials:
            return self._trial(trials, "quantized", self.space.quantized())
        reach = next((trial.reach for trial in trials if trial.kind == "costs"), ())
        if reach != self.space.reach:
            return replace(self, space=replace(self.space, reach=reach)).propose(trials, room)
        now = Standing(tuple(trials), self.search, self.limits, self.strict)
        if room.looks <= 0:
            return "the evaluation split was looked at as often as it may be"
        if room.left <= 0:
            return "the time is up"
        if self.search.fill and now.best is not None and now.misses(now.best) == 0:
            return self._spent(now) or "every limit is kept"
        other = self._other_method(now) or self._lever(now)
        if other is not None:
            return other
        if not self.space.trains:
            return "every way to quantize that the target takes was tried"
        return self._trained(now, room)

    def _spent(self, now: Standing) -> TrialRecord | None:
        """What uses up a budget that is kept without training: more of the model in float."""
        found = next_share(now) if self.space.spends and now.misses(now.trials[0]) == 0 else None
        if found is None:
            return None
        kind = "quantized" if found.wanted else "timing"
        return self._trial(now.trials, kind, self.space.partly(found.share, quick=not found.wanted), parent=0)

    def _trial(self, trials: Sequence[TrialRecord], kind: str, stages: Tables, **facts: object) -> TrialRecord:
        return TrialRecord.model_validate({"number": len(trials), "kind": kind, "stages": stages, **facts})

    def _other_method(self, now: Standing) -> TrialRecord | None:
        """Another way to quantize: where there is nothing to train, and where the usual one loses too much."""
        first = now.trials[0]
        if self.space.trains and first.state != "failed" and not now.loses(first):
            return None
        if self.space.trains and any(not now.loses(one) for one in now.candidates if one.kind == "quantized"):
            return None
        tried = [trial.stages for trial in now.trials]
        for method in self.space.methods:
            stages = self.space.quantized(method)
            if stages not in tried:
                return self._trial(now.trials, "quantized", stages)
        return None

    def _lever(self, now: Standing) -> TrialRecord | None:
        """Savings of size, all at once, then one by one where together they lose too much."""
        tried = [trial for trial in now.trials if trial.kind == "extra"]
        if not self._size_counts(now) or any(trial.kind == "pace" for trial in now.trials):
            return None  # what is in every later trial is settled before the first of them
        if any(now.lever_stays(trial) for trial in tried):
            return None
        levers = tuple(lever for lever in self.space.levers if self._size_asked(now) or not lever.slower)
        sets = [levers, *((lever,) for lever in levers)] if len(levers) > 1 else [levers] if levers else []
        for chosen in sets[len(tried) : len(tried) + 1]:
            return self._trial(now.trials, "extra", self.space.whole((), chosen, method=self._method(now)), parent=0)
        return None

    def _size_asked(self, now: Standing) -> bool:
        """Whether the first artifact is too large, or size is what is to be small."""
        return now.too_large(now.trials[0]) or self.search.objective == "size"

    def _size_counts(self, now: Standing) -> bool:
        roomy = self.limits.time is not None and self.limits.time >= SHORT_BOX
        return self._size_asked(now) or roomy

    def _method(self, now: Standing) -> str | None:
        """The way to quantize that did best without training: the usual one (None) unless that loses too much."""
        first, tried = now.trials[0], now.of("quantized")
        if not tried or (first.state != "failed" and not now.loses(first)):
            return None
        best = min(tried, key=now.rank).stages
        return next((method for method in self.space.methods if self.space.quantized(method) == best), None)

    def _whole(self, now: Standing, training: Tables, *, quick: bool = False) -> Tables:
        """With the savings that stay."""
        kept = [trial for trial in now.trials if trial.kind == "extra" and now.lever_stays(trial)]
        levers = [
            lever
            for lever in self.space.levers
            if any(
                table["stage"] == lever.stage and lever.settings.items() <= table.items()
                for trial in kept
                for table in trial.stages
            )
        ]
        return self.space.whole(training, levers, method=self._method(now), quick=quick)

    def _trained(self, now: Standing, room: Room) -> TrialRecord | str:
        failed = next((one for one in now.trials if one.kind in NEEDED and one.state == "failed"), None)
        if failed is not None:
            return f"trial {failed.number} failed: {failed.reason}"
        if self.limits.max_drop is not None and now.expected_drop(now.trials[0]) is None:
            return "nothing tells what a student would lose: the data has no labels"
        if not any(trial.kind == "pace" for trial in now.trials):
            return self._trial(now.trials, "pace", self.space.whole((self.space.taught(PACE_STEPS),)), steps=PACE_STEPS)
        if room.pace is None:
            return "no step of training could be timed"
        if self.space.measures and not any(trial.kind == "costs" for trial in now.trials):
            return self._trial(now.trials, "costs", ())
        if room.steps(self.space.default.kept) < self._shortest:
            return f"the time that is left is too short for {self._shortest} steps of training"
        return self._next_full(now, room) if now.of("full") else self._first_full(now, room)

    @property
    def _shortest(self) -> int:
        return max(10, round(self.space.full_steps * SHORTEST))

    def _first_full(self, now: Standing, room: Room) -> TrialRecord | str:
        """The first long training, after what shows which shape it should be of."""
        shape: Shape | TrialRecord = self._fitted(now, self._aimed(now)) if self.search.fill else self._start(room)
        if isinstance(shape, TrialRecord):
            return shape
        proxy = self._proxy(now, room, shape)
        if proxy is not None:
            return proxy
        chosen: Shape | TrialRecord = self._survivor(now, shape)
        if self.search.fill:
            chosen = self._fitted(now, self._survivor(now, shape))
        return chosen if isinstance(chosen, TrialRecord) else self._full(now, room, chosen, None)

    def _aimed(self, now: Standing) -> Shape:
        """The base recipe's shape, with as many layers as the budget needs and allows."""
        usual = self.space.default
        return replace(usual, layers=self.space.layers_near(now.untimed(AIM, rest=self._uncut), usual.layers))

    @property
    def _uncut(self) -> float:
        """What stays of the cost where nothing is kept, before two shapes were timed."""
        return 0.0 if self.space.reach else REST

    def _least(self, layers: int | None) -> float:
        """The smallest share that is asked of so many layers."""
        return max(LEAST_KEPT, self.space.span(layers)[0])

    def _start(self, room: Room) -> Shape:
        """As small as the training that there is time for is known to bring back."""
        usual = self.space.default
        share = min(1.0, max(1, room.steps(usual.kept)) / self.space.full_steps)
        layers = usual.layers if share >= SHORT_TRAINING else self.space.layers
        ratio = self.space.full_ratio * _trusted(share)
        return Shape(round(self.space.share(1 - ratio, layers), 3), layers, usual.importance)

    def _fitted(self, now: Standing, shape: Shape) -> Shape | TrialRecord:
        """A shape within the budget, or the next one to be timed."""
        timed = now.weighed(shape.layers)
        over = {trial.asked for trial in timed if trial.kind == "full" and now.pressure(trial) > 1}
        fit = [one for one in timed if WINDOW[0] <= now.foreseen(one) <= WINDOW[1] and one.asked not in over]
        done = [trial for trial in timed if trial.kind == "timing"]
        kept = max(self._least(shape.layers), now.kept_for(AIM, shape.layers, rest=self._uncut))
        seen = any(trial.asked and abs(kept / trial.asked - 1) < SAME for trial in timed)
        if fit or seen or len(done) >= MOST_TIMINGS:
            nearest = min(fit or timed, key=lambda trial: (now.foreseen(trial) > 1, abs(now.foreseen(trial) - AIM)))
            return Shape(nearest.asked or 1.0, shape.layers, shape.importance)
        wanted = Shape(round(kept, 4), shape.layers, shape.importance)
        stages = self._whole(now, (self.space.cut(wanted),), quick=True)
        if any(trial.stages == stages for trial in now.trials):
            return wanted  # it came out with other layers, or cost nothing: timed again, it would tell as little
        return self._trial(now.trials, "timing", stages, asked=wanted.kept)

    def _proxy(self, now: Standing, room: Room, shape: Shape) -> TrialRecord | None:
        """A shape of about equal cost, briefly trained; None where there were enough, no time for any, or one alone."""
        assert room.pace is not None
        steps = min(PROXY_STEPS[1], max(PROXY_STEPS[0], self.space.full_steps // 20))
        each = room.timing + room.pace.seconds(steps, shape.kept)
        made = [trial for trial in now.trials if trial.kind == "proxy"]
        shape = Shape(made[0].asked or shape.kept, shape.layers, shape.importance) if made else shape
        room_for = int(PROXY_SHARE * (room.left + sum(trial.seconds for trial in made)) / each)
        layers = self.space.comparable(shape)
        most = min(room_for, MOST_PROXIES, max(1, len(layers)) * len(self.space.importances))
        if shape.kept >= 1 or most < FEWEST_PROXIES or len(made) >= most:
            return None  # a model that is kept whole is the same by every importance
        proposal, suggested = self.suggest(shape, layers)
        training = (self.space.cut(suggested), self.space.taught(steps))
        stages = self._whole(now, training, quick=True)
        if any(trial.stages == stages for trial in now.trials):
            return None  # the sampler has nothing new
        return self._trial(now.trials, "proxy", stages, proposal=proposal, steps=steps, asked=suggested.kept)

    def _survivor(self, now: Standing, shape: Shape) -> Shape:
        """The shape of the proxy that goes on: of those as good as the best, the one that is most like the usual."""
        proxies = [trial for trial in now.of("proxy") if trial.divergence is not None]
        if not proxies:
            return shape
        best = min(proxies, key=lambda trial: trial.divergence or 0.0)
        most = (best.divergence or 0.0) + TIE * (best.divergence_error or 0.0)
        good = [trial for trial in proxies if (trial.divergence or 0.0) <= most]
        usual = shape.layers or 0
        chosen = min(
            good, key=lambda trial: (abs((trial.layers or 0) - usual), self._importance(trial) != shape.importance)
        )
        return Shape(shape.kept, chosen.layers, self._importance(chosen))

    def _full(self, now: Standing, room: Room, shape: Shape, parent: TrialRecord | None) -> TrialRecord | str:
        """A long training of a shape: of the original's, or going on from a student."""
        usual = self.space.full_steps
        if parent is None:
            training: Tables = (self.space.cut(shape),)
        else:
            usual = max(1, usual // 2)  # it begins with a student that is good already
            before = Shape(parent.kept or 1.0, parent.layers, shape.importance)
            cut = () if before.kept == shape.kept else (self.space.cut(shape, of=before),)
            training = (*training_of(parent.stages), *cut)
        steps = self._steps(room, shape.kept, usual)
        if steps < self._shortest:
            return "the time that is left is too short for another training"
        lesson = self.space.taught(steps, gently=steps < SHORT_TRAINING * self.space.full_steps)
        stages = self._whole(now, (*training, lesson))
        facts: dict[str, object] = {"steps": steps, "asked": shape.kept}
        if parent is not None:
            facts |= {"parent": parent.number, "shortened": parent.shortened}
        return self._trial(now.trials, "full", stages, **facts)

    def _steps(self, room: Room, kept: float, usual: int) -> int:
        """How long a training is: a share of what is left of the box, or all where nothing of use would be left.

        Where limits on cost are used up the first that keeps them is the result, and no more is wanted.
        """
        fit = room.steps(kept)
        if self.search.fill or fit <= usual:
            return min(fit, usual)
        if fit < usual + self.space.full_steps // 4:  # half of what one that goes on from a student takes
            return fit
        return max(usual, min(LONGEST * usual, fit // TRAININGS))

    def _next_full(self, now: Standing, room: Room) -> TrialRecord | str:
        """Faster, slower or longer than those that were trained."""
        trained = [trial for trial in now.of("full") if trial.kept is not None]
        if not trained:
            return "no training came to an end"
        last = trained[-1]
        if not self.search.fill:
            return self._bisected(now, room, trained)
        if now.pressure(last) > 1:  # however long it is trained
            shape = self._fitted(now, Shape(last.kept or 1.0, last.layers, self._importance(last)))
            smaller = shape if isinstance(shape, TrialRecord) else self._once(now, self._full(now, room, shape, None))
            if isinstance(smaller, TrialRecord) or not now.loses(last):
                return smaller
        return self._full(now, room, self._shape_of(last), last)  # not good enough yet

    def _bisected(self, now: Standing, room: Room, trained: Sequence[TrialRecord]) -> TrialRecord | str:
        """Between what is good enough and what is not.

        What misses by little is trained longer only where nothing is good enough yet, or nothing lies between: of a
        MiniLM on SST-2 that lost 1.15 points at a quarter of the cost, as many steps again lost no less (1.26).
        """
        last = trained[-1]
        good = [trial for trial in trained if not now.loses(trial)]
        high = min(good, key=lambda trial: trial.kept or 1.0) if good else now.trials[0]
        high_kept = high.kept or 1.0
        bad = [trial for trial in trained if now.loses(trial) and (trial.kept or 1.0) < high_kept]
        another = room.steps(high_kept) >= self.space.full_steps  # time for two trainings that go on from a student
        if bad:
            nearest = max(bad, key=lambda trial: (trial.kept or 0.0, trial.number))
            once = not any(trial.kept == nearest.kept for trial in trained if trial is not nearest)
            low_kept = nearest.kept or high_kept
            met = high_kept / low_kept < MET
            if now.close(nearest) and once and (met or not good):
                return self._full(now, room, self._shape_of(nearest), nearest)
            if met:
                return "what is fast enough and what is good enough have met"
            wanted = math.sqrt(high_kept * low_kept)
        else:
            wanted = high_kept * (FASTER if another else LAST)
        parent = high if high.kind == "full" else None
        layers = self.space.layers_near(wanted, last.layers if parent is None else parent.layers)
        shape = Shape(round(max(self._least(layers), wanted), 4), layers, self._importance(last))
        if any(trial.asked == shape.kept for trial in trained):
            return "no smaller shape is left"
        return self._full(now, room, shape, parent)

    def _once(self, now: Standing, trial: TrialRecord | str) -> TrialRecord | str:
        """A trial that is not one of those that were made."""
        if isinstance(trial, TrialRecord) and any(one.asked == trial.asked for one in now.of("full")):
            return "no shape within the budget is left"
        return trial

    def _shape_of(self, trial: TrialRecord) -> Shape:
        return Shape(trial.kept or 1.0, *self._rest(trial))

    def _rest(self, trial: TrialRecord) -> tuple[int | None, str]:
        return trial.layers, self._importance(trial)

    def _importance(self, trial: TrialRecord) -> str:
        return str(training_of(trial.stages)[0].get("importance", self.space.default.importance))


def _trusted(share: float) -> float:
    """Of the base recipe's ratio, what a share of its training brings back."""
    import numpy as np

    shares, ratios = zip(*TRUSTED, strict=True)
    return float(np.interp(math.log(share), np.log(shares), ratios))
