"""Distillation: the original teaches the pruned student."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from edgekit.artifact import Artifact
from edgekit.distillation.losses import LayerMap, Weights
from edgekit.distillation.trainer import Lesson, Schedule, train
from edgekit.formats.encoder import encoder_layers
from edgekit.formats.surgery import Plan, whole_plan
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.stages.base import Job, Stage, StageSettings, finish

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class DistillSettings(StageSettings):
    epochs: float = Field(2.0, gt=0, description="passes over the training split")
    max_steps: int = Field(4200, ge=1, description="training ends here at the latest")
    batch_size: int = Field(32, ge=1, description="samples a step")
    learning_rate: float = Field(1e-4, gt=0, description="at its peak")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    temperature: float = Field(2.0, gt=0, description="of the teacher's softened answers")
    logits: float = Field(1.0, ge=0, description="weight of the softened answers")
    task: float = Field(0.5, ge=0, description="weight of the labels")
    hidden: float = Field(1.0, ge=0, description="weight of the hidden states")
    attention: float = Field(0.0, ge=0, description="weight of the attention maps (slower: they have to be computed)")
    dropout: bool = Field(False, description="whether the student's dropout is on")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the products while training")
    evaluate_every: int = Field(300, ge=1, description="steps between two looks at the selection split")
    patience: int = Field(6, ge=1, description="looks without a better student before training ends early")
    checkpoint_every: int = Field(200, ge=1, description="steps between two checkpoints")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("DistillSettings", settings)
    teacher, _ = load_model(job.task)
    student, plan = load_model(job.task_for(artifact))
    if settings.attention:
        for model in (teacher, student):  # only the plain implementation hands its attention maps out
            cast("PreTrainedModel", model).set_attn_implementation("eager")
    data = job.need_data()
    lesson = Lesson(
        teacher=teacher,
        student=student,
        layers=layer_map(teacher, plan or whole_plan(student)),
        weights=Weights(settings.logits, settings.task, settings.hidden, settings.attention, settings.temperature),
        task=job.task,
        train=data.train,
        selection=data.selection,
    )
    figures = train(lesson, _schedule(settings), job.work, seed=job.seed, progress=job.progress, note=job.note)
    folder = job.scratch()
    save_weights(student, folder, plan)
    return finish(folder, artifact, DISTILL, settings, changes={"components": torch_components()}, details=figures)


def layer_map(teacher: nn.Module, plan: Plan) -> LayerMap:
    """Which of the teacher's layers and heads the student's layers stand for, after the plan it was cut by."""
    return LayerMap(
        hidden=plan.stands_for(len(encoder_layers(teacher))),
        attention=tuple(layer.index for layer in plan.layers),
        heads=tuple(layer.heads for layer in plan.layers),
    )


def _schedule(settings: DistillSettings) -> Schedule:
    return Schedule(
        epochs=settings.epochs,
        most_steps=settings.max_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        evaluate_every=settings.evaluate_every,
        patience=settings.patience,
        checkpoint_every=settings.checkpoint_every,
        precision=settings.precision,
        dropout=settings.dropout,
    )


DISTILL = Stage(
    "distill",
    version=1,
    accepts="torch",
    produces="torch",
    settings=DistillSettings,
    uses=("data", "original", "seed", "jobs"),
    needs_data=lambda settings, target: True,
    run=run,
)
