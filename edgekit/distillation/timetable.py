"""How many steps a training takes: as planned, unless a time box ends first.

As soon as it is foreseen that the box will not hold the plan, the plan is shortened, and the learning rate falls from
where it is then to zero at the new end, so that a shortened training ends like one that was planned so. When no time is
left, training ends at once. Each change depends on the clock and is told to whoever writes decisions down, so that a
run that goes on, or is repeated, takes the same steps at the same rates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edgekit.distillation.trainer import Schedule

# Steps of this attempt before its pace is believed, and the least that make a training.
FEWEST_TIMED, SHORTEST, SHORTEST_SHARE = 20, 10, 0.025
# By how much the plan has to overrun what is left before it is changed, and the share of that which the new one fills:
# the pace of a few dozen steps is known to about 5 % (texts differ in length), and a last look follows.
OVERRUN, FILLED = 1.05, 0.95


class Change(NamedTuple):
    """A shorter plan.

    Attributes:
        at: steps that were done when it was made.
        steps: in all, from then on.
    """

    at: int
    steps: int


class Timetable:
    """Steps and learning rates of one training.

    Args:
        schedule: how long and how fast, by plan.
        planned: its steps on the samples there are.
        known: changes that were made before, by an attempt that was stopped or by the run that is repeated.
        left: seconds that training may still take; None where nobody counts.
        record: told of a change; returns the one that holds.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        schedule: Schedule,
        planned: int,
        *,
        known: Iterable[Change] = (),
        left: Callable[[], float] | None = None,
        record: Callable[[Change], Change] = lambda change: change,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule, self.planned = schedule, planned
        self._known = sorted(known)
        self._left, self._record, self._clock = left, record, clock
        self._falls: list[tuple[Change, float]] = []  # each change, with the rate that it found
        self._began, self._first = clock(), 0
        self.first_rounded = schedule.first_rounded(planned)

    @property
    def steps(self) -> int:
        """Steps in all, as things stand."""
        return self._falls[-1][0].steps if self._falls else self.planned

    @property
    def changes(self) -> tuple[Change, ...]:
        """Those that hold by now."""
        return tuple(change for change, _ in self._falls)

    def holds(self, done: int, changes: Iterable[Change]) -> bool:
        """Whether this plan, which has not begun, has just these changes in so many steps."""
        return [change for change in self._known if change.at <= done] == list(changes)

    def rate(self, step: int) -> float:
        """A step's learning rate: the schedule's, and behind a change half a cosine from where it was to zero."""
        if not self._falls:
            return self._schedule.rate(step, self.planned)
        (at, steps), found = self._falls[-1]
        return found * 0.5 * (1 + math.cos(math.pi * (step - at) / max(1, steps - at)))

    def begin(self, done: int) -> None:
        """An attempt begins behind so many steps; the pace is taken from here on."""
        while self._known and self._known[0].at <= done:
            self._apply(self._known.pop(0))
        self._began, self._first = self._clock(), done

    def advance(self, done: int) -> None:
        """So many steps are done: change the plan where it has to be."""
        if self._known:
            if self._known[0].at == done:
                self._apply(self._known.pop(0))
        elif self._left is not None and done < self.steps:
            end = self._end(done, self._left())
            if end < self.steps:
                self._apply(self._record(Change(done, end)))

    def _end(self, done: int, left: float) -> int:
        """The step behind which training ends, with so many seconds left."""
        if left <= 0:
            return done if done >= max(SHORTEST, SHORTEST_SHARE * self.planned) else self.steps
        timed = done - self._first
        pace = (self._clock() - self._began) / max(1, timed)
        overruns = pace * (self.steps - done) > OVERRUN * left
        if timed < FEWEST_TIMED or done < self._schedule.rising(self.planned) or not overruns:
            return self.steps
        return min(self.steps, done + max(1, int(FILLED * left / pace)))

    def _apply(self, change: Change) -> None:
        found = self.rate(change.at)
        self._falls.append((change, found))
        if self.first_rounded is not None and change.at < self.first_rounded:
            self.first_rounded = max(change.at, self._schedule.first_rounded(change.steps) or 0)
