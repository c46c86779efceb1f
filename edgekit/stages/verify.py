"""Verify: the artifact loads and runs in the target's runtime, and is compared with the original on real samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

from pydantic import Field, JsonValue

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.formats.tflite_metadata import Metadata, add_metadata
from edgekit.measure.golden import TOLERANCES, write_golden
from edgekit.measure.quality import compare
from edgekit.quantization.methods import HALF, advise, methods_for
from edgekit.stages.base import Job, Stage, StageSettings, finish
from edgekit.tasks.base import Batch

LABELS_FILE = "labels.txt"


class VerifySettings(StageSettings):
    golden: int = Field(4, ge=1, le=64, description="samples kept as golden inputs and outputs")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("VerifySettings", settings)
    folder = job.scratch()
    sums = {
        name: artifact.manifest.files[name] for part in artifact.manifest.components.values() for name in part.files
    }
    for name in sums:
        shutil.copyfile(artifact.path / name, folder / name)
    if artifact.format == "tflite":
        _describe(artifact, folder, job)
        sums = {}
    copied = Artifact(folder, artifact.manifest)
    job.progress.start("verify", None)
    write_golden(copied, job.task, _golden_batches(settings, job), job.answers_in)
    (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in job.task.labels), encoding="utf-8")
    details: dict[str, JsonValue] = {"quality": None}
    if job.data is not None:
        details["quality"] = _quality(artifact, job)
    job.progress.finish()
    precisions = [part.precision for part in artifact.manifest.components.values()]
    changes: dict[str, object] = {
        "golden_tolerance": max(TOLERANCES[precision] for precision in precisions),
        "target": job.target.name,
        "runtime": job.answers_in,
    }
    return finish(folder, artifact, VERIFY, settings, changes=changes, details=details, copied=sums)


def _describe(artifact: Artifact, folder: Path, job: Job) -> None:
    """Write labels and pre-processing into a TFLite artifact's files, for those who find only the file."""
    mean, std = job.task.normalization
    for name, part in artifact.manifest.components.items():
        metadata = Metadata(
            name=f"{artifact.manifest.source.get('name') or 'model'}, {name}",
            labels=job.task.labels,
            mean=mean,
            std=std,
            preprocessing=job.task.preprocessing,
            licence=str(artifact.manifest.source.get("licence") or ""),
        )
        add_metadata(folder / part.files[0], metadata)


def _quality(artifact: Artifact, job: Job) -> JsonValue:
    import numpy as np

    mine, original = job.outputs(artifact), job.outputs(job.original)
    if not np.isfinite(mine.logits).all():
        if not np.isfinite(original.logits).all():
            raise ModelError(
                "the model answers with values that are no numbers",
                id="model.no-numbers",
                why="the original does so already, before anything is changed",
                hint="Where it rules out a class by minus infinity, take -1e4; else see to its weights.",
            )
        methods = methods_for(job.target, artifact.format, job.runtime)
        raise ModelError(
            "the artifact answers with values that are no numbers",
            id="model.no-numbers",
            hint=advise([one for one in methods if one != HALF], "Leave quantize out: --recipe export."),
        )
    quality = compare(original, mine, job.task, split=job.need_data().rule, looks=0)
    return None if quality is None else cast("JsonValue", quality.model_dump(mode="json"))


def _golden_batches(settings: VerifySettings, job: Job) -> list[Batch]:
    """A few samples of the selection split; without data, inputs of the workload's size."""
    if job.data is None:
        feeds = job.task.workload_feeds(job.workload)
        return [next(iter(feeds.values()))]
    examples = job.data.selection
    return [examples.batch([index]) for index in range(min(settings.golden, len(examples)))]


VERIFY = Stage(
    "verify",
    version=2,
    accepts="graph",
    produces="graph",
    settings=VerifySettings,
    uses=("target", "data", "original", "workload", "seed", "jobs"),
    needs_data=lambda settings, goal: False,
    run=run,
)
