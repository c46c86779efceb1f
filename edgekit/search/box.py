"""The time box of a search: what was spent over all attempts, kept on disk, and how long a step of training takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.artifact import write_text
from edgekit.progress import Progress

# Seconds between two writes of what was spent: so much at most is forgotten when the process is killed.
BEAT = 5.0
# Label under which distillation tells its steps.
TRAINING = "distill"
# Fewest steps that tell how long one takes: the first warms up, the last holds an evaluation.
FEWEST_STEPS = 6


class OutOfTimeError(Exception):
    """The time box has no room for more of this training."""


class Box:
    """A time box that holds over all attempts at one search.

    Args:
        file: where what was spent is kept.
        seconds: of the whole box.
        clock: seconds that only grow.
    """

    def __init__(self, file: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.kept_back = 0.0
        self._file = file
        self._clock = clock
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.attempts: int = known.get("attempts", 0) + 1
        self._before: float = known.get("spent", 0.0)
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

    def tick(self) -> None:
        """Remember what was spent, now and then."""
        if self._clock() - self._written >= BEAT:
            self._write()

    def now(self) -> float:
        """The clock that the box goes by."""
        return self._clock()

    def _write(self) -> None:
        self._written = self._clock()
        text = json.dumps({"schema": "edgekit.box/1", "spent": round(self.spent, 2), "attempts": self.attempts})
        write_text(self._file, text + "\n")


class Watched:
    """Progress that passes everything on, keeps the box, and times the steps of training.

    Args:
        told: who is told.
        box: how long all may take; training ends with an error when only what is kept back of it is left.
    """

    def __init__(self, told: Progress, box: Box) -> None:
        self._told = told
        self._box = box
        self._steps: list[float] | None = None
        self.step_seconds: float | None = None

    def start(self, label: str, total: int | None = None) -> None:
        self._steps = [] if label == TRAINING else None
        self._told.start(label, total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._told.advance(steps, note)
        self._box.tick()
        if self._steps is None or steps != 1:
            return
        self._steps.append(self._box.now())
        if self._box.left < self._box.kept_back:
            self._told.finish("the time is up")
            raise OutOfTimeError(f"the time was up after {len(self._steps)} steps")

    def finish(self, note: str = "") -> None:
        self._told.finish(note)
        steps, self._steps = self._steps, None
        if steps is not None and len(steps) >= FEWEST_STEPS:
            self.step_seconds = (steps[-2] - steps[0]) / (len(steps) - 2)
