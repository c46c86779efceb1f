"""A world without models: an executor whose trials cost and lose what simple formulas say, on a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.recipe import Limits
from edgekit.search.box import Box
from edgekit.search.executor import Executor
from edgekit.search.sampler import ShapeSampler
from edgekit.search.session import Book, Session
from edgekit.search.space import LEVERS, Space, training_of
from edgekit.search.spending import share_of
from edgekit.search.strategy import Strategy
from edgekit.trials import Search, SearchRecord, TrialRecord

LAYERS, FULL_STEPS, STEP = 6, 4000, 0.14
SPACE = Space(
    trains=True,
    prune={"stage": "prune"},
    distill={"stage": "distill"},
    graph=({"stage": "export"}, {"stage": "optimize"}, {"stage": "quantize"}, {"stage": "verify"}),
    methods=("static", "fp16", ""),
    levers=(),
    layers=LAYERS,
    full_steps=FULL_STEPS,
)
UNTRAINED = replace(SPACE, trains=False)
MEASURES = replace(SPACE, measures=True)
# Of 1 to 6 layers, the narrowest and the widest: about what a table of 6 x 384 on 128 tokens says.
REACH = ((0.03, 0.06), (0.06, 0.25), (0.09, 0.43), (0.13, 0.62), (0.17, 0.81), (0.2, 1.0))
LATENCY = Search(objective="latency")
FILL = Search(objective="latency", fill=True)


class Killed(Exception):
    """The process ends here."""


@dataclass
class World(Executor):
    """Runs trials by formulas.

    Attributes:
        now: seconds.
        float_costs: how many times more it takes when all layers are float, beside those of INT8.
        whole_ms: latency of the whole model, quantized; a part of it stays whatever is pruned.
        need: loss of a student that keeps nothing, of one long training; it falls with what is kept and trained.
        bias: how much more every trained model loses on the selection split.
        error: of what the table of costs predicts.
        slower: factor on what a step of training really takes, beside what the first steps told.
        fails: kinds of trials that fail.
        kill_at: the trial in which the process ends.
        holds: number of the trial whose artifact lies in the output; None is the best so far.
    """

    now: float = 0.0
    float_costs: float = 2.9
    whole_ms: float = 14.0
    need: float = 0.05
    bias: float = 0.02
    base_drop: float = 0.002
    error: float = 0.0
    slower: float = 1.0
    fails: tuple[str, ...] = ()
    kill_at: int | None = None
    holds: int | None = None
    done: list[TrialRecord] = field(default_factory=list)
    looked: list[int] = field(default_factory=list)
    published: list[int] = field(default_factory=list)

    def submit(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
        for trial in trials:
            if self.kill_at == trial.number:
                self.now += 30
                raise Killed
            self.done.append(trial)
            yield self._figures(trial)

    def _figures(self, trial: TrialRecord) -> TrialRecord:
        if trial.kind == "costs":
            self.now += 100
            done = (
                {"state": "failed", "reason": "no clock"}
                if "costs" in self.fails
                else {"state": "timed", "reach": REACH}
            )
            return trial.model_copy(update={"seconds": 100.0, **done})
        kept, layers, steps = shape_of(trial)
        seconds = 20.0 if kept == 1 else 40.0
        trained = trial.steps * STEP * (1 + 3 * kept) / 4
        self.now += seconds + trained * (self.slower if trial.kind != "pace" else 1)
        changes: dict[str, Any] = {"seconds": seconds + trained, "state": "kept"}
        if trial.steps:
            changes["step_seconds"] = STEP * (1 + 3 * kept) / 4
        if trial.kind in self.fails:
            return trial.model_copy(update={**changes, "state": "failed", "reason": "it cannot be"})
        changes |= {"kept": kept, "layers": layers} if training_of(trial.stages) else {}
        if trial.kind == "pace":
            return trial.model_copy(update={**changes, "state": "timed"})
        levers = [table for table in trial.stages if table["stage"] == "vocabulary" or "embeddings" in table]
        changes |= {
            "latency_ms": round(self.whole_ms * self._share(trial, kept, layers), 4),
            "size_bytes": int(12e6 * (0.5 / (1 + len(levers)) + 0.5 * kept)),
        }
        if trial.kind == "timing":
            return trial.model_copy(update={**changes, "state": "timed"})
        seen = self.loss(kept, steps) + self.bias * (kept < 1)
        if trial.kind in ("proxy", "quantized"):
            seen -= self.base_drop * share_of(trial) if kept == 1 else 0.0
            changes |= {"divergence": 10 * seen, "divergence_error": 0.01}
        return trial.model_copy(update={**changes, "selection_drop": seen})

    def _share(self, trial: TrialRecord, kept: float, layers: int) -> float:
        """What it costs of the whole model; the table of costs is a little wrong where anything is cut."""
        if trial.share_of == "predicted cost":
            return kept * (1 + self.error * (1 - kept))
        return 0.12 + 0.02 * layers / LAYERS + 0.86 * kept + self.float_costs * share_of(trial)

    def loss(self, kept: float, steps: int) -> float:
        if kept == 1:
            return self.base_drop
        return self.need * (1 - kept) ** 3 * (FULL_STEPS / max(1, steps)) ** 0.5

    def look(self, trial: TrialRecord) -> TrialRecord:
        self.now += 60
        self.looked.append(trial.number)
        kept, _, steps = shape_of(trial)
        drop = self.loss(kept, steps)
        return trial.model_copy(update={"drop": drop, "drop_high": drop + 0.008})

    def publish(self, trial: TrialRecord, record: SearchRecord) -> None:
        del record
        self.now += 10
        self.published.append(trial.number)


def shape_of(trial: TrialRecord) -> tuple[float, int, int]:
    """What a trial's stages leave: share, layers, and steps of training in all."""
    kept, layers, steps = 1.0, float(LAYERS), 0
    for table in training_of(trial.stages):
        if table["stage"] == "prune":
            kept *= 1 - table["ratio"]  # type: ignore[operator]  # a number
            layers *= table["layers"]  # type: ignore[operator]  # a number
        else:
            steps += table["max_steps"]  # type: ignore[operator]  # a number
    return round(max(kept, 0.05), 6), round(layers), steps


def session(
    folder: Path,
    world: World,
    *,
    limits: Limits | None = None,
    search: Search = LATENCY,
    space: Space = SPACE,
    strict: bool = False,
    scored: bool = True,
) -> Session:
    """A search in a folder; a second one there goes on where the first one ended."""
    limits = limits or Limits(max_drop=0.01, time=3600.0)
    sampler = ShapeSampler(folder / "shapes.journal", space, seed=0)
    assert limits.time is not None
    return Session(
        strategy=Strategy(space, search, limits, strict, suggest=sampler.suggest),
        box=Box(folder / "box.json", limits.time, clock=lambda: world.now),
        book=Book(folder / "trials.json"),
        executor=world,
        look=world.look,
        publish=world.publish,
        held=lambda trial: world.holds in (None, trial.number),
        tell=sampler.tell,
        scored=scored,
        metric=lambda: "accuracy",
    )


def kinds(trials: Sequence[TrialRecord]) -> list[str]:
    return [trial.kind for trial in trials]


def with_levers() -> Space:
    return replace(SPACE, levers=LEVERS)
