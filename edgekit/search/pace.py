"""How long training takes: of a step by what the student keeps, and of the looks at the selection split on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from edgekit.trials import TrialRecord

# A shorter training is looked at once, at its end: on a cosine its last student is the best or nearly so. A longer one
# every so many steps, and this often.
FEW_STEPS, EVERY, MOST_CHECKS = 500, 300, 6


@dataclass(frozen=True)
class Pace:
    """What was timed.

    Attributes:
        timed: the share that a student keeps, and the seconds of a step, in the order of the trials.
        check: seconds of a look at the selection split.
    """

    timed: tuple[tuple[float, float], ...]
    check: float = 0.0

    @classmethod
    def of(cls, trials: Sequence[TrialRecord]) -> Self | None:
        """What the trials tell; None where none tells of a step."""
        timed = [(trial.kept or 1.0, trial.step_seconds) for trial in trials if trial.step_seconds]
        checks = [trial.check_seconds for trial in trials if trial.check_seconds is not None]
        return cls(tuple(timed), checks[-1] if checks else 0.0) if timed else None

    def step(self, kept: float) -> float:
        """Seconds of a step for a student that keeps a share.

        By the student that was timed and is nearest to it, the last of several. About half of the step of a whole
        student does not depend on how much it keeps: the teacher's forward pass, the tables of words, and what the
        optimizer does to these. Of a MiniLM on SST-2 a step took 0.23 s whole, and 0.16 s with 35 % of its cost.
        """
        near, seconds = min(reversed(self.timed), key=lambda one: abs(one[0] - kept))
        return seconds * (1 + kept) / (1 + near)

    def seconds(self, steps: int, kept: float) -> float:
        """What a training takes."""
        return steps * self.step(kept) + checks_of(steps) * self.check

    def steps(self, seconds: float, kept: float) -> int:
        """The most steps that take no longer."""
        step = self.step(kept)
        found = max(0, int((seconds - self.check) / step))
        return found if found < FEW_STEPS else max(FEW_STEPS, int((seconds - checks_of(found) * self.check) / step))


def evaluate_every(steps: int) -> int:
    """Steps between two looks at the selection split."""
    return steps if steps < FEW_STEPS else max(EVERY, -(-steps // MOST_CHECKS))


def checks_of(steps: int) -> int:
    """Looks at the selection split in a training."""
    return -(-steps // evaluate_every(steps)) if steps else 0


def usual_step(batches: Sequence[Sequence[int]], length: Callable[[int], int], steps: int) -> float:
    """How many times as long the samples of a usual step are as those of the first few, which a pace is taken from.

    Batches are of samples of similar length, so that their steps take very different times: of a MiniLM on SST-2 one of
    4 tokens takes 0.11 s, and one of 63 a second.

    Args:
        batches: of all steps of a pass.
        length: of a sample; each is padded to the longest of its batch.
        steps: that were made. The first one and the last one were not timed.
    """
    sizes = [len(batch) * max(map(length, batch)) for batch in batches]
    return fmean(sizes) / fmean(sizes[1 : steps - 1] or sizes)


def beside_training(trial: TrialRecord) -> float:
    """Seconds that a trial took beside its training, with its look at the evaluation split."""
    training = trial.steps * (trial.step_seconds or 0.0) + checks_of(trial.steps) * (trial.check_seconds or 0.0)
    return max(0.0, trial.seconds - training) + trial.look_seconds
