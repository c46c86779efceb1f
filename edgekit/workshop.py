"""Where a run's artifacts are made: each stage by its key, from the cache or computed and kept there."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from edgekit.artifact import Artifact, open_artifact, write_text
from edgekit.cache import Cache, Filled, cache_key, decided_in, folders_in
from edgekit.costing import graph_of, graph_steps, hidden_of, measure_costs, place_of, scope_of
from edgekit.decisions import DECISIONS, Noted, RunDecisions
from edgekit.environment import spin_briefly
from edgekit.errors import HostError
from edgekit.formats.tokenizer import TOKENIZER
from edgekit.formats.torch import load_model
from edgekit.importing import import_model
from edgekit.measure.elsewhere import CONFIRMED, SAMPLES, Spread, compare_elsewhere
from edgekit.measure.instructions import count_artifact
from edgekit.measure.quality import Outputs, collect_outputs, evaluation_batch
from edgekit.models import ResolvedModel
from edgekit.placing import write_through
from edgekit.progress import Progress
from edgekit.pruning.encoders.table import CostTable, Scope, check_scope
from edgekit.quantization.saturating import (
    Arithmetic,
    ExactRunner,
    Saturated,
    SaturatingRunner,
    arithmetic_on,
    open_as_on,
    open_with,
)
from edgekit.quantization.shadows import LayerError
from edgekit.recipe import Step
from edgekit.report import Count, DeviceCheck
from edgekit.request import Request
from edgekit.runtimes.measuring import Place
from edgekit.runtimes.torch import TorchRunner
from edgekit.stages.base import Job, ends_of, read_details, task_at
from edgekit.stages.optimize import OPTIMIZE
from edgekit.stages.quantize.makers import layer_errors_of
from edgekit.stages.quantize.settings import QuantizeSettings
from edgekit.tasks import bind_task
from edgekit.tasks.base import Runner, Task
from edgekit.tasks.data import Data
from edgekit.turns import turn

log = logging.getLogger(__name__)

EVENTS, OUTPUTS, RECORD = "events.jsonl", "outputs.safetensors", "record.json"
SATURATION = "saturation.json"
R = TypeVar("R", bound=BaseModel)
Split = Literal["evaluation", "selection"]


@dataclass(frozen=True)
class Reading:
    """How an artifact is fed: its task, and the data as that task reads it."""

    task: Task
    data: Data | None


class _Moved(BaseModel):
    """How far each layer was moved, as an object of the cache: of several processes one computes it."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    layers: tuple[LayerError, ...]


@dataclass(frozen=True)
class Made:
    """An artifact and its key in the cache."""

    artifact: Artifact
    key: str


class Workshop:
    """Makes what a request asks for.

    Args:
        request: what was asked for.
        cache: where finished and unfinished work lies.
        progress: told how far it is.

    Attributes:
        left: seconds that a training may still take; None where nobody counts them.
    """

    def __init__(self, request: Request, cache: Cache, progress: Progress) -> None:
        spin_briefly()
        self.request = request
        self.cache = cache
        self.progress = progress
        self.left: Callable[[], float] | None = None
        self.folder, self.decisions = self._open(request)
        self.task: Task = bind_task(request.task, Path(request.source.path), request.options, request.build)
        self.task.workload_feeds(request.workload)  # one that the model does not take is told here
        self.data = Data(request.data, self.task, request.seed) if request.data else None
        self.original = self._import(request.original, self.task)
        self.student = self._import_student()
        self._trained: dict[str, Artifact | None] = {}  # what each key's graph was exported from
        self._reading: dict[str, Reading] = {}  # by the hash of a tokenizer that is not the original's
        self._costs: dict[str, CostTable] = {}  # by what the recipe makes of a graph and leaves of the hidden size

    def _open(self, request: Request) -> tuple[Path, RunDecisions]:
        """The folder of a run, and what it has decided."""
        folder = self.cache.run(request.run_key())
        locked = dict(request.recipe.lock.decisions) if request.recipe.lock else {}
        return folder, RunDecisions(folder / DECISIONS, locked)

    def for_run(self, request: Request) -> Workshop:
        """The same for another run on the same model, data and target: another recipe, and decisions of its own."""
        other = copy.copy(self)
        other.request = request
        other.folder, other.decisions = self._open(request)
        return other

    def stage(self, step: Step, parent: Made, *, anew: bool = False) -> Made:
        """Run one stage, or take its result from the cache; ``anew`` runs all of it: how long it takes is wanted."""
        asks = step.stage.needs_costs(step.settings) and not self.decisions.locked_for(step.stage.name)
        costs = self.costs().digest if asks else ""
        work = self._stage_key(step, parent, costs, shortened=False)
        key = self._stage_key(step, parent, costs)
        if anew:
            self.cache.forget_work(work)
        found = None if anew else self.cache.get(key)
        if found is None:
            with turn(self.cache.root, work):
                key = self._stage_key(step, parent, costs)
                found = None if anew else self.cache.get(key)
                if found is None:
                    key, found = self._make(step, parent, work, costs)
        self._trained[key] = parent.artifact if parent.artifact.format == "torch" else self._trained.get(parent.key)
        self.decisions.adopt(decided_in(found))
        self.cache.forget_work(work)
        return Made(open_artifact(found), key)

    def _stage_key(self, step: Step, parent: Made, costs: str, *, shortened: bool = True) -> str:
        """Key of a stage's result: as its time allowed, or, for its checkpoints, as it was asked for."""
        name = step.stage.name
        number = 1 + sum(record.stage == name for record in parent.artifact.manifest.stages)
        ends = {of: value for of, value in self.decisions.inside(name).items() if of.startswith(ends_of(name, number))}
        decided = {of: value for of, value in self.decisions.locked_for(name).items() if of not in ends}
        return self.request.stage_key(step, parent.key, decided | (ends if shortened else {}), costs)

    def layer_errors(self, parent: Made, made: Made) -> list[LayerError]:
        """How far the stage quantize, which made an artifact of its parent, moves each layer: a pass over samples."""
        settings = QuantizeSettings.model_validate(made.artifact.manifest.stages[-1].settings)
        key = cache_key("layer errors", made.key)

        def compute() -> _Moved:
            with self.scratch() as scratch:
                job = self._job(key, scratch, self.reading(parent.artifact))
                moved = layer_errors_of(parent.artifact, settings, read_details(made.artifact), job)
                return _Moved(layers=tuple(moved))

        found = self._remember(key, _Moved, compute)
        self.cache.forget_work(key)
        return list(found.layers)

    def _make(self, step: Step, parent: Made, work: str, costs: str) -> tuple[str, Path]:
        """Run a stage, and keep its result with what was decided inside it: a run that takes it decides the same."""
        began = time.monotonic()
        noted = Noted(self.decisions)
        self._trained[work] = parent.artifact if parent.artifact.format == "torch" else self._trained.get(parent.key)
        with self.scratch() as scratch:
            job = replace(self._job(work, scratch, self.reading(parent.artifact)), decisions=noted)
            made = step.stage.run(parent.artifact, step.settings, job)
            key = self._stage_key(step, parent, costs)
            found = self.cache.put(key, made.path, noted.made, made.manifest.files)
        if any(path.is_dir() for path in job.work.iterdir()):  # checkpoints, which go next
            write_through(found)
        self._log(step.stage.name, key, job.work, time.monotonic() - began)
        return key, found

    def reading(self, artifact: Artifact) -> Reading:
        """How an artifact is fed: as the original, unless it has a tokenizer of its own."""
        mine = artifact.manifest.files.get(TOKENIZER)
        if mine is None or mine == self.original.artifact.manifest.files.get(TOKENIZER):
            return Reading(self.task, self.data)
        if mine not in self._reading:
            task = task_at(self.task, artifact, self.request.builds)
            self._reading[mine] = Reading(task, self.data.at(task) if self.data else None)
        return self._reading[mine]

    def task_of(self, artifact: Artifact) -> Task:
        """The task that feeds an artifact."""
        return self.reading(artifact).task

    def costs(self) -> CostTable:
        """What an inference costs, by widths: the table that was given, else from the cache, else measured.

        Raises:
            UsageError: the model is no encoder, or the table that was given is for something else.
            HostError: nothing can be measured.
        """
        recipe = self.request.recipe
        key = cache_key("graph", list(graph_of(recipe)), hidden_of(recipe))
        if key not in self._costs:
            self._costs[key] = self._table_of_costs()
        return self._costs[key]

    def _table_of_costs(self) -> CostTable:
        request, whole = self.request, (self.student or self.original).artifact
        scope = scope_of(request, whole, self.task)
        if request.costs is not None:
            check_scope(request.costs, scope)
            return request.costs
        # a search has decided on its first graph; any other run prunes before it has one, the first time and again
        decided = self.decisions.inside(OPTIMIZE.name) if request.search is not None else {}
        key, place = request.costs_key(scope.model_dump(mode="json"), decided), place_of(request)
        found = self._remember(key, CostTable, lambda: self._measure_costs(key, scope, whole, place, decided))
        self.cache.forget_work(key)
        return found

    def _measure_costs(
        self, key: str, scope: Scope, whole: Artifact, place: Place, decided: dict[str, JsonValue]
    ) -> CostTable:
        """A table of graphs with the rewrites that the run has decided on; where it has not yet, the table decides.

        Its own decisions are of small encoders, and not the run's.
        """
        with self.scratch() as scratch:
            decisions = RunDecisions(self.cache.work(key) / DECISIONS, decided)
            job = replace(self._job(key, scratch, self.reading(whole)), decisions=decisions)
            return measure_costs(whole, scope, graph_steps(self.request.recipe), job, place)

    def outputs(self, artifact: Artifact, split: Split = "evaluation") -> Outputs:
        """An artifact's outputs on a split; where there are no labels, beside the original's."""
        found = self._outputs(artifact, split)
        if found.labels is not None or not self.task.compares:
            return found
        return found.beside(self._outputs(self.original.artifact, split))

    def _outputs(self, artifact: Artifact, split: Split) -> Outputs:
        """From the cache, or computed and kept there."""
        from safetensors.numpy import load_file

        stored = load_file(str(self._answers(artifact, split) / OUTPUTS))
        return Outputs(stored["logits"], stored.get("labels"))

    def saturation(self, artifact: Artifact) -> Saturated:
        """What saturated in an artifact on the evaluation split; nothing where sums are this machine's own."""
        if self.data is None or self._arithmetic(artifact) == "here":
            return Saturated()
        return Saturated.model_validate_json((self._answers(artifact) / SATURATION).read_bytes())

    def _answers(self, artifact: Artifact, split: Split = "evaluation") -> Path:
        """The folder of an artifact's outputs on a split and of what saturated in them."""
        import numpy as np
        from safetensors.numpy import save_file

        runtime = "torch" if artifact.format == "torch" else self.request.answers_in
        key = self.request.outputs_key(dict(artifact.manifest.files), runtime, self._arithmetic(artifact))
        key = key if split == "evaluation" else cache_key(split, key)

        def make(scratch: Callable[[], Path]) -> Filled:
            computed, saturated = self._compute_outputs(artifact, split)
            tensors = {"logits": computed.logits} | ({} if computed.labels is None else {"labels": computed.labels})
            folder = scratch()
            save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, str(folder / OUTPUTS))
            write_text(folder / SATURATION, saturated.model_dump_json(indent=1) + "\n")
            return Filled(folder)

        return self.cache.get_or_make(key, make)

    def counts(self, artifact: Artifact) -> tuple[Count, ...]:
        """Instructions of one inference on each emulated device: from the cache, or counted and kept there."""
        emulated = [place for place in self.request.places if not place.device.timed]
        return tuple(
            self._remember(
                self.request.elsewhere_key("count", dict(artifact.manifest.files), place),
                Count,
                lambda place=place: self._count(artifact, place),  # type: ignore[misc]  # mypy: a default is no argument
            )
            for place in emulated
        )

    def checks(self, artifact: Artifact) -> tuple[tuple[DeviceCheck, ...], dict[str, str]]:
        """How an artifact answers on each device that is not this machine's processor, beside that.

        Second, the devices whose answers cannot be compared with this machine's, each with the reason.
        """
        found, unchecked = [], {}
        for place in self._elsewhere():
            if place.device.no_answers_because:
                unchecked[place.device.label] = place.device.no_answers_because
                continue
            key = self.request.elsewhere_key("check", dict(artifact.manifest.files), place)
            try:
                found.append(
                    self._remember(key, DeviceCheck, lambda place=place: self._check(artifact, place))  # type: ignore[misc]  # as above
                )
            except HostError as error:
                if self.request.reached.asked and place in self.request.places:
                    raise
                unchecked[place.device.label] = f"{error.what}: {error.why}" if error.why else error.what
        return tuple(found), unchecked

    def _elsewhere(self) -> list[Place]:
        """Every device that is not this machine's processor; none without data: there is nothing to compare then."""
        places = (*self.request.places, *self.request.confirming) if self.data is not None else ()
        return [place for place in places if place.elsewhere]

    def _count(self, artifact: Artifact, place: Place) -> Count:
        self.progress.start(f"count instructions: {place.device.label}", None)
        found = count_artifact(artifact, self.task_of(artifact), self.request.workload, place)
        self.progress.finish(f"{found.instructions / 1e6:.1f} million")
        return found

    def _check(self, artifact: Artifact, place: Place) -> DeviceCheck:
        reading = self.reading(artifact)
        assert reading.data is not None  # the caller has seen to it
        examples = Spread(reading.data.evaluation, SAMPLES if place in self.request.places else CONFIRMED)
        self.progress.start(f"run samples: {place.label}", None)
        runner = open_as_on(artifact, self.request.target, runtime=self.request.answers_in)
        batch = self.request.workload.batch
        found = compare_elsewhere(artifact, reading.task, examples, batch, place, runner=runner)
        self.progress.finish(f"{found.n}" if found.agree is None else f"{found.agree} of {found.n} as here")
        return found

    def _remember(self, key: str, kind: type[R], compute: Callable[[], R]) -> R:
        """A record from the cache, or computed and kept there."""

        def make(scratch: Callable[[], Path]) -> Filled:
            record, folder = compute(), scratch()
            write_text(folder / RECORD, record.model_dump_json(indent=1) + "\n")
            return Filled(folder)

        return kind.model_validate_json((self.cache.get_or_make(key, make) / RECORD).read_bytes())

    def forget_shared(self) -> None:
        """Remove what trainings of a run shared, once it has ended."""
        self.cache.forget_work(self.request.shared_key())

    def scratch(self) -> AbstractContextManager[Callable[[], Path]]:
        """Makes empty folders that are gone after the block, unless they were moved away."""
        return folders_in(self.cache.scratch())

    def _job(self, key: str, scratch: Callable[[], Path], reading: Reading) -> Job:
        request = self.request
        return Job(
            task=reading.task,
            target=request.target,
            workload=request.workload,
            original=self.original.artifact,
            data=reading.data,
            work=self.cache.work(key),
            scratch=scratch,
            seed=request.seed,
            jobs=request.jobs,
            runtime=request.runtime,
            answers_in=request.answers_in,
            format=request.format,
            clock=request.clock,
            decisions=self.decisions,
            progress=self.progress,
            builds=request.builds,
            trained=self._trained.get(key),
            costs=self.costs,
            left=self.left,
            shared=lambda: self.cache.work(request.shared_key()),
            preview=request.preview,
            outputs=self.outputs,
        )

    def _import_student(self) -> Made | None:
        model = self.request.student
        if model is None:
            return None
        return self._import(model, self.task.at(Path(model.source.path), model.build))

    def _import(self, model: ResolvedModel, task: Task) -> Made:
        """A model as an artifact of its own: copies of the files that decide its answers."""
        key = self.request.import_key(model)

        def make(scratch: Callable[[], Path]) -> Filled:
            return import_model(model, task, self.request, scratch())

        return Made(open_artifact(self.cache.get_or_make(key, make)), key)

    def _compute_outputs(self, artifact: Artifact, split: Split) -> tuple[Outputs, Saturated]:
        reading = self.reading(artifact)
        assert reading.data is not None
        examples = reading.data.evaluation if split == "evaluation" else reading.data.selection
        name = artifact.manifest.stages[-1].stage if artifact.manifest.stages else "the original"
        self.progress.start(f"evaluate: {name}", len(examples))
        size = evaluation_batch(artifact.format, self.request.workload)
        runner = self._runner(artifact)
        computed = collect_outputs(runner, reading.task, examples, size, self.progress)
        score, labels = computed.score(self.task), computed.labels
        self.progress.finish("" if score is None or labels is None else f"{self.task.metric_for(labels)} {score:.4f}")
        return computed, runner.saturated if isinstance(runner, SaturatingRunner | ExactRunner) else Saturated()

    def _runner(self, artifact: Artifact) -> Runner:
        if artifact.format != "torch":
            return open_with(self._arithmetic(artifact), artifact, self.request.jobs, self.request.answers_in)
        task = task_at(self.task, artifact, self.request.builds)
        return TorchRunner(task.components(load_model(task)[0]))

    def _arithmetic(self, artifact: Artifact) -> Arithmetic:
        """Whose sums an artifact's answers come of."""
        original = artifact.path == self.original.artifact.path
        return arithmetic_on(self.request.target, artifact.format, original=original)

    def _log(self, stage: str, key: str, work: Path, seconds: float) -> None:
        """Add a finished stage's events to the run's log."""
        events = work / EVENTS
        lines = events.read_text(encoding="utf-8") if events.is_file() else ""
        done = json.dumps({"event": "stage.done", "stage": stage, "key": key, "seconds": round(seconds, 2)})
        with (self.folder / EVENTS).open("a", encoding="utf-8") as stream:
            stream.write(lines + done + "\n")
        log.info("%s", done)


def use_threads(jobs: int) -> None:
    """Let torch compute with this many threads, and repeatably."""
    spin_briefly()
    import torch

    torch.set_num_threads(jobs)
    torch.use_deterministic_algorithms(True)
    # by default every new tensor is filled with NaN first, so that reading what nothing wrote repeats, too
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
