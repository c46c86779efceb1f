"""One search: propose, run, look, publish, until nothing is left to try; what was done lies on disk at every moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from edgekit.errors import InputError, UsageError
from edgekit.search.box import Box
from edgekit.search.executor import Executor, because
from edgekit.search.outcome import settle
from edgekit.search.pace import Pace, beside_training
from edgekit.search.standing import Standing
from edgekit.search.strategy import Room, Strategy
from edgekit.summed import read_summed, write_summed
from edgekit.trials import SearchRecord, TrialRecord

# The evaluation split is looked at so often at most: more looks would choose what is good there by chance.
LOOKS = 5
# Seconds that the end takes: one interleaved measurement (assembly.FINAL, 20 of them), memory, the profile, pages.
END_SECONDS = 45.0
# Seconds that pruning takes, and timing a shape, before any was done.
PRUNE_SECONDS, TIMING_SECONDS = 20.0, 45.0
# Of the look at the first trial, the share that the end takes for scoring every row of the ledger.
SCORING = 0.3
# Of what a trial takes beside its training, the share that comes after it.
AFTER = 0.8
# What a trial costs, by the names of its figures.
COSTS = ("latency_ms", "size_bytes", "instructions", "energy_uj")
SCHEMA = "edgekit.trials/1"

_TRIALS = TypeAdapter(tuple[TrialRecord, ...])


class Book:
    """Trials on disk, in order.

    The last one, where it failed before it was looked at, is made once more by an attempt that goes on: a signal ended
    the attempt before, and what a library raised instead may be the signal's doing.

    Args:
        file: where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        record = read_summed(file, SCHEMA)
        self.trials = _TRIALS.validate_python(record["trials"]) if record is not None else ()
        if self.trials and self.trials[-1].state == "failed" and not self.trials[-1].look_seconds:
            again = self.trials[-1].model_copy(update={"state": "running", "reason": ""})
            self.trials = (*self.trials[:-1], again)

    def put(self, trial: TrialRecord) -> None:
        """Enter a trial, or what is known of it now, at once."""
        rest = [one for one in self.trials if one.number != trial.number]
        self.trials = tuple(sorted((*rest, trial), key=lambda one: one.number))
        write_summed(self._file, SCHEMA, {"trials": json.loads(_TRIALS.dump_json(self.trials))})

    @property
    def unfinished(self) -> TrialRecord | None:
        """A trial that was begun."""
        return next((trial for trial in self.trials if trial.state == "running"), None)


@dataclass
class Session:
    """The parts of a search, bound together.

    Attributes:
        strategy: proposes.
        box: how long all may take.
        book: what was done.
        executor: runs trials.
        look: runs a trial's straight line, and says what it loses on the evaluation split.
        publish: puts a trial's result into the output.
        held: whether a trial's result is what lies there.
        tell: told what came of a sampler's proposal.
        scored: whether there is an evaluation split.
        metric: the name of what is scored; empty before anything was, and without data.
    """

    strategy: Strategy
    box: Box
    book: Book
    executor: Executor
    look: Callable[[TrialRecord], TrialRecord]
    publish: Callable[[TrialRecord, SearchRecord], None]
    held: Callable[[TrialRecord], bool]
    tell: Callable[[int, Sequence[float] | None], None]
    scored: bool
    metric: Callable[[], str]
    ended: str = field(default="", init=False)
    _reason: str = field(default="", init=False)

    def run(self) -> TrialRecord:
        """Search, and return the trial that is the result.

        The best of earlier attempts is put into the output first, unless it lies there.
        """
        known = self.now.best
        if known is not None and not self.held(known):
            self.publish(known, self.record())
        while not self.ended:
            self._go_on()
        best = self.now.best
        assert best is not None  # the first trial is one, or its error has ended the run
        return best

    def _go_on(self) -> None:
        """Finish a trial, look at one, or begin one; the last look is at what would be the result."""
        room = self.room()  # what is kept back of the box holds for a trial that was begun earlier, too
        begun = self.book.unfinished
        if begun is not None:
            self._try(begun)
            return
        looks = LOOKS - self._looks
        waiting = self.now.to_look_at(looks, ending=False)
        proposed = waiting or self.strategy.propose(self.book.trials, room)
        if isinstance(proposed, str):
            waiting = self.now.to_look_at(looks, ending=True)
            if waiting is None:
                self.ended = self._reason or proposed
                return
            self._reason = proposed
        if waiting is not None:
            self._look(waiting)
        elif isinstance(proposed, TrialRecord):
            self._reason = ""
            self._try(proposed)

    @property
    def now(self) -> Standing:
        """How the trials stand."""
        done = tuple(trial for trial in self.book.trials if trial.state != "running")
        return Standing(done, self.strategy.search, self.strategy.limits, self.strategy.strict)

    def record(self) -> SearchRecord:
        """The search as the report has it."""
        now = self.now
        best = now.best
        return SearchRecord(
            objective=now.search.objective,
            fill=now.search.fill,
            metric=self.metric(),
            seconds=self.box.seconds,
            spent=round(self.box.spent, 1),
            attempts=self.box.attempts,
            looks=self._looks,
            trials=settle(now),
            chosen=0 if best is None else best.number,
            nearest=best is not None and now.misses(best) > 0,
            ended=self.ended,
        )

    def room(self) -> Room:
        """What time there is, by what the trials took so far."""
        trials = self.book.trials
        first = trials[0] if trials else None
        line = first.seconds + first.look_seconds if first else 0.0  # a student's has as many exports and evaluations
        end = END_SECONDS + (SCORING * first.look_seconds if first else 0.0)
        fulls = [trial for trial in trials if trial.kind == "full" and trial.step_seconds and trial.look_seconds]
        beside = max((beside_training(trial) for trial in fulls), default=line + PRUNE_SECONDS)
        timings = [trial.seconds for trial in trials if trial.kind == "timing"]
        self.box.kept_back = end + AFTER * beside
        return Room(
            left=self.box.left - end,
            looks=LOOKS - self._looks,
            beside=beside,
            timing=max(timings, default=TIMING_SECONDS),
            pace=Pace.of(trials),
        )

    @property
    def _looks(self) -> int:
        return sum(trial.look_seconds > 0 for trial in self.book.trials) if self.scored else 0

    def _try(self, trial: TrialRecord) -> None:
        """Run a trial; the first one is looked at and published before anything else, since a result is wanted soon."""
        self.book.put(trial)
        self.box.tick()
        known: dict[str, object] = {}
        if trial.number == 0:
            trial = self._seen(trial)
            self.publish(trial, self.record())
            self.book.put(trial)  # from here on the original's export is not put there again
            known = {name: value for name in COSTS if (value := getattr(trial, name)) is not None}
        (trial,) = self.executor.submit([trial])
        if trial.state != "failed":
            trial = trial.model_copy(update=known)  # where a stage was undone, what the artifact costs without it
        self.book.put(trial)
        self._tell(trial)
        self.box.tick()

    def _look(self, trial: TrialRecord) -> None:
        """Look at a trial, and publish it where it is the best; one whose line fails is none."""
        began = self.box.now()
        try:
            trial = self._seen(trial)
        except (InputError, UsageError) as error:
            seconds = round(max(0.01, self.box.now() - began), 2)
            trial = trial.model_copy(
                update={"state": "failed", "reason": because(error), "look_seconds": seconds, "selection_drop": None}
            )
        self.book.put(trial)
        self.box.tick()
        best = self.now.best
        if best is not None and best.number == trial.number:
            self.publish(trial, self.record())

    def _seen(self, trial: TrialRecord) -> TrialRecord:
        began = self.box.now()
        found = self.look(trial)
        seconds = round(max(0.01, self.box.now() - began), 2)
        return found.model_copy(update={"look_seconds": max(trial.look_seconds, seconds)})  # again, it was cached

    def _tell(self, trial: TrialRecord) -> None:
        """Let the sampler know what came of its proposal."""
        if trial.proposal is not None:
            cost = trial.cost(self.strategy.search.objective)
            known = trial.state != "failed" and cost is not None and trial.divergence is not None
            self.tell(trial.proposal, (trial.divergence or 0.0, cost or 0.0) if known else None)
