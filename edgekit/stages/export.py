"""Export: from torch to the target's format, equal to torch on real samples or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field, JsonValue

from edgekit.artifact import Artifact, Component, Manifest
from edgekit.errors import ModelError
from edgekit.formats.onnx import count_operators, describe_component, export_component, load_graph
from edgekit.formats.torch import load_model
from edgekit.measure.golden import relative_difference
from edgekit.runtimes import open_runner
from edgekit.runtimes.torch import TorchRunner
from edgekit.stages.base import Job, Stage, StageSettings, finish
from edgekit.tasks.base import Array, Batch, ComponentSpec, Task

if TYPE_CHECKING:
    from pathlib import Path


class ExportSettings(StageSettings):
    tolerance: float = Field(
        1e-3, gt=0, description="largest difference to torch, in units of the output's largest value"
    )
    samples: int = Field(16, ge=1, description="samples that are compared")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("ExportSettings", settings)
    task = job.task_for(artifact)
    model, _ = load_model(task)
    specs = task.components(model)
    folder = job.scratch()
    job.progress.start("export", len(specs))
    described = {}
    for name, spec in specs.items():
        file = folder / f"{name}.onnx"
        export_component(spec, file, job.target.opset)
        described[name] = describe_component(file, spec.states)
        job.progress.advance()
    worst = _check(
        folder=folder, artifact=artifact, specs=specs, described=described, task=task, settings=settings, job=job
    )
    job.progress.finish(f"largest difference to torch {worst:.1e}")
    details: dict[str, JsonValue] = {
        "opset": job.target.opset,
        "largest_difference": worst,
        "tolerance": settings.tolerance,
        "operators": {name: cast("JsonValue", count_operators(load_graph(folder / f"{name}.onnx"))) for name in specs},
    }
    changes = {"format": "onnx", "components": {name: part.model_dump() for name, part in described.items()}}
    return finish(folder, artifact, EXPORT, settings, changes=changes, details=details)


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
            artifact.manifest.model_dump(by_alias=True) | {"format": "onnx", "components": described}
        ),
    )
    ours, theirs = open_runner(exported, job.jobs), TorchRunner(specs)
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


def _difference(name: str, mine: Array, reference: Array, tolerance: float) -> float:
    """The largest difference in units of the reference's largest value.

    Raises:
        ModelError: it is above the tolerance, or the shapes differ.
    """
    difference = relative_difference(mine, reference)
    if not difference <= tolerance:
        raise ModelError(
            f"the exported output {name!r} differs from torch by {difference:.2e} of its largest value",
            id="model.export-differs",
            why=f"allowed: {tolerance:.0e}; shape {list(mine.shape)}, in torch {list(reference.shape)}",
            hint="Report it with the model's architecture, or allow more with --set export.tolerance=...",
        )
    return difference


EXPORT = Stage(
    "export",
    version=1,
    accepts="torch",
    produces="graph",
    settings=ExportSettings,
    uses=("opset", "data"),
    needs_data=lambda settings, target: False,
    run=run,
)
