"""What a run was asked for, resolved, and the cache keys that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from pydantic import JsonValue

from edgekit.artifact import Format
from edgekit.cache import cache_key
from edgekit.description import Feeding
from edgekit.devices import Reached, reach, ready_emulators
from edgekit.devices.local import LocalDevice
from edgekit.environment import available_cores, code_digest, host, numeric_level, versions
from edgekit.errors import UsageError
from edgekit.feasibility import check_graph, check_request, check_search, choose_format, choose_objective, runtime_for
from edgekit.models import ResolvedModel, feeding_of, resolve_model
from edgekit.modules import Build
from edgekit.places import NO_CLOCK, places_of
from edgekit.pruning.encoders.table import CostTable, load_costs
from edgekit.recipe import Limits, Recipe, Step, load_recipe
from edgekit.runtimes import LITERT
from edgekit.runtimes.measuring import Place
from edgekit.settings import validate
from edgekit.source import Source, names_graph, names_tflite
from edgekit.stages.base import Facet, Goal, Preview
from edgekit.students import resolve_student
from edgekit.target import Target, load_target
from edgekit.tasks import TASKS
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.data_source import DataSource, resolve_data
from edgekit.trials import Search

# What a search may take where the user did not say: an hour.
SEARCH_SECONDS = 3600.0


class RunOptions(Feeding, total=False):
    """What ``compress`` and ``plan`` take beside the model; each may be left out.

    For a model given as code or as an ``.onnx`` file, also what ``edgekit.Feeding`` lists: ``weights``, ``input``,
    ``mean``, ``std``, ``preprocess``, ``layout``, ``labels``, ``state``.

    Attributes:
        data: a file, a folder or a hub id of labelled data; without it, what needs none is done.
        target: name of a target, path of a target file, or ``host`` (the default), this machine.
        task: name of the task; read from the model's architecture by default.
        student: a model that the original teaches in place of a pruned copy: a folder, a configuration, or code.
        recipe: name or path of a recipe (``default``; with a student ``distill``), or ``recipe.lock.toml`` of an
            earlier run to repeat it.
        settings: ``{"prune.ratio": "0.5"}``: settings of the recipe, changed.
        max_drop: largest loss of the metric on its scale of 1 (0.01 is one point); the recipe's by default.
        max_ms: highest p50 of an inference in milliseconds; without a recipe, the search finds one that keeps it.
        max_mb: largest model files in megabytes; the same.
        max_instructions: most instructions of an inference on an emulated device; the same.
        time: seconds that the search may take, an hour by default; it starts one, and goes with no recipe.
        objective: ``latency``, ``size``, ``instructions`` or ``energy``: what the search makes as small as the limits
            allow; by default the limits on cost are used up for quality, and without any it is latency.
        strict: a limit counts only when it is proven by the one-sided 95 % bound.
        metric: one of the task's metrics; its first by default.
        workload: what one inference is: 1 x 128 tokens by default.
        format: of the artifact, ``onnx`` or ``tflite``; the target's first by default.
        device: where to measure, in place of the target's own way: ``local``, ``emulated``, ``ssh://user@host`` ...
        threads: of the measured inference; 1 by default.
        jobs: threads that train and calibrate; every core by default.
        columns: our name of a column to the data's.
        max_length: longest text in tokens.
        revision: of the model on the hub.
        keep_stages: leave the artifact of each stage in the output, below ``stages/``.
        costs: a table of costs, or its file, in place of one that is measured here; for ``prune.cost = "measured"``,
            and for a search.
        seed: of every random choice; 0 by default.
    """

    data: str | Path | None
    target: str | Path | Target
    task: str | None
    student: Any
    recipe: str | Path | Recipe | None
    settings: Mapping[str, str]
    max_drop: float | None
    max_ms: float | None
    max_mb: float | None
    max_instructions: int | None
    time: float | None
    objective: str | None
    strict: bool
    metric: str | None
    workload: Workload | None
    format: str | None
    device: str | None
    threads: int | None
    jobs: int | None
    columns: Mapping[str, str]
    max_length: int | None
    revision: str | None
    keep_stages: bool
    costs: str | Path | CostTable | None
    seed: int | None


@dataclass(frozen=True)
class Request:
    """Everything that decides a run's result.

    Attributes:
        source: the model.
        task: name of the task.
        options: of the task.
        data: None without data.
        target: the device.
        format: of the artifact.
        recipe: stages and settings.
        limits: the recipe's, changed by what the user said.
        search: what to search for, from the recipe on; None where the recipe is run as it stands.
        strict: whether a limit must be proven.
        workload: what one inference is.
        reached: where it is measured, or why it cannot be.
        threads: of the measured inference.
        jobs: threads that train and calibrate.
        seed: of every random choice.
        keep_stages: whether the artifact of each stage is left in the output.
        build: builds a fresh module where the model was given as code.
        student: a model that the original teaches, or None.
        replaced_because: why LiteRT answers here in place of tflite-runtime; empty where it does not.
        feeding: what the user said of a model given as code or as an ``.onnx`` file, by the name of the option.
        costs: a table of costs in place of one that is measured.
    """

    source: Source
    task: str
    options: TaskOptions
    data: DataSource | None
    target: Target
    format: Format
    recipe: Recipe
    limits: Limits
    strict: bool
    workload: Workload
    reached: Reached
    threads: int
    jobs: int
    seed: int
    keep_stages: bool = False
    search: Search | None = None
    build: Build | None = None
    student: ResolvedModel | None = None
    replaced_because: str = ""
    feeding: Feeding = field(default_factory=Feeding)
    costs: CostTable | None = None

    @property
    def original(self) -> ResolvedModel:
        """The model that everything is compared with."""
        return ResolvedModel(self.source, self.task, self.build)

    @property
    def is_trial(self) -> bool:
        """Whether it is one recipe of a search."""
        return self.search is not None and self.search.trial

    @property
    def builds(self) -> dict[str, Build]:
        """What builds a fresh module, by the digest of the model that was given as code."""
        models = [model for model in (self.original, self.student) if model is not None]
        return {model.source.digest: model.build for model in models if model.build is not None}

    @property
    def runtime(self) -> str:
        """What runs the artifact on the target."""
        return runtime_for(self.target, self.format)

    @property
    def answers_in(self) -> str:
        """What runs the artifact here for its answers: the target's runtime, else what takes its place."""
        return LITERT if self.replaced_because else self.runtime

    @property
    def goal(self) -> Goal:
        """What the chain is to end in."""
        tokens = self.workload.tokens if "text" in TASKS[self.task].columns else None
        return Goal(self.target, self.format, self.runtime, tokens)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where artifacts are run and measured."""
        return places_of(self.target, self.format, self.reached.devices, self.threads)

    @property
    def stands_in(self) -> bool:
        """Whether this machine, whose sums are wide, is timed in place of one whose sums saturate."""
        local = any(device.label == LocalDevice.label for device in self.reached.devices)
        return local and self.target.int8.saturates and self.format == "onnx" and not host().saturates

    @property
    def confirming(self) -> tuple[Place, ...]:
        """Emulated processors that answer as the target does where this one does not, if they are set up."""
        devices = ready_emulators(self.target) if self.stands_in else ()
        return tuple(Place(device, self.runtime, self.threads) for device in devices)

    @property
    def clock(self) -> Place | None:
        """Where latency is measured; None where nothing has a clock that means something."""
        return next((place for place in self.places if place.device.timed), None)

    @property
    def not_measured_because(self) -> str:
        """Why latency is not measured; empty when it is."""
        if self.clock is not None:
            return ""
        return self.reached.because or NO_CLOCK

    @property
    def timed(self) -> bool:
        """Whether latency is measured."""
        return self.clock is not None

    @property
    def preview(self) -> Preview | None:
        """What the recipe will make of a graph in the end; None where that is not known before it is made."""
        found = (step.stage.preview(step.settings, self.goal) for step in self.recipe.steps)
        return next((preview for preview in found if preview is not None), None)

    def facet(self, name: Facet) -> JsonValue:
        """A part of the request, as a cache key holds it."""
        values: dict[Facet, JsonValue] = {
            "data": [self.data.digest if self.data else None, self.task, self.options.model_dump(mode="json")],
            "widths": self.target.width_multiple,
            "opset": self.target.opset,
            "format": [self.format, self.runtime, self.answers_in],
            "int8": [self.target.int8.model_dump(mode="json"), list(self.target.precisions)],
            "target": self.target.model_dump(mode="json", by_alias=True),
            "workload": self.workload.model_dump(mode="json"),
            "seed": self.seed,
            "jobs": [self.jobs, numeric_level()],
            "threads": self.threads,
            "original": self.source.digest,
            "host": self.clock.device.fingerprint if self.clock else None,
            "preview": self.preview.decided_by if self.preview else None,
        }
        return values[name]

    def import_key(self, model: ResolvedModel) -> str:
        """Key of a model as an artifact."""
        return cache_key("import", model.source.digest, self.facet("data"), *self._installation())

    def shared_key(self) -> str:
        """Key of what all trainings on the same original, data and seed share while they run."""
        facets: list[Facet] = ["original", "data", "seed", "jobs"]
        return cache_key("shared", [self.facet(name) for name in facets], *self._installation())

    def stage_key(self, step: Step, parent: str, decisions: dict[str, JsonValue], costs: str = "") -> str:
        """Key of a stage's result.

        Args:
            step: the stage and its settings.
            parent: key of the artifact that it reads.
            decisions: what a lock has already decided for it.
            costs: digest of the cost table that decides; empty where none does.
        """
        used = (*step.stage.uses, *step.stage.also_uses(step.settings))
        facets: list[JsonValue] = [[name, self.facet(name)] for name in used]
        facets += [["costs", costs]] if costs else []
        settings = step.settings.model_dump(mode="json")
        return cache_key(
            "stage",
            step.stage.name,
            step.stage.version,
            settings,
            parent,
            facets,
            dict(decisions),
            *self._installation(),
        )

    def outputs_key(self, files: dict[str, JsonValue], runtime: str, arithmetic: str) -> str:
        """Key of the outputs of an artifact, named by its files' hashes, on the evaluation split.

        Args:
            files: name and hash.
            runtime: that gives them.
            arithmetic: whose sums they come of.
        """
        return cache_key(
            "outputs",
            files,
            runtime,
            self.facet("data"),
            self.seed,
            self.workload.batch,
            self.facet("jobs"),
            arithmetic,
            *self._installation(),
        )

    def costs_key(self, scope: dict[str, JsonValue], decided: dict[str, JsonValue]) -> str:
        """Key of a cost table that is to hold for a scope, and for the rewrites that were decided on before."""
        facets = [self.facet("widths"), self.facet("int8"), self.facet("opset")]
        return cache_key("costs", scope, decided, facets, *self._installation())

    def elsewhere_key(self, what: str, files: dict[str, JsonValue], place: Place) -> str:
        """Key of what a device gave for an artifact, named by its files' hashes."""
        return cache_key(
            what,
            files,
            place.device.fingerprint,
            place.runtime,
            place.threads,
            place.provider,
            self.answers_in,
            self.facet("data"),
            self.seed,
            self.facet("workload"),
            *self._installation(),
        )

    def run_key(self) -> str:
        """Key of the whole run."""
        locked = dict(self.recipe.lock.decisions) if self.recipe.lock else {}
        everything: list[JsonValue] = [
            self.source.record,  # type: ignore[list-item]  # a dict of strings is JSON
            self.student.source.record if self.student else None,  # type: ignore[list-item]  # as above
            self.facet("data"),
            self.data.record["name"] if self.data else None,
            self.facet("target"),
            self.facet("format"),
            self.recipe.as_dict(),
            self.limits.model_dump(mode="json"),
            self.strict,
            self.facet("workload"),
            self.threads,
            self.facet("jobs"),
            self.seed,
            self.keep_stages,
            host().fingerprint,
            [device.fingerprint for device in self.reached.devices],
            [place.device.fingerprint for place in self.confirming],
            locked,
            self.costs.digest if self.costs else None,
            self.search.model_dump(mode="json") if self.search else None,
        ]
        return cache_key("run", everything, *self._installation())

    @staticmethod
    def _installation() -> tuple[JsonValue, JsonValue]:
        return code_digest(), dict(versions())


def resolve_request(source: Any, **given: Unpack[RunOptions]) -> Request:
    """Find and check everything that a run needs, before any work starts."""
    if names_tflite(source):
        raise UsageError(
            f"{str(source)!r} is a .tflite file, and such a file is not compressed",
            id="usage.options-conflict",
            why="taken: an .onnx file, a transformers folder, a hub id, or code (file.py:function)",
            hint="Give the model it was converted from with --format tflite. A .tflite file can be inspected, measured"
            " (bench), scored (eval) and asked (predict).",
        )
    student = given.get("student")
    chosen = load_recipe(
        given.get("recipe") or ("distill" if student is not None else "default"), given.get("settings")
    )
    lock = chosen.lock
    device = load_target(given.get("target", "host"))
    format_ = choose_format(device, given.get("format"))
    if names_graph(source):
        check_graph(source, chosen, student, device, format_)
    searched = check_search(given)
    location, seed = given.get("data"), given.get("seed")
    if seed is None:
        seed = lock.seed if lock else 0
    data = resolve_data(location) if location is not None else None
    columns = dict(given.get("columns", {}))
    model = resolve_model(
        source,
        feeding_of(given),
        task=given.get("task"),
        revision=given.get("revision"),
        data=data,
        columns=columns,
    )
    request = Request(
        source=model.source,
        task=model.task,
        build=model.build,
        student=None if student is None else resolve_student(student, model, seed),
        options=TaskOptions(
            metric=given.get("metric"),
            columns=columns,
            max_length=given.get("max_length"),
        ),
        data=data,
        target=device,
        format=format_,
        recipe=chosen,
        limits=_limits(chosen, given, SEARCH_SECONDS if searched else None),
        strict=given.get("strict", False),
        workload=given.get("workload") or (lock.workload if lock else Workload()),
        reached=reach(device, runtime_for(device, format_), given.get("device")),
        threads=given.get("threads") or (lock.threads if lock else 1),
        jobs=given.get("jobs") or (lock.jobs if lock else available_cores()),
        seed=seed,
        keep_stages=given.get("keep_stages", False),
        feeding=feeding_of(given),
        costs=_read_costs(given.get("costs"), chosen, searched=searched),
    )
    check_request(request)
    return replace(request, search=choose_objective(request, given.get("objective"))) if searched else request


def _limits(recipe: Recipe, given: RunOptions, seconds: float | None) -> Limits:
    """The recipe's limits, changed by what the user said; ``seconds`` where neither says how long it may take."""
    said = {name: given.get(name) for name in Limits.model_fields}
    changed = {name: value for name, value in said.items() if value is not None}
    return validate(Limits, {"time": seconds} | recipe.limits.model_dump(exclude_none=True) | changed, "a limit")


def _read_costs(given: str | Path | CostTable | None, recipe: Recipe, *, searched: bool) -> CostTable | None:
    """The table of costs that was given; whether a search can go by it is seen when it begins.

    Raises:
        UsageError: there is no such file, or nothing in the recipe goes by it.
    """
    if given is None:
        return None
    if not searched and not any(step.stage.needs_costs(step.settings) for step in recipe.steps):
        raise UsageError(
            "a table of costs was given, and nothing goes by it",
            id="usage.options-conflict",
            why=f"no stage of the recipe {recipe.name!r} prunes to measured costs",
            hint="Add --set prune.cost=measured, or leave out --costs.",
        )
    return given if isinstance(given, CostTable) else load_costs(given)
