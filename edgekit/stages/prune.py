"""Structured pruning: remove what matters least for what it costs: layers, heads and neurons, or channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field, JsonValue

from edgekit.artifact import WHOLE, Artifact
from edgekit.formats.encoder import is_encoder
from edgekit.formats.plans import Plan, chain
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.pruning import Aim, Importance
from edgekit.pruning.channels import prune_channels
from edgekit.pruning.channels.recalibration import recalibrate
from edgekit.pruning.encoders import prune_encoder
from edgekit.stages.base import Job, Stage, StageSettings, finish
from edgekit.tasks.base import Batch, shuffled_batches

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


# What "auto" stands for.
ENCODER_RATIO, MODULE_RATIO = 0.7, 0.45

Share = Annotated[float, Field(ge=0, lt=1)]


class PruneSettings(StageSettings):
    ratio: Share | Literal["auto"] = Field(
        "auto",
        description="share of the multiply-accumulates to remove, layers included; auto: 0.7 (encoders), 0.45 (others)",
    )
    layers: float = Field(
        0.67, gt=0, le=1, description="share of an encoder's layers that stay, before heads and neurons are cut"
    )
    floor: float = Field(
        0.2, ge=0, le=1, description="share of each layer's heads, neurons or channels that always stays"
    )
    importance: Importance = Field(
        "taylor",
        description="taylor or fisher (training samples with labels), magnitude (samples where an encoder has some), "
        "bn_scale (no data)",
    )
    samples: int = Field(1280, ge=1, description="training samples that importance is measured on")
    batch_size: int = Field(32, ge=1, description="samples at once while it is measured")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("PruneSettings", settings)
    model, earlier = load_model(job.task_for(artifact))
    ratio = settings.ratio
    if ratio == "auto":
        ratio = ENCODER_RATIO if is_encoder(model) else MODULE_RATIO
    aim = Aim(
        ratio=ratio,
        layers=settings.layers,
        floor=settings.floor,
        multiple=job.target.width_multiple,
        importance=settings.importance,
        tokens=_tokens(model, job),
        task=job.task,
        batches=lambda what: _batches(settings, job, f"prune: importance of {what}"),
    )
    plan: Plan
    details: dict[str, JsonValue]
    if is_encoder(model):
        plan, details = prune_encoder(model, aim)
    else:
        plan, details = prune_channels(model, job.task.components(model)[WHOLE].example, aim)
        if job.data is not None and ratio > 0:
            details["recalibrated"] = recalibrate(model, job.task, _batches(settings, job, "prune: batch norms"))
    folder = job.scratch()
    save_weights(model, folder, chain(earlier, plan))
    return finish(folder, artifact, PRUNE, settings, changes={"components": torch_components()}, details=details)


def _tokens(model: nn.Module, job: Job) -> int:
    """Tokens of the workload: the text's length, or an image's patches and class token."""
    if not is_encoder(model):
        return job.workload.tokens
    config = cast("PreTrainedModel", model).config
    if not hasattr(config, "patch_size"):
        return job.workload.tokens
    size = config.image_size if isinstance(config.image_size, int) else max(config.image_size)
    return int((size // config.patch_size) ** 2 + 1)


def _batches(settings: PruneSettings, job: Job, what: str) -> Iterator[Batch]:
    if job.data is None and settings.importance == "magnitude":
        return  # it judges by the weights alone
    examples = job.need_data().train
    count = -(-settings.samples // settings.batch_size)
    chosen = shuffled_batches(examples, settings.batch_size, job.seed, 0)[:count]
    job.progress.start(what, len(chosen))
    for indices in chosen:
        yield examples.batch(indices)
        job.progress.advance()
    job.progress.finish()


PRUNE = Stage(
    "prune",
    version=2,
    accepts="torch",
    produces="torch",
    settings=PruneSettings,
    uses=("data", "widths", "workload", "seed", "jobs"),
    needs_data=lambda settings, goal: cast("PruneSettings", settings).importance in ("taylor", "fisher"),
    run=run,
)
