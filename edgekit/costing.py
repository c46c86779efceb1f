"""Cost tables, measured: small encoders of a model's shape, made as it would be, and timed together or counted.

About a dozen are exported and measured (``Design``), once for a target, a runtime and a shape; about three dozen where
the recipe prunes the hidden size. Weights are cut from the model, since latency does not hang on them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from edgekit.artifact import Artifact, open_artifact
from edgekit.cache import find_damage, folders_in, record_files
from edgekit.errors import HostError, UsageError
from edgekit.feasibility import provider_for
from edgekit.formats.encoder import encoder_layers, is_encoder, stream_width
from edgekit.formats.plans import chain
from edgekit.formats.stream import stream_of
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.measure.instructions import INFERENCES, middle
from edgekit.measure.latency import named_subjects, time_all
from edgekit.progress import Silent
from edgekit.pruning.encoders import geometry_of
from edgekit.pruning.encoders.design import Design, Small, narrowest
from edgekit.pruning.encoders.hidden import columns_left
from edgekit.pruning.encoders.table import (
    ONE_SIZE,
    SEVERAL_SIZES,
    CostTable,
    Geometry,
    HiddenCosts,
    MeasuredEncoder,
    Scope,
    Unit,
)
from edgekit.recipe import Recipe, Step
from edgekit.request import Request
from edgekit.runtimes.measuring import Place, Timing, count_instructions
from edgekit.stages.base import Job, finish, read_details, task_at
from edgekit.stages.prune import PRUNE, PruneSettings
from edgekit.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn

TIMING = Timing(seconds=12.0, rounds=25)
# The stages that a graph comes from, each with the settings that its latency hangs on. Embeddings are looked up, a row
# for each token, whatever their type is.
GRAPH_SETTINGS: dict[str, tuple[str, ...]] = {
    "export": (),
    "optimize": ("rewrites",),
    "quantize": ("engine", "method", "scheme"),
}
# Of the stage quantize, so that one table serves whatever share of the layers stays float.
ALL_IN_INTEGERS: dict[str, JsonValue] = {"fallback": False, "float_share": 0.0}
MILLION = 1e6
REWRITES = "costs.rewrites"


@dataclass(frozen=True)
class Costed:
    """What a run of the measurement gave.

    Attributes:
        costs: of each encoder.
        unit: of these.
        runtime_version: of what was measured.
        warnings: what disturbed it.
    """

    costs: dict[str, float]
    unit: Unit
    runtime_version: str
    warnings: tuple[str, ...] = ()


def place_of(request: Request) -> Place:
    """Where costs are measured: with a clock where there is one, else by instructions.

    Raises:
        HostError: neither can be had.
    """
    place = _first_place(request)
    if place is None:
        raise HostError(
            f"what an inference costs on {request.target.name!r} cannot be measured",
            id="environment.cannot-measure",
            why=request.not_measured_because,
            hint="Give a table that was measured elsewhere (--costs FILE), or leave prune.cost to macs.",
        )
    return place


def _first_place(request: Request) -> Place | None:
    return request.clock or next(iter(request.places), None)


def scope_of(request: Request, whole: Artifact, task: Task) -> Scope:
    """What a table for a request has to hold for.

    Args:
        request: of the run.
        whole: the model that is to be pruned.
        task: of the run.

    Raises:
        UsageError: the model is no encoder, or not exported to ONNX.
    """
    if request.format != "onnx":
        raise UsageError(
            f"costs were asked for, and the format is {request.format}",
            id="usage.settings-conflict",
            why="costs are measured of ONNX graphs",
            hint="Choose a target that takes onnx.",
        )
    model = None if whole.format != "torch" else load_model(task_at(task, whole, request.builds))[0]
    if model is None or not is_encoder(model):
        raise UsageError(
            f"costs were asked for, and {request.source.record['name']!r} is no transformer encoder",
            id="usage.settings-conflict",
            why="costs are measured of an encoder's heads and neurons",
            hint="Leave prune.cost to macs.",
        )
    place = _first_place(request)
    return Scope(
        target=request.target.name,
        runtime=request.runtime,
        provider=provider_for(request.target, request.format),
        threads=request.threads,
        device=place.label if place else "",
        fingerprint=place.device.fingerprint if place else "",
        workload=request.workload.model_dump(mode="json"),
        graph=graph_of(request.recipe),
        geometry=_narrowed(geometry_of(model, first_token_only=task.reads_first_token), model, request),
    )


def hidden_of(recipe: Recipe) -> list[JsonValue]:
    """What the stages of a recipe leave of the hidden size, of those that take something away."""
    found = [step.settings.hidden for step in recipe.steps if isinstance(step.settings, PruneSettings)]
    return [hidden for hidden in found if hidden is not None]


def fewest_columns(model: nn.Module, request: Request) -> int:
    """How many columns of a model's stream the recipe leaves at last.

    Raises:
        UsageError: more columns are to stay than there are.
    """
    multiple = request.target.width_multiple
    left = [columns_left(model, cast("float", hidden), multiple) for hidden in hidden_of(request.recipe)]
    return min(left, default=stream_width(model))


def _narrowed(geometry: Geometry, model: nn.Module, request: Request) -> Geometry:
    """The shape with the smallest hidden size that a table is needed for.

    Raises:
        UsageError: more columns are to stay than there are.
        ModelError: the hidden size of such a model cannot be pruned.
    """
    least = narrowest(geometry.hidden, fewest_columns(model, request), request.target.width_multiple)
    if least is None:
        return geometry
    stream_of(model)  # known here, not after a dozen exports
    return geometry.model_copy(update={"narrowest": least})


def graph_steps(recipe: Recipe) -> list[Step]:
    """The steps that a graph comes from; layers that stay float, chosen or fallen back, come later: not foreseen."""
    steps = [step for step in recipe.steps if step.stage.name in GRAPH_SETTINGS]
    return [
        Step(step.stage, step.settings.model_copy(update=ALL_IN_INTEGERS)) if step.stage.name == "quantize" else step
        for step in steps
    ]


def graph_of(recipe: Recipe) -> tuple[dict[str, JsonValue], ...]:
    """The stages that a graph comes from, each with the settings that its latency hangs on."""
    return tuple(_latency_settings(step) for step in graph_steps(recipe))


def _latency_settings(step: Step) -> dict[str, JsonValue]:
    values = step.settings.model_dump(mode="json")
    return {"stage": step.stage.name} | {name: values[name] for name in GRAPH_SETTINGS[step.stage.name]}


def measure_costs(whole: Artifact, scope: Scope, steps: Sequence[Step], job: Job, place: Place) -> CostTable:
    """Measure a table.

    Every encoder that is made stays in ``job.work``, so that a killed measurement goes on where it was.

    Args:
        whole: the model; encoders are cut from it.
        scope: what the table is to hold for.
        steps: of ``graph_steps``.
        job: its decisions hold the rewrites that pay, which the first encoder decides for all.
        place: where it is measured.
    """
    layers = len(encoder_layers(load_model(job.task_for(whole))[0]))
    design = Design.of(scope.geometry, layers, job.target.width_multiple)
    job.progress.start(f"costs: {len(design.measured)} small encoders", len(design.measured))
    made = {}
    for small in design.measured:
        made[_name(small)] = _encoder(whole, small, steps, job)
        job.progress.advance()
    job.progress.finish()
    job.progress.start(f"costs: measure on {place.label}", None)
    found = _measure(made, job, place)
    job.progress.finish()
    return table_of(design, scope, found, _rewrites(job))


def table_of(design: Design, scope: Scope, found: Costed, rewrites: tuple[str, ...] = ()) -> CostTable:
    """The table, from the costs of every encoder of a design.

    Args:
        design: what was measured.
        scope: what it holds for.
        found: by ``_name`` of each encoder.
        rewrites: that were applied.
    """
    own, *smaller = (
        (hidden, design.solve({shape: found.costs[_name((hidden, shape))] for shape in design.encoders}))
        for hidden in design.hidden
    )
    table = CostTable(
        schema_=SEVERAL_SIZES if smaller else ONE_SIZE,
        scope=scope.model_copy(update={"runtime_version": found.runtime_version}),
        unit=found.unit,
        **vars(own[1]),
        rewrites=rewrites,
        warnings=found.warnings,
        narrower=tuple(HiddenCosts(hidden=hidden, **vars(curves)) for hidden, curves in reversed(smaller)),
    )
    encoders = tuple(
        MeasuredEncoder(
            widths=shape,
            cost=round(found.costs[_name((hidden, shape))], 4),
            predicted=round(table.at(hidden).predict(shape), 4),
            fitted=(hidden, shape) in design.fitted,
            hidden=None if hidden == scope.geometry.hidden else hidden,
        )
        for hidden, shape in design.measured
    )
    return table.model_copy(update={"encoders": encoders})


def _rewrites(job: Job) -> tuple[str, ...]:
    """The rewrites that the first encoder decided on; none where the recipe does not optimize."""
    none: list[JsonValue] = []
    found = job.decisions.decide(REWRITES, lambda: none)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _name(small: Small) -> str:
    return f"encoder-{hashlib.sha256(json.dumps(small).encode()).hexdigest()[:16]}"


def _encoder(whole: Artifact, small: Small, steps: Sequence[Step], job: Job) -> Artifact:
    """A small encoder as it would be shipped: from the work folder, or made and left there."""
    place = job.work / _name(small)
    if not place.is_dir() or find_damage(place) is not None:
        with _own_folders(job) as own:
            found = trained = _cut(whole, small, own)
            for step in steps:
                found = step.stage.run(found, step.settings, replace(_with_data(own, step), trained=trained))
                if step.stage.name == "optimize":
                    job.decisions.decide(REWRITES, partial(_kept, found))
            record_files(found.path)
            shutil.rmtree(place, ignore_errors=True)  # damaged
            found.path.rename(place)
    return open_artifact(place)


@contextmanager
def _own_folders(job: Job) -> Iterator[Job]:
    """The same job, silent, with folders that are gone after the block, unless they were moved away."""
    with folders_in(job.scratch()) as scratch:
        yield replace(job, scratch=scratch, progress=Silent())


def _cut(whole: Artifact, small: Small, job: Job) -> Artifact:
    """The first layers of a model, of each its first heads and neurons, on the first columns of the stream."""
    model, earlier = load_model(job.task_for(whole))
    hidden, shape = small
    layers = [
        LayerPlan(index=index, heads=tuple(range(heads)), neurons=tuple(range(neurons)))
        for index, (heads, neurons) in enumerate(shape)
    ]
    kept = tuple(range(hidden)) if hidden < stream_width(model) else None
    plan = EncoderPlan(architecture=type(model).__name__, layers=tuple(layers), hidden=kept)
    replay(model, plan)
    folder = job.scratch()
    save_weights(model, folder, chain(earlier, plan))
    changes = {"components": torch_components()}
    return finish(folder, whole, PRUNE, PRUNE.settings(), changes=changes, details={})


def _with_data(job: Job, step: Step) -> Job:
    """The job with data only where the graph's types hang on it: where they do not, it would only cost time.

    Of texts every product of matrices is INT8 with or without it; a convolution before an image's layers is not.
    """
    needed = "text" not in job.task.columns or step.stage.needs_data(step.settings, job.goal)
    return job if needed else replace(job, data=None)


def _kept(optimized: Artifact) -> list[JsonValue]:
    """The rewrites that were applied."""
    (table,) = cast("list[dict[str, list[dict[str, JsonValue]]]]", list(read_details(optimized).values()))
    return [str(row["rewrite"]) for row in table["rewrites"] if row["kept"]]


def _measure(made: Mapping[str, Artifact], job: Job, place: Place) -> Costed:
    """The cost of every encoder, all in one run."""
    subjects = named_subjects(made, lambda _: job.task, job.workload)
    if place.device.timed:
        timings = time_all(subjects, place, TIMING)
        return Costed(level_costs(timings.blocks_ms), "ms", timings.runtime_version, timings.warnings)
    answer = count_instructions(subjects, place, INFERENCES)
    costs = {name: middle(numbers) / MILLION for name, numbers in answer.instructions.items()}
    return Costed(costs, "million instructions", answer.runtime_version)


def level_costs(blocks_ms: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """Milliseconds of every subject, without what slowed whole rounds.

    In each round a subject is seen beside the geometric mean of all; the median over rounds of that ratio, times the
    median of those means, is its latency. Differences of latencies are then free of the machine's drift.

    Args:
        blocks_ms: of each subject, rounds of blocks of single inferences.
    """
    import numpy as np

    rounds = np.array([[np.median(block) for block in blocks] for blocks in blocks_ms.values()])
    levels = np.exp(np.log(rounds).mean(axis=0))
    found = np.median(rounds / levels, axis=1) * np.median(levels)
    return dict(zip(blocks_ms, found.tolist(), strict=True))
