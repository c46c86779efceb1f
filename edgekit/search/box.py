"""The time box of a search: what was spent over all attempts, kept on disk, and how long a step of training takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from edgekit.progress import Progress
from edgekit.summed import read_summed, write_summed

# Seconds between two writes of what was spent, while anything tells how far it is.
BEAT = 5.0
# Label under which distillation tells its steps.
TRAINING = "distill"
# Fewest steps that tell how long one takes: the first warms up, the last holds a look at the selection split.
FEWEST_STEPS = 6
# Seconds that a training has to come to an end by itself when its time is up: one look, and its files.
GRACE = 20.0
SCHEMA = "edgekit.box/1"


class OutOfTimeError(Exception):
    """The time box has no room for more of this training."""


class Box:
    """A time box that holds over all attempts at one search.

    Args:
        file: where what was spent is kept.
        seconds: of the whole box.
        clock: seconds that only grow.

    Attributes:
        kept_back: seconds that no training may use.
    """

    def __init__(self, file: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.kept_back = 0.0
        self._file = file
        self._clock = clock
        known: dict[str, Any] = read_summed(file, SCHEMA) or {"attempts": 0, "spent": 0.0}
        self.attempts: int = known["attempts"] + 1
        self._before: float = known["spent"]
        self._began = self._written = clock()
        self._write()

    @property
    def spent(self) -> float:
        """Seconds over all attempts."""
        return self._before + self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds that are left; below zero when more was spent."""
        return self.seconds - self.spent

    def for_training(self) -> float:
        """Seconds that a training may still take."""
        return self.left - self.kept_back

    def tick(self) -> None:
        """Remember what was spent, now and then."""
        if self._clock() - self._written >= BEAT:
            self._write()

    def now(self) -> float:
        """The clock that the box goes by."""
        return self._clock()

    def _write(self) -> None:
        self._written = self._clock()
        write_summed(self._file, SCHEMA, {"spent": round(self.spent, 2), "attempts": self.attempts})


class Ticking:
    """Progress that passes everything on, and keeps the box.

    Args:
        told: who is told.
        box: what was spent of it is remembered whenever something is told.
    """

    def __init__(self, told: Progress, box: Box) -> None:
        self._told = told
        self._box = box

    def start(self, label: str, total: int | None = None) -> None:
        self._box.tick()
        self._told.start(label, total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._box.tick()
        self._told.advance(steps, note)

    def finish(self, note: str = "") -> None:
        self._box.tick()
        self._told.finish(note)


class Watched(Ticking):
    """The same, which times the steps of training, too, and ends one that does not end by itself when its time is up.

    Args:
        told: who is told.
        box: how long all may take.
        every: steps between two looks of a training at the selection split; its last step holds one wherever it ends.

    Attributes:
        step_seconds: of a step without a look; None where too few were seen.
        check_seconds: of a look; None where none was seen.
    """

    def __init__(self, told: Progress, box: Box, every: int = 0) -> None:
        super().__init__(told, box)
        self._every = every
        self._training = False
        self._done = 0
        self._at: float | None = None
        self._took: list[tuple[int, float]] = []
        self.step_seconds: float | None = None
        self.check_seconds: float | None = None

    def start(self, label: str, total: int | None = None) -> None:
        super().start(label, total)
        self._training = label == TRAINING
        self._done, self._at, self._took = 0, None, []

    def advance(self, steps: int = 1, note: str = "") -> None:
        super().advance(steps, note)
        self._done += steps
        if not self._training or steps != 1:
            return
        now = self._box.now()
        if self._at is not None:
            self._took.append((self._done, now - self._at))
        self._at = now
        if self._box.for_training() < -GRACE:
            self._told.finish("the time is up")
            raise OutOfTimeError(f"the time was up after {self._done} steps")

    def finish(self, note: str = "") -> None:
        super().finish(note)
        looked = [self._done == step or bool(self._every and step % self._every == 0) for step, _ in self._took]
        plain = [seconds for (_, seconds), look in zip(self._took, looked, strict=True) if not look]
        if self._training and plain and len(self._took) + 1 >= FEWEST_STEPS:
            looks = [seconds for (_, seconds), look in zip(self._took, looked, strict=True) if look]
            self.step_seconds = fmean(plain)
            self.check_seconds = max(0.0, fmean(looks) - self.step_seconds)
        self._training = False
