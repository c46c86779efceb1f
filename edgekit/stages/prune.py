"""Structured pruning: remove the layers, heads and neurons that matter least for what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from pydantic import Field, JsonValue

from edgekit.artifact import Artifact
from edgekit.formats.encoder import encoder_layers, head_width
from edgekit.formats.surgery import Plan, replay, whole_plan
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.pruning.cost import CostModel
from edgekit.pruning.importance import Importance, Scores, score_importance
from edgekit.pruning.selection import Bounds, choose_layers, choose_widths
from edgekit.stages.base import Job, Stage, StageSettings, finish
from edgekit.tasks.base import Batch, shuffled_batches

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class PruneSettings(StageSettings):
    ratio: float = Field(
        0.7, ge=0, lt=1, description="share of the encoder's multiply-accumulates to remove, layers included"
    )
    layers: float = Field(
        0.67, gt=0, le=1, description="share of the layers that stay, before heads and neurons are cut"
    )
    floor: float = Field(0.2, ge=0, le=1, description="share of each layer's heads and neurons that always stays")
    importance: Importance = Field("taylor", description="magnitude (no data), taylor or fisher")
    samples: int = Field(1280, ge=1, description="training samples that importance is measured on")
    batch_size: int = Field(32, ge=1, description="samples at once while it is measured")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("PruneSettings", settings)
    model, earlier = load_model(job.task_for(artifact))
    cost = _cost_model(model, job)
    whole = whole_plan(model)
    budget = int(cost.plan(whole) * (1 - settings.ratio))
    plan = whole
    if settings.ratio > 0:
        plan = _drop_layers(model, settings, job)
        plan = plan.then(_drop_widths(model, cost, budget, settings, job))
    folder = job.scratch()
    save_weights(model, folder, earlier.then(plan) if earlier else plan)
    details = _describe(whole, plan, cost)
    return finish(folder, artifact, PRUNE, settings, changes={"components": torch_components()}, details=details)


def _drop_layers(model: nn.Module, settings: PruneSettings, job: Job) -> Plan:
    """Take the least important layers out of ``model``; the plan says which stay."""
    plan = whole_plan(model)
    keep = max(1, round(len(plan.layers) * settings.layers))
    if keep < len(plan.layers):
        plan = choose_layers(plan, _scores(model, settings, job, "layers"), keep)
        replay(model, plan)
    return plan


def _drop_widths(model: nn.Module, cost: CostModel, budget: int, settings: PruneSettings, job: Job) -> Plan:
    """Take heads and neurons out of what is left of ``model`` until it costs at most ``budget``."""
    scores = _scores(model, settings, job, "heads and neurons")
    bounds = Bounds(budget=budget, multiple=job.target.width_multiple, floor=settings.floor)
    plan = choose_widths(scores, cost, bounds, type(model).__name__)
    replay(model, plan)
    return plan


def _cost_model(model: nn.Module, job: Job) -> CostModel:
    tokens = _tokens(model, job)
    return CostModel.of(
        tokens=tokens,
        hidden=encoder_layers(model)[0].q.in_features,
        head_width=head_width(model),
        first_token_only=job.task.reads_first_token,
    )


def _tokens(model: nn.Module, job: Job) -> int:
    """Tokens of the workload: the text's length, or an image's patches and class token."""
    config = cast("PreTrainedModel", model).config
    if not hasattr(config, "patch_size"):
        return job.workload.tokens
    size = config.image_size if isinstance(config.image_size, int) else max(config.image_size)
    return int((size // config.patch_size) ** 2 + 1)


def _describe(before: Plan, after: Plan, cost: CostModel) -> dict[str, JsonValue]:
    kept: list[JsonValue] = [
        {"layer": layer.index, "heads": len(layer.heads), "neurons": len(layer.neurons)} for layer in after.layers
    ]
    shape = before.layers[0]
    return {
        "before": {"layers": len(before.layers), "heads": len(shape.heads), "neurons": len(shape.neurons)},
        "kept": kept,
        "macs_before": cost.plan(before),
        "macs_after": cost.plan(after),
    }


def _scores(model: nn.Module, settings: PruneSettings, job: Job, what: str) -> Scores:
    count = -(-settings.samples // settings.batch_size)
    job.progress.start(f"prune: importance of {what}", count)
    scores = score_importance(model, settings.importance, job.task, _batches(settings, job, count))
    job.progress.finish()
    return scores


def _batches(settings: PruneSettings, job: Job, count: int) -> Iterator[Batch]:
    examples = job.need_data().train
    for indices in shuffled_batches(examples, settings.batch_size, job.seed, 0)[:count]:
        yield examples.batch(indices)
        job.progress.advance()


PRUNE = Stage(
    "prune",
    version=1,
    accepts="torch",
    produces="torch",
    settings=PruneSettings,
    uses=("data", "widths", "workload", "seed", "jobs"),
    needs_data=lambda settings, target: cast("PruneSettings", settings).importance != "magnitude",
    run=run,
)
