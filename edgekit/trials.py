"""What a search is asked for, and the record of what it tried: each trial with its figures and what became of it."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from edgekit.settings import Frozen, Record

Objective = Literal["latency", "size", "instructions", "energy"]
OBJECTIVES: tuple[Objective, ...] = ("latency", "size", "instructions", "energy")
Kind = Literal["quantized", "pace", "costs", "timing", "proxy", "full", "extra"]
# Kinds of trials that only tell what something takes.
MEASURING: tuple[Kind, ...] = ("pace", "costs", "timing")
State = Literal["running", "timed", "kept", "dominated", "failed"]


class Search(Frozen):
    """What a search is for.

    Attributes:
        objective: what is made as small as the limits allow.
        fill: whether the limits on cost are used up for quality, in place of going below them.
        trial: whether this is one recipe of a search: its stages are judged by cost alone, since the search judges the
            quality of the whole.
    """

    objective: Objective
    fill: bool = False
    trial: bool = False


class TrialRecord(Record):
    """One recipe that was tried, or a part of one.

    Attributes:
        number: in the order of their start, from 0.
        kind: ``quantized`` (no training), ``pace`` (a few steps, for the time that one takes), ``costs`` (a table of
            what heads and neurons cost), ``timing`` (a shape's cost, not trained), ``proxy`` (briefly trained),
            ``full`` (a candidate for the result), ``extra`` (one with a further saving that takes no training).
        stages: of the recipe, each with the settings that are not its defaults.
        parent: number of the trial whose student it goes on from; None where it starts at the original.
        proposal: number of the sampler's proposal that it answers; None where it is none.
        asked: share that it was to leave of what ``share_of`` says; None where nothing is cut.
        steps: of training that it adds: planned, and once it has ended those that were made.
        kept: share that is left of what ``share_of`` says; None where it is not known.
        layers: of the encoder that are left; None for other models.
        latency_ms: p50 of the workload, by its ratio to the first trial, with which it was timed in turns; None where
            it was not timed.
        size_bytes: of the model's files.
        instructions: of one inference on the dearest of the emulated devices.
        energy_uj: microjoules of one inference, by their ratio to the first trial's; None where no search goes by them.
        selection_drop: loss of the metric on the selection split; None where it was not scored there.
        divergence: of a ``proxy``, how far its answers on the selection split are from the original's
            (``edgekit.measure.divergence``), in the mean; None for others.
        divergence_error: standard error of that mean.
        drop: loss on the evaluation split; None where nobody looked.
        drop_high: its one-sided 95 % bound.
        seconds: that it took.
        look_seconds: that the look at the evaluation split took, with all that a result needs.
        step_seconds: of one step of its training; None where it was too short to tell.
        check_seconds: of one look of its training at the selection split; None as above.
        shortened: what the clock decided of its trainings and of those it goes on from, where one had to end sooner.
        reach: of ``costs``: for each number of layers from 1 on, what the narrowest and the widest encoder is predicted
            to cost, as shares of the whole one's.
        state: what became of it.
        reason: why, in words.
        pareto: whether no other trial is both cheaper and better, among those whose quality is known on one split.
    """

    number: int
    kind: Kind
    stages: tuple[dict[str, JsonValue], ...]
    parent: int | None = None
    proposal: int | None = None
    asked: float | None = None
    steps: int = 0
    kept: float | None = None
    layers: int | None = None
    latency_ms: float | None = None
    size_bytes: int | None = None
    instructions: int | None = None
    energy_uj: float | None = None
    selection_drop: float | None = None
    divergence: float | None = None
    divergence_error: float | None = None
    drop: float | None = None
    drop_high: float | None = None
    seconds: float = 0.0
    look_seconds: float = 0.0
    step_seconds: float | None = None
    check_seconds: float | None = None
    shortened: dict[str, JsonValue] = {}
    reach: tuple[tuple[float, float], ...] = ()
    state: State = "running"
    reason: str = ""
    pareto: bool = False

    @property
    def share_of(self) -> str:
        """What ``asked`` and ``kept`` are shares of: the cost of an inference by the table, or its products."""
        by_table = any(table.get("stage") == "prune" and table.get("cost") == "measured" for table in self.stages)
        return "predicted cost" if by_table else "multiply-accumulates"

    def cost(self, objective: Objective) -> float | None:
        """The figure that an objective is about: ms, bytes, instructions or microjoules."""
        return {
            "latency": self.latency_ms,
            "size": self.size_bytes,
            "instructions": self.instructions,
            "energy": self.energy_uj,
        }[objective]


class SearchRecord(Record):
    """A search in the report.

    Attributes:
        objective: what was to be as small as the limits allow.
        fill: whether the limits on cost were to be used up for quality.
        metric: whose loss the drops are; empty without data.
        seconds: the time box.
        spent: seconds over all attempts, up to the report.
        attempts: how often the search was started.
        looks: how often the evaluation split was looked at.
        trials: in order.
        chosen: number of the trial that the artifact is.
        nearest: whether it is only the nearest to the limits, since none keeps them all.
        ended: why no further trial was made.
    """

    objective: Objective
    fill: bool
    metric: str
    seconds: float
    spent: float
    attempts: int
    looks: int
    trials: tuple[TrialRecord, ...]
    chosen: int
    nearest: bool = False
    ended: str = ""
