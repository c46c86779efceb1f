"""What a stage is: it reads one artifact, writes a new one, and keeps nothing.

A stage is a name, a version, a typed table of settings and one function. What it is handed beside its artifact is a
``Job``. What a stage may use of the job is declared (``uses``), because the cache's key is made of it.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ConfigDict, JsonValue

from edgekit.artifact import (
    MANIFEST,
    PLAN,
    VOCABULARY_PLAN,
    Artifact,
    Format,
    Manifest,
    StageRecord,
    write_artifact,
    write_text,
)
from edgekit.measure.quality import Outputs
from edgekit.modules import Build
from edgekit.progress import Progress, Silent
from edgekit.pruning.encoders.table import CostTable
from edgekit.runtimes.measuring import Place
from edgekit.settings import Frozen
from edgekit.source import WEIGHT_SUFFIXES, model_files
from edgekit.target import Precision, Target
from edgekit.tasks.base import Task, TaskOptions, Workload
from edgekit.tasks.data import Data

if TYPE_CHECKING:
    import onnx_ir as ir

log = logging.getLogger(__name__)

DETAILS = "details.json"
Kind = Literal["torch", "graph"]
Facet = Literal[
    "format",
    "data",
    "widths",
    "opset",
    "int8",
    "target",
    "workload",
    "seed",
    "jobs",
    "threads",
    "original",
    "host",
    "preview",
]


class StageSettings(Frozen):
    """Settings of a stage; every field has a default and a description, and every number an end."""

    model_config = ConfigDict(allow_inf_nan=False)


class Decisions(ABC):
    """What was decided by measurement: taken from a lock or an earlier attempt, else measured and kept at once."""

    @abstractmethod
    def decide(self, name: str, measure: Callable[[], JsonValue]) -> JsonValue:
        """The decision of this name."""

    @abstractmethod
    def inside(self, stage: str) -> dict[str, JsonValue]:
        """What was decided inside one stage so far."""


class Remembered(Decisions):
    """Decisions in memory, for a stage that is used alone."""

    def __init__(self, known: dict[str, JsonValue] | None = None) -> None:
        self.known = dict(known or {})

    def decide(self, name: str, measure: Callable[[], JsonValue]) -> JsonValue:
        if name not in self.known:
            self.known[name] = measure()
        return self.known[name]

    def inside(self, stage: str) -> dict[str, JsonValue]:
        return {name: value for name, value in self.known.items() if name.startswith(f"{stage}.")}


def ends_of(stage: str, number: int) -> str:
    """How decisions begin by which a stage did less than its settings ask for, since its time was up.

    A result that hangs on one has a key of its own: whoever has more time does not take it for a whole one.

    Args:
        stage: its name.
        number: of such stages in the line, from 1 on.
    """
    return f"{stage}.steps.{number}."


@dataclass(frozen=True)
class Preview:
    """What a later stage will make of a graph, as far as its latency hangs on it.

    Attributes:
        name: as reports call it, such as ``dynamic INT8``.
        decided_by: the settings that it hangs on.
        change: makes a graph, in place, what it will be; its values need not be those of the stage.
    """

    name: str
    decided_by: JsonValue
    change: Callable[[ir.Model], None]


def _no_costs() -> CostTable:
    raise AssertionError("a stage asked for costs that its workshop does not have")


@dataclass(frozen=True)
class Job:
    """What a stage is handed beside its artifact.

    Attributes:
        task: bound to the original's folder; for an artifact with a vocabulary of its own, to the artifact's.
        target: the device.
        workload: what one inference is.
        original: the original as a torch artifact: the teacher, and what everything is compared with.
        data: as that task reads it; None where the user gave none.
        work: where checkpoints lie; the same folder when a killed run goes on.
        scratch: makes a new empty folder for the stage's result.
        seed: of every random choice.
        jobs: threads that train and calibrate.
        runtime: that runs exported graphs on the target.
        answers_in: the runtime that runs them here for their answers; None is what takes the format.
        format: of exported graphs.
        clock: where latency is measured; None where the target cannot be timed.
        decisions: what was decided by measurement.
        outputs: an artifact's outputs on the evaluation split, computed once.
        progress: how far the stage is.
        builds: what builds a fresh module, by the digest of a model given as code.
        trained: the torch artifact that an exported one was made from.
        costs: what an inference costs, by widths: measured when it is first asked for.
        left: seconds that the stage may still take; None where nobody counts them.
        shared: gives a folder that all trainings on the same original, data, seed and threads share; gone with the run.
        preview: what the stages behind will make of a graph; None where that is not known before it is made.
    """

    task: Task
    target: Target
    workload: Workload
    original: Artifact
    data: Data | None
    work: Path
    scratch: Callable[[], Path]
    seed: int = 0
    jobs: int = 1
    runtime: str = "onnxruntime"
    answers_in: str | None = None
    format: Format = "onnx"
    clock: Place | None = None
    decisions: Decisions = field(default_factory=Remembered)
    progress: Progress = field(default_factory=Silent)
    builds: Mapping[str, Build] = field(default_factory=dict)
    trained: Artifact | None = None
    costs: Callable[[], CostTable] = _no_costs
    left: Callable[[], float] | None = None
    shared: Callable[[], Path] | None = None
    preview: Preview | None = None
    outputs: Callable[[Artifact], Outputs] = field(kw_only=True)

    @property
    def options(self) -> TaskOptions:
        return self.task.options

    @property
    def goal(self) -> Goal:
        """What the chain is to end in."""
        tokens = self.workload.tokens if "text" in self.task.columns else None
        return Goal(self.target, self.format, self.runtime, tokens)

    def task_for(self, artifact: Artifact) -> Task:
        """The same task on another artifact's files."""
        return task_at(self.task, artifact, self.builds)

    def need_data(self) -> Data:
        """The data; the chain was checked before, so that a stage which needs it has it."""
        assert self.data is not None
        return self.data

    def note(self, event: str, **values: JsonValue) -> None:
        """Write a line into the run's log: what was done, computed again, or taken up."""
        line = json.dumps({"event": event, **values})
        log.info("%s", line)
        self.work.mkdir(parents=True, exist_ok=True)  # another process that finished the same stage has removed it
        with (self.work / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def task_at(task: Task, artifact: Artifact, builds: Mapping[str, Build]) -> Task:
    """A task on an artifact's files, built by what builds the model that the artifact was made from."""
    return task.at(artifact.path, builds.get(str(artifact.manifest.source.get("digest"))))


class Goal(NamedTuple):
    """What a chain is to end in.

    Attributes:
        target: the device.
        format: of the graphs.
        runtime: that runs them there.
        tokens: of an inference; None where it is of no text.
    """

    target: Target
    format: Format
    runtime: str
    tokens: int | None = None


def _any_precision(settings: StageSettings, goal: Goal) -> Precision | None:
    del settings, goal
    return None


def _no_need(settings: StageSettings) -> bool:
    del settings
    return False


def _nothing_else(settings: StageSettings) -> tuple[Facet, ...]:
    del settings
    return ()


def _no_preview(settings: StageSettings, goal: Goal) -> Preview | None:
    del settings, goal
    return None


def _nothing_to_check(settings: StageSettings, goal: Goal) -> None:
    del settings, goal


@dataclass(frozen=True)
class Stage:
    """A stage as the table has it.

    Attributes:
        name: as recipes call it.
        version: goes up when the same settings give another result.
        accepts: what it reads: a torch artifact or an exported graph.
        produces: what it writes.
        settings: its table of settings.
        uses: what of the job decides its result, for the cache's key.
        needs_data: whether it cannot run without data, given its settings and what it is to end in.
        run: reads an artifact, writes another and returns it.
        precision: what the target must take for these settings and the goal; None where it does not matter.
        check: raises what can be known of these settings before any work.
        needs_costs: whether these settings ask for a cost table.
        also_uses: what more of the job decides its result, given its settings.
        formats: of graphs that it knows.
        closes: of a stage in torch, whether it comes after all others there and is judged by itself.
        preview: what it will make of a graph, for stages in front of it that measure one.
    """

    name: str
    version: int
    accepts: Kind
    produces: Kind
    settings: type[StageSettings]
    uses: tuple[Facet, ...]
    needs_data: Callable[[StageSettings, Goal], bool]
    run: Callable[[Artifact, StageSettings, Job], Artifact]
    precision: Callable[[StageSettings, Goal], Precision | None] = _any_precision
    check: Callable[[StageSettings, Goal], None] = _nothing_to_check
    needs_costs: Callable[[StageSettings], bool] = _no_need
    also_uses: Callable[[StageSettings], tuple[Facet, ...]] = _nothing_else
    formats: tuple[Format, ...] = ("onnx", "tflite")
    closes: bool = False
    preview: Callable[[StageSettings, Goal], Preview | None] = _no_preview


def finish(
    folder: Path,
    parent: Artifact,
    stage: Stage,
    settings: StageSettings,
    *,
    changes: Mapping[str, object],
    details: Mapping[str, JsonValue],
    without: Collection[str] = (),
    copied: Mapping[str, str] | None = None,
) -> Artifact:
    """Close a stage's result: the parent's companions, the stage's details, and the manifest.

    Args:
        folder: holds the new graphs or weights already.
        parent: the artifact that the stage read.
        stage: which one.
        settings: as they were used.
        changes: fields of the parent's manifest that changed.
        details: what the report says of the stage's work.
        without: names of the parent's companions that do not go with the result.
        copied: sha256 of files that are the parent's, by name.
    """
    copy_companions(parent.path, folder, without)
    write_text(folder / DETAILS, json.dumps(dict(details), indent=1, sort_keys=True) + "\n")
    record = StageRecord(stage=stage.name, version=stage.version, settings=settings.model_dump(mode="json"))
    manifest = Manifest.model_validate(
        parent.manifest.model_dump(by_alias=True)
        | {"files": {}, "stages": (*parent.manifest.stages, record)}
        | dict(changes)
    )
    return write_artifact(folder, manifest, copied)


def copy_companions(source: Path, destination: Path, without: Collection[str] = ()) -> None:
    """Copy what a model folder holds beside its weights but ``without``, keeping what is there already."""
    for path in model_files(source):
        if (
            path.suffix in WEIGHT_SUFFIXES
            or path.name in (MANIFEST, DETAILS, PLAN, VOCABULARY_PLAN, *without)
            or path.name.endswith(".index.json")
        ):
            continue
        if not (destination / path.name).exists():
            (destination / path.name).write_bytes(path.read_bytes())
            (destination / path.name).chmod(0o644)


def read_details(artifact: Artifact) -> dict[str, JsonValue]:
    """What the stage that made an artifact said of its work."""
    file = artifact.path / DETAILS
    found: dict[str, JsonValue] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
