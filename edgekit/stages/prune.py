"""Structured pruning: remove what matters least for what it costs.

Layers, heads, neurons and hidden size of an encoder, or channels of anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from edgekit.artifact import WHOLE, Artifact
from edgekit.errors import ModelError, UsageError
from edgekit.formats.encoder import is_encoder
from edgekit.formats.plans import Plan, chain
from edgekit.formats.surgery import EncoderPlan
from edgekit.formats.thinning import check_thinnable, pass_all
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.pruning import Aim, Importance, Measured
from edgekit.pruning.channels import prune_channels
from edgekit.pruning.channels.recalibration import recalibrate
from edgekit.pruning.encoders import prune_encoder
from edgekit.pruning.encoders.tokens import reads_first_token_alone
from edgekit.stages.base import Goal, Job, Stage, StageSettings, finish
from edgekit.tasks.base import Batch, shuffled_batches

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


# What "auto" stands for.
ENCODER_RATIO, MODULE_RATIO = 0.7, 0.45
# So much more of the multiply-accumulates than what was asked for is told.
TOLD = 0.01
# The decision of a lock that holds how many heads and neurons stay in each layer.
WIDTHS = "prune.widths"

Share = Annotated[float, Field(ge=0, lt=1)]
Tokens = Annotated[float, Field(gt=0, le=1)]
Columns = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


def _never_rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(one < other for one, other in pairwise(shares)):
        raise ValueError("tokens that were left out do not come back: the shares never rise")
    return shares


class PruneSettings(StageSettings):
    ratio: Share | Literal["auto"] = Field(
        "auto",
        description="share of the multiply-accumulates to remove, layers included; auto: 0.7 (encoders), 0.45 (others)",
    )
    cost: Literal["macs", "measured"] = Field(
        "macs",
        description="what it is a share of: multiply-accumulates, or the cost measured on the target (encoders)",
    )
    budget: float | None = Field(
        None,
        gt=0,
        description="in place of the ratio, with measured costs: the most that an inference may cost by prediction, in "
        "ms, or in millions of instructions where the target is emulated",
    )
    layers: float = Field(
        0.67, gt=0, le=1, description="share of an encoder's layers that stay, before heads and neurons are cut"
    )
    hidden: Columns | None = Field(
        None,
        description="how much of an encoder's hidden size stays: a number of columns, or a share of the original's "
        "such as 0.67; rounded to a multiple that the target likes. Not set: all of it",
    )
    tokens: Tokens | Annotated[tuple[Tokens, ...], Field(min_length=1), AfterValidator(_never_rising)] | None = Field(
        None,
        description="share of a sample's tokens that an encoder's last layer takes in, to which layers come down from "
        "the middle on, or the share that each layer but the last hands on: [1,0.5,0.25]. Not set: all",
    )
    floor: float = Field(
        0.2, ge=0, le=1, description="share of each layer's heads, neurons or channels that always stays"
    )
    importance: Importance = Field(
        "taylor",
        description="taylor or fisher (training samples with labels), magnitude (samples where an encoder has some), "
        "bn_scale or weights (no data)",
    )
    reconstruct: bool | Literal["auto"] = Field(
        "auto",
        description="whether what stays of an encoder's layers is fitted, by least squares on the samples, to what the "
        "whole layers gave: training starts from there, and needs fewer steps; auto: where there is data",
    )
    samples: int = Field(1280, ge=1, description="training samples that importance is measured on")
    batch_size: int = Field(32, ge=1, description="samples at once while it is measured")

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not set is not told, as in the manifests that were written before it could be."""
        written: dict[str, Any] = write(self)
        for name in ("hidden", "tokens"):
            if getattr(self, name) is None:
                written.pop(name, None)
        return written


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("PruneSettings", settings)
    model, earlier = load_model(job.task_for(artifact))
    ratio = settings.ratio
    if ratio == "auto":
        ratio = ENCODER_RATIO if is_encoder(model) else MODULE_RATIO
    measured = None
    if settings.cost == "measured":
        measured = Measured(
            job.costs, settings.budget, lambda choose: job.decisions.decide(_decision(artifact), choose)
        )
    aim = Aim(
        ratio=ratio,
        layers=settings.layers,
        floor=settings.floor,
        multiple=job.target.width_multiple,
        importance=settings.importance,
        tokens=_tokens(model, job),
        task=job.task,
        batches=lambda what: _batches(settings, job, f"prune: importance of {what}"),
        measured=measured,
        reconstruct=job.data is not None if settings.reconstruct == "auto" else settings.reconstruct,
        hidden=settings.hidden,
        handed=settings.tokens,
        handed_before=earlier.tokens if isinstance(earlier, EncoderPlan) else None,
    )
    plan: Plan
    details: dict[str, JsonValue]
    if is_encoder(model):
        _check_tokens(model, aim)
        plan, details = prune_encoder(pass_all(model), aim)
    else:
        _refuse_encoder_settings(settings, type(model).__name__)
        plan, details = prune_channels(model, job.task.components(model)[WHOLE].example, aim)
        if job.data is not None and ratio > 0:
            details["recalibrated"] = _recalibrate(model, settings, job)
    if measured is None:
        details |= _missed(details, ratio)
    folder = job.scratch()
    save_weights(model, folder, chain(earlier, plan))
    return finish(folder, artifact, PRUNE, settings, changes={"components": torch_components()}, details=details)


def _missed(details: Mapping[str, JsonValue], ratio: float) -> dict[str, JsonValue]:
    """The multiply-accumulates that were to be left, where more are: what may go is limited, and goes in steps."""
    before, after = (cast("int", details[name]) for name in ("macs_before", "macs_after"))
    asked = round(before * (1 - ratio))
    return {"macs_asked": asked} if after - asked > TOLD * before else {}


def _recalibrate(model: nn.Module, settings: PruneSettings, job: Job) -> int:
    """Measure the statistics of batch norms again; on two samples at once at least, since one has no variance."""
    several = settings.model_copy(update={"batch_size": max(2, settings.batch_size)})
    return recalibrate(model, job.task, _batches(several, job, "prune: batch norms"))


def _check_tokens(model: nn.Module, aim: Aim) -> None:
    """Refuse to leave tokens out that the answer is read of, and a table of costs with all of them where some are not.

    Raises:
        ModelError: the model's head reads more than the first token.
        UsageError: costs are measured ones, and an earlier stage has left tokens out.
    """
    if aim.measured is not None and aim.handed_before is not None:
        raise UsageError(
            "costs were measured of layers that hand on all tokens",
            id="usage.costs-mismatch",
            why="an earlier stage leaves some of them out",
            hint="Leave prune.cost to macs where a stage leaves tokens out.",
        )
    if aim.handed is None:
        return
    check_thinnable()
    task = aim.task
    if not task.reads_first_token or not reads_first_token_alone(model, task.components(model)[WHOLE]):
        raise ModelError(
            f"{type(model).__name__} needs every token",
            id="model.not-prunable",
            why="its answer is read of more than the first one",
            hint="Leave out prune.tokens: layers, heads and neurons can be pruned without it.",
        )


def _refuse_encoder_settings(settings: PruneSettings, name: str) -> None:
    """What is known of encoders alone was asked for of another module."""
    asked = ["prune.cost=measured"] if settings.cost == "measured" else []
    asked += ["prune.reconstruct=true"] if settings.reconstruct is True else []
    asked += [f"prune.hidden={settings.hidden}"] if settings.hidden is not None else []
    asked += ["prune.tokens"] if settings.tokens is not None else []
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} was asked for, and {name} is no transformer encoder",
            id="usage.settings-conflict",
            why="it is known of encoders only",
            hint="Leave it to its default.",
        )


def _needs_data(settings: StageSettings, goal: Goal) -> bool:
    del goal
    settings = cast("PruneSettings", settings)
    return settings.importance in ("taylor", "fisher") or settings.reconstruct is True


def _decision(artifact: Artifact) -> str:
    """What the choice of widths is called in a lock: of a second prune stage, ``prune.widths.2``."""
    number = 1 + sum(record.stage == "prune" for record in artifact.manifest.stages)
    return WIDTHS if number == 1 else f"{WIDTHS}.{number}"


def check(settings: StageSettings, goal: Goal) -> None:
    settings = cast("PruneSettings", settings)
    if settings.budget is not None and settings.cost != "measured":
        raise UsageError(
            f"prune.budget={settings.budget:g} was given, and costs are multiply-accumulates",
            id="usage.settings-conflict",
            why="a budget is in the unit of measured costs: ms, or millions of instructions",
            hint="Add --set prune.cost=measured, or use prune.ratio.",
        )
    if settings.cost == "measured" and settings.tokens is not None:
        raise UsageError(
            "prune.tokens cannot go with prune.cost=measured",
            id="usage.settings-conflict",
            why="a table of costs is of layers that hand on all tokens",
            hint="Leave prune.cost to macs, or prune.tokens away.",
        )
    if settings.cost == "measured" and goal.format != "onnx":
        raise UsageError(
            f"prune.cost=measured cannot go with the format {goal.format}",
            id="usage.settings-conflict",
            why="costs are measured of ONNX graphs",
            hint="Leave prune.cost to macs, or choose --format onnx.",
        )


def _tokens(model: nn.Module, job: Job) -> int:
    """Tokens of the workload: the text's length, or an image's patches and class token."""
    if not is_encoder(model):
        return job.workload.tokens
    config = cast("PreTrainedModel", model).config
    if not hasattr(config, "patch_size"):
        return job.workload.tokens
    sizes = zip(_both(config.image_size), _both(config.patch_size), strict=True)
    return math.prod(image // patch for image, patch in sizes) + 1


def _both(size: int | Sequence[int]) -> Sequence[int]:
    """Height and width, of which transformers takes one number where they are the same."""
    return (size, size) if isinstance(size, int) else size


def _batches(settings: PruneSettings, job: Job, what: str) -> Iterator[Batch]:
    if job.data is None and not _needs_data(settings, job.goal):
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
    version=3,
    accepts="torch",
    produces="torch",
    settings=PruneSettings,
    uses=("data", "widths", "workload", "seed", "jobs"),
    needs_data=_needs_data,
    run=run,
    check=check,
    needs_costs=lambda settings: cast("PruneSettings", settings).cost == "measured",
)
