"""One search: propose, run, look, publish, until nothing is left to try; what was done lies on disk at every moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from edgekit.artifact import write_text
from edgekit.search.box import Box
from edgekit.search.executor import Executor
from edgekit.search.outcome import settle
from edgekit.search.standing import LOOKED, Standing
from edgekit.search.strategy import LEVER_SHARE, Room, Strategy
from edgekit.trials import SearchRecord, TrialRecord

# The evaluation split is looked at so often at most: more looks would choose what is good there by chance.
LOOKS = 5
# Seconds that the end takes: one interleaved measurement (assembly.FINAL, 20 of them), memory, the profile, pages.
END_SECONDS = 45.0
# Seconds that pruning takes, and timing a shape, before any was done.
PRUNE_SECONDS, TIMING_SECONDS = 20.0, 45.0
# Of the look at the first trial, the share that the end takes for scoring every row of the ledger.
SCORING = 0.3

_TRIALS = TypeAdapter(tuple[TrialRecord, ...])


class Book:
    """Trials on disk, in order.

    Args:
        file: where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.trials = _TRIALS.validate_json(file.read_bytes()) if file.is_file() else ()

    def put(self, trial: TrialRecord) -> None:
        """Enter a trial, or what is known of it now, at once."""
        rest = [one for one in self.trials if one.number != trial.number]
        self.trials = tuple(sorted((*rest, trial), key=lambda one: one.number))
        write_text(self._file, _TRIALS.dump_json(self.trials, indent=1).decode() + "\n")

    @property
    def unfinished(self) -> TrialRecord | None:
        """A trial that was begun, or was not looked at yet."""
        return next((one for one in self.trials if one.state == "running" or _unseen(one)), None)


def _unseen(trial: TrialRecord) -> bool:
    return trial.kind in LOOKED and trial.state == "kept" and not trial.look_seconds


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
        tell: told what came of a sampler's proposal.
        scored: whether there is an evaluation split.
        metric: its name.
    """

    strategy: Strategy
    box: Box
    book: Book
    executor: Executor
    look: Callable[[TrialRecord], TrialRecord]
    publish: Callable[[TrialRecord, SearchRecord], None]
    tell: Callable[[int, Sequence[float] | None], None]
    scored: bool
    metric: str = ""
    ended: str = field(default="", init=False)

    def run(self) -> TrialRecord:
        """Search, and return the trial that is the result."""
        while not self.ended:
            room = self.room()
            proposed = self.book.unfinished or self.strategy.propose(self.book.trials, room)
            if isinstance(proposed, str):
                self.ended = proposed
            else:
                self._try(proposed)
        best = self.now.best
        assert best is not None  # the first trial is one, or its error has ended the run
        return best

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
            metric=self.metric,
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
        beside = [one.seconds - one.steps * (one.step_seconds or 0) + one.look_seconds for one in fulls]
        timings = [trial.seconds for trial in trials if trial.kind == "timing"]
        self.box.kept_back = end + line / 2
        return Room(
            left=self.box.left - end,
            looks=LOOKS - self._looks,
            beside=max(beside, default=line + PRUNE_SECONDS),
            timing=max(timings, default=TIMING_SECONDS),
            step_seconds=_step_seconds(trials),
        )

    @property
    def _looks(self) -> int:
        return sum(trial.look_seconds > 0 for trial in self.book.trials) if self.scored else 0

    def _try(self, trial: TrialRecord) -> None:
        self.book.put(trial)
        self.box.tick()
        if not _unseen(trial):
            if trial.number == 0:  # before anything else, since a result is wanted soon
                trial = self._seen(trial)
                self.publish(trial, self.record())
            (trial,) = self.executor.submit([trial])
            self.book.put(trial)
            self._tell(trial)
        if not _unseen(trial):
            return
        because = self._not_worth_a_look(trial)
        if because:
            self.book.put(trial.model_copy(update={"state": "dominated", "reason": because}))
            return
        trial = self._seen(trial)
        self.book.put(trial)
        best = self.now.best
        if best is not None and best.number == trial.number:
            self.publish(trial, self.record())

    def _seen(self, trial: TrialRecord) -> TrialRecord:
        began = self.box.now()
        found = self.look(trial)
        return found.model_copy(update={"look_seconds": round(max(0.01, self.box.now() - began), 2)})

    def _tell(self, trial: TrialRecord) -> None:
        """Let the sampler know what came of its proposal."""
        if trial.proposal is not None:
            cost = trial.cost(self.strategy.search.objective)
            known = trial.state != "failed" and cost is not None and trial.selection_drop is not None
            self.tell(trial.proposal, (trial.selection_drop or 0.0, cost or 0.0) if known else None)

    def _not_worth_a_look(self, trial: TrialRecord) -> str:
        """Why nobody looks at a trial on the evaluation split; empty where somebody does."""
        now = self.now
        if trial.kind == "extra" and not now.lever_stays(trial, LEVER_SHARE):
            return "loses too much on the selection split for what it saves"
        if now.hopeless(trial):
            expected = now.expected_drop(trial) or 0.0
            return f"not looked at: it would lose about {expected * 100:.1f} points on the evaluation split"
        return ""


def _step_seconds(trials: Sequence[TrialRecord]) -> float | None:
    """Seconds of a step for a student that keeps all, by the last trial that tells."""
    timed = [trial for trial in trials if trial.step_seconds]
    if not timed:
        return None
    last = timed[-1]
    kept = last.kept if last.kept is not None else 1.0
    return (last.step_seconds or 0.0) * 4 / (1 + 3 * kept)
