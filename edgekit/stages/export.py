"""Export: from torch to the target's format, equal to torch on real samples or an error.

A graph of others is there already: it is made usable instead, and answers as the file given, or is left as it was.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field, JsonValue

from edgekit.artifact import WHOLE, Artifact, Component, Manifest
from edgekit.errors import ModelError, UsageError
from edgekit.formats import onnx, tflite, tflite_export
from edgekit.formats.foreign import adopt_graph, check_memory, opset_of
from edgekit.formats.graphs import count_operators
from edgekit.formats.torch import load_model
from edgekit.measure.golden import relative_difference
from edgekit.runtimes import open_runner, ort
from edgekit.runtimes.child import ConfinedRunner
from edgekit.runtimes.torch import TorchRunner
from edgekit.stages.base import Goal, Job, Stage, StageSettings, finish
from edgekit.tasks.base import Array, Batch, ComponentSpec, Runner, Task, Workload

if TYPE_CHECKING:
    from pathlib import Path


class ExportSettings(StageSettings):
    tolerance: float = Field(
        1e-3,
        gt=0,
        description="largest difference to torch (to the .onnx file given), in units of the output's largest value",
    )
    samples: int = Field(16, ge=1, description="samples that are compared")
    lengths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description="of texts in TFLite, each a signature; none: 32, 64, 128, the workload's, the longest text's",
    )


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("ExportSettings", settings)
    if artifact.format == "onnx":
        return _adopt(artifact, settings, job)
    task = job.task_for(artifact)
    model, _ = load_model(task)
    specs = task.components(model)
    folder = job.scratch()
    job.progress.start("export", len(specs))
    described = {}
    for name, spec in specs.items():
        described[name] = _export(spec, folder / f"{name}.{job.format}", settings, job)
        job.progress.advance()
    worst = _check(
        folder=folder, artifact=artifact, specs=specs, described=described, task=task, settings=settings, job=job
    )
    job.progress.finish(f"largest difference to torch {worst:.1e}")
    operators = {name: count_operators(folder / part.files[0]) for name, part in described.items()}
    details: dict[str, JsonValue] = {
        "opset": job.target.opset,
        "largest_difference": worst,
        "tolerance": settings.tolerance,
        "operators": cast("JsonValue", operators),
    }
    changes = {"format": job.format, "components": {name: part.model_dump() for name, part in described.items()}}
    return finish(folder, artifact, EXPORT, settings, changes=changes, details=details)


def _export(spec: ComponentSpec, file: Path, settings: ExportSettings, job: Job) -> Component:
    """Export a component in the format that was asked for."""
    if job.format == "onnx":
        onnx.export_component(spec, file, job.target.opset)
        return onnx.describe_component(file, spec.states)
    tflite_export.export_component(spec, file, settings.lengths or _lengths(spec, job))
    return tflite.describe_component(file, spec.axes, spec.states)


def _lengths(spec: ComponentSpec, job: Job) -> tuple[int, ...]:
    """The usual lengths, the workload's, and the longest text of the data, as far as the model takes them."""
    most = spec.limits.get("sequence", max(tflite_export.LENGTHS))
    wanted = {*tflite_export.LENGTHS, job.workload.tokens}
    if job.data is not None:
        splits = (job.data.train, job.data.selection, job.data.evaluation)
        wanted.add(max(split.length(index) for split in splits for index in range(len(split))))
    return tuple(sorted({min(length, most) for length in wanted}))


def _adopt(artifact: Artifact, settings: ExportSettings, job: Job) -> Artifact:
    """A graph of others, made usable as far as it then answers as the file given."""
    file, states = artifact.file(), artifact.manifest.components[WHOLE].states
    _check_opset(file, job)
    if job.workload != Workload():  # with which it was checked when it was found
        check_memory(onnx.load_graph(file), file, job.workload)
    feeds, batches = job.task.workload_feeds(job.workload)[WHOLE], _samples(settings, job)
    job.progress.start("export", None)
    refused: list[str] = []
    with ThreadPoolExecutor(1) as pool:  # the file given answers in a process of its own meanwhile
        given = pool.submit(_answers_of, artifact, feeds, batches, job)
        for upgrade in (True, False):
            folder = job.scratch()
            adoption = adopt_graph(file, folder / file.name, upgrade=upgrade)
            described = onnx.describe_component(folder / file.name, states)
            changed = artifact.manifest.model_dump(by_alias=True) | {"components": {WHOLE: described.model_dump()}}
            ort.load()
            expected, wanted = given.result()  # it is the first that runs: what brings a runtime down ends there
            try:
                mine = open_runner(Artifact(folder, Manifest.model_validate(changed)), job.jobs)
                answers = mine.run(WHOLE, feeds)
                pairs = [(name, answers[name], values) for name, values in expected.items()]
                pairs += [
                    ("whole", job.task.forward(mine, batch), one) for batch, one in zip(batches, wanted, strict=True)
                ]
                worst = max(_difference(*pair, settings.tolerance, "the file given") for pair in pairs)
                break
            except ModelError as error:
                if not upgrade:
                    raise
                refused.append(f"{', '.join(adoption.done) or 'shapes and names'}: {error.what}: {error.why}")
    job.progress.finish(f"largest difference to the file given {worst:.1e}")
    refused += adoption.refused
    told = [*adoption.done, *(f"refused: {reason}" for reason in refused)]
    details: dict[str, JsonValue] = {
        "opset": opset_of(onnx.load_structure(folder / file.name)),
        "adopted": "; ".join([f"answers as the file given, {f'within {worst:.0e}' if worst else 'to the bit'}", *told]),
        "changes": list(adoption.done),
        "refused": list(refused),
        "largest_difference": worst,
        "tolerance": settings.tolerance,
        "operators": {WHOLE: cast("JsonValue", count_operators(folder / file.name))},
    }
    return finish(
        folder,
        artifact,
        EXPORT,
        settings,
        changes={"components": {WHOLE: described.model_dump()}},
        details=details,
    )


def _answers_of(
    artifact: Artifact, feeds: Batch, batches: list[Batch], job: Job
) -> tuple[dict[str, Array], list[Array]]:
    """What the file given makes of the workload's inputs and of samples, in a process with limits.

    Raises:
        ModelError: it does not take them.
    """
    given = ConfinedRunner(artifact, job.jobs)
    try:
        return _first_answers(given, feeds), [job.task.forward(given, batch) for batch in batches]
    finally:
        given.close()


def _check_opset(file: Path, job: Job) -> None:
    opset = opset_of(onnx.load_structure(file))
    if opset > job.target.opset:
        raise ModelError(
            f"the graph is written in operator set {opset}",
            id="model.unsuitable-graph",
            why=f"the target {job.target.name!r} takes up to {job.target.opset}",
            hint="Export it in an older one, or choose another target.",
        )


def _first_answers(given: Runner, feeds: Batch) -> dict[str, Array]:
    """What the file given makes of the workload's inputs.

    Raises:
        ModelError: it does not take them.
    """
    try:
        return given.run(WHOLE, feeds)
    except ModelError as error:
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in feeds.items())
        raise ModelError(
            f"the graph does not run on made-up inputs: {shapes}",
            id="model.does-not-load",
            why=error.why,
            hint="Say how large the free dimensions are: --batch, --tokens (any that is no image's), --image.",
        ) from error


def _check(
    *,
    folder: Path,
    artifact: Artifact,
    specs: dict[str, ComponentSpec],
    described: dict[str, Component],
    task: Task,
    settings: ExportSettings,
    job: Job,
) -> float:
    """Compare every component with torch on the examples, and the whole on real samples; the largest difference."""
    exported = Artifact(
        folder,
        Manifest.model_validate(
            artifact.manifest.model_dump(by_alias=True) | {"format": job.format, "components": described}
        ),
    )
    ours, theirs = open_runner(exported, job.jobs, job.answers_in), TorchRunner(specs)
    worst = 0.0
    for name, spec in specs.items():
        feeds = {key: value.numpy() for key, value in spec.example.items()}
        mine, reference = ours.run(name, feeds), theirs.run(name, feeds)
        for output in spec.outputs:
            worst = max(worst, _difference(f"{name}: {output}", mine[output], reference[output], settings.tolerance))
    for batch in _samples(settings, job):
        worst = max(
            worst, _difference("logits", task.forward(ours, batch), task.forward(theirs, batch), settings.tolerance)
        )
    return worst


def _samples(settings: ExportSettings, job: Job) -> list[Batch]:
    if job.data is None:
        return []
    examples = job.data.selection
    return [examples.batch([index]) for index in range(min(settings.samples, len(examples)))]


def _difference(name: str, mine: Array, reference: Array, tolerance: float, other: str = "torch") -> float:
    """The largest difference in units of the reference's largest value.

    Raises:
        ModelError: it is above the tolerance, or the shapes differ.
    """
    difference = relative_difference(mine, reference)
    if not difference <= tolerance:
        raise ModelError(
            f"the exported output {name!r} differs from {other} by {difference:.2e} of its largest value",
            id="model.export-differs",
            why=f"allowed: {tolerance:.0e}; shape {list(mine.shape)}, in {other} {list(reference.shape)}",
            hint="Report it with the model's architecture, or allow more with --set export.tolerance=...",
        )
    return difference


def check(settings: StageSettings, goal: Goal) -> None:
    """Refuse lengths that an inference does not fit."""
    lengths = cast("ExportSettings", settings).lengths
    if goal.format == "tflite" and goal.tokens is not None and lengths and max(lengths) < goal.tokens:
        raise UsageError(
            f"an inference is {goal.tokens} tokens, and the longest of --lengths is {max(lengths)}",
            id="usage.settings-conflict",
            why="each length is a signature of the file, and a longer text fits none",
            hint=f"Add a length of at least {goal.tokens}, or measure shorter ones: --tokens {max(lengths)}.",
        )


EXPORT = Stage(
    "export",
    version=1,
    accepts="torch",
    produces="graph",
    settings=ExportSettings,
    uses=("opset", "format", "data", "workload"),
    needs_data=lambda settings, goal: False,
    run=run,
    check=check,
)
