"""Searches whose looks err as those at 872 samples do, in worlds whose truth is known: what rules for looks are worth.

    PYTHONPATH=tests python -m search.noisy [SEARCHES]

prints for each world what a search for the least latency comes to: the mean of how many times faster the result is, the
share of searches that end with a student, and what results lose beyond the limit in truth.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from search.world import MEASURES, World, session, shape_of

from edgekit.recipe import Limits
from edgekit.trials import TrialRecord

# Points that a student loses by chance, that its figure on the selection split errs, and that on the evaluation split.
OWN, SELECTION, EVALUATION = 0.003, 0.004, 0.0083
SMOOTH = 0.05


@dataclass
class Noisy(World):
    """Students lose next to nothing up to some shape, and then by a straight line in the logarithm of what is left.

    Attributes:
        seed: of all that errs.
        start: the logarithm of how many times smaller a student is where it begins to lose.
        grows: what is lost for each factor e beyond.
        seen: the share of it that shows on the selection split.
        level: what more is lost there.
    """

    seed: int = 0
    start: float = 1.25
    grows: float = 0.06
    seen: float = 0.1
    level: float = -0.003

    def _draw(self, *what: object) -> float:
        return random.Random(f"{self.seed} {what}").gauss(0, 1)

    def truth(self, trial: TrialRecord) -> float:
        """What a student loses."""
        beyond = -math.log(shape_of(trial)[0]) - self.start - 0.1 * self._draw("start")
        lost = self.grows * SMOOTH * math.log1p(math.exp(beyond / SMOOTH))
        return 0.002 + lost + OWN * self._draw("own", trial.number)

    def _figures(self, trial: TrialRecord) -> TrialRecord:
        found = super()._figures(trial)
        if trial.kind != "full" or found.latency_ms is None:
            return found
        level = self.level + SELECTION * self._draw("level")
        selection = self.seen * self.truth(trial) + level + SELECTION * self._draw("selection", trial.number)
        ms = found.latency_ms * math.exp(0.02 * self._draw("clock", trial.number))
        return found.model_copy(update={"selection_drop": selection, "latency_ms": ms})

    def look(self, trial: TrialRecord) -> TrialRecord:
        found = super().look(trial)
        drop = 0.0034
        if trial.kind == "full":
            drop = self.truth(trial) + EVALUATION * self._draw("evaluation", trial.number)
        return found.model_copy(update={"drop": drop, "drop_high": drop + 1.645 * EVALUATION})


# In the first, students have seen texts that resemble the selection split: about what a MiniLM did on SST-2.
WORLDS = {
    "the gap grows": Noisy(),
    "half of it shows": Noisy(grows=0.05, start=1.2, seen=0.5, level=0.0),
    "the gap is level": Noisy(seen=1.0, level=0.01),
    "it holds for long": Noisy(start=1.9, seen=0.3, level=0.0),
    "it loses early": Noisy(grows=0.05, start=0.6, seen=0.3, level=0.0),
}


def results(world: Noisy, limit: float, searches: int) -> Iterator[tuple[float, bool, float]]:
    """Of each search: how many times faster its result is, whether it is a student, and what it loses in truth."""
    for seed in range(searches):
        one = replace(world, seed=seed, done=[], looked=[], published=[])
        with tempfile.TemporaryDirectory() as folder:
            search = session(Path(folder), one, limits=Limits(max_drop=limit, time=3600.0), space=MEASURES)
            search.strategy = replace(search.strategy, suggest=lambda shape, layers: (0, shape))
            search.tell = lambda proposal, figures: None  # shapes are compared in other tests
            best = search.run()
        assert best.latency_ms is not None
        yield one.whole_ms / best.latency_ms, best.kind == "full", one.truth(best) if best.kind == "full" else 0.0


def main(searches: int) -> None:
    """Print a line for each world and limit."""
    for limit in (0.01, 0.02, 0.05):
        for name, world in WORLDS.items():
            faster, students, lost = zip(*results(world, limit, searches), strict=True)
            mean = math.exp(sum(map(math.log, faster)) / searches)
            beyond = 100 * sum(max(0.0, one - limit) for one in lost) / searches
            told = f"{mean:.2f}x, {sum(students) / searches:4.0%} students, {beyond:.2f} points beyond"
            print(f"{limit:.0%} {name:18} {told}", flush=True)  # noqa: T201  # a script


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
