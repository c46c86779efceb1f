"""Distillation: the original teaches the pruned student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from edgekit.artifact import Artifact
from edgekit.disk import free_bytes, need_room
from edgekit.distillation.answers import Place
from edgekit.distillation.losses import LayerMap, Weights
from edgekit.distillation.products import Precision
from edgekit.distillation.rounding import Rounding, mostly_convolutions
from edgekit.distillation.teacher import TeacherPrecision
from edgekit.distillation.timetable import Change, Timetable
from edgekit.distillation.trainer import Lesson, Schedule, train
from edgekit.errors import UsageError
from edgekit.formats.encoder import encoder_layers, evenly, is_encoder, stream_width
from edgekit.formats.plans import Plan
from edgekit.formats.surgery import EncoderPlan, whole_plan
from edgekit.formats.thinning import leaves_tokens_out
from edgekit.formats.torch import load_model, save_weights, torch_components
from edgekit.quantization.blocks import round_to_blocks
from edgekit.quantization.schemes import Method, SchemeName, reads_blocks, resolve_scheme
from edgekit.stages.base import Facet, Goal, Job, Stage, StageSettings, ends_of, finish
from edgekit.target import Target

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


# What "auto" stands for.
ENCODER_RATE, MODULE_RATE = 1e-4, 1e-3
# The most that a teacher's answers may take on the disk, in bytes: 100,000 sentences of 20 tokens by six layers of 384
# take 9 GB.
MOST_KEPT = 10 * 10**9
FEWEST_EPOCHS, MOST_EPOCHS, FEWEST_STEPS = 2.0, 40.0, 2000

Positive = Annotated[float, Field(gt=0)]


class DistillSettings(StageSettings):
    epochs: Positive | Literal["auto"] = Field(
        "auto",
        description="passes over the training split; auto: 2, and up to 40 while there are fewer than 2000 steps",
    )
    max_steps: int = Field(4200, ge=1, description="training ends here at the latest")
    batch_size: int = Field(32, ge=1, description="samples a step")
    learning_rate: Positive | Literal["auto"] = Field(
        "auto", description="at its peak; auto: 1e-4 for encoders, 1e-3 for other modules"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    temperature: float = Field(2.0, gt=0, description="of the teacher's softened answers")
    logits: float = Field(1.0, ge=0, description="weight of the softened answers")
    task: float = Field(0.5, ge=0, description="weight of the labels, beside what the teacher says")
    hidden: float = Field(1.0, ge=0, description="weight of the hidden states")
    attention: float = Field(0.0, ge=0, description="weight of the attention maps (slower: they have to be computed)")
    dropout: bool = Field(False, description="whether the student's dropout is on")
    precision: Precision = Field("fp32", description="of the student's products while training")
    teacher_precision: TeacherPrecision = Field(
        "auto",
        description="of the teacher's products; auto: bf16 for encoders on processors that multiply it, else fp32",
    )
    freeze_embeddings: bool = Field(
        True, description="whether tables of embeddings that are the teacher's own stay as they are"
    )
    embeddings: Literal["float", "int4"] = Field(
        "float",
        description="int4 rounds the frozen table of words before the first step, as quantize.embeddings=int4 will",
    )
    quantize_last: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps, the last ones, that are learned with rounded weights and inputs",
    )
    quantize_bits: Literal[8, 4] = Field(
        8, description="of the weights in these steps: 8, or 4 for quantize.method=int4"
    )
    quantize_scheme: SchemeName = Field(
        "auto", description="types of activations and weights in these steps: as quantize.scheme"
    )
    evaluate_every: int = Field(300, ge=1, description="steps between two looks at the selection split")
    patience: int = Field(6, ge=1, description="looks without a better student before training ends early")
    checkpoint_every: int = Field(200, ge=1, description="steps between two checkpoints")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("DistillSettings", settings)
    teacher, _ = load_model(job.task_for(job.original))  # the student may have a tokenizer, and so a task, of its own
    student, plan = load_model(job.task_for(artifact))
    if leaves_tokens_out(student):
        refuse_all_tokens(settings)
    layers = layer_map(teacher, student, plan, own=artifact.manifest.teacher is not None)
    hidden = settings.hidden if layers.hidden else 0.0
    attention = settings.attention if layers.heads else 0.0
    if attention:
        for model in (teacher, student):  # only the plain implementation hands its attention maps out
            cast("PreTrainedModel", model).set_attn_implementation("eager")
    data = job.need_data()
    lesson = Lesson(
        teacher=teacher,
        student=student,
        layers=layers,
        weights=Weights(settings.logits, settings.task, hidden, attention, settings.temperature),
        task=job.task,
        train=data.train,
        selection=data.selection,
        place=_place(settings, artifact, job),
        agree=lambda kept: job.decisions.decide(_kept_name(artifact), lambda: kept) == kept,
    )
    schedule = _schedule(settings, len(data.train), encoder=is_encoder(student))
    if settings.quantize_last:
        rounding = rounding_for(settings, job.target, convolutional=mostly_convolutions(student))
        schedule = replace(schedule, rounded=settings.quantize_last, rounding=rounding)
    timetable = _timetable(schedule, len(data.train), artifact, job)
    figures = train(
        lesson, schedule, job.work, seed=job.seed, progress=job.progress, note=job.note, timetable=timetable
    )
    folder = job.scratch()
    save_weights(student, folder, plan)
    asked = {"hidden states": (settings.hidden, hidden), "attention maps": (settings.attention, attention)}
    figures["not_compared"] = [name for name, (wanted, used) in asked.items() if wanted and not used]
    return finish(folder, artifact, DISTILL, settings, changes={"components": torch_components()}, details=figures)


def refuse_all_tokens(settings: DistillSettings) -> None:
    """Refuse what layers that leave tokens out do not give: maps of attention between the same tokens, and dropout.

    Raises:
        UsageError: it was asked for.
    """
    asked = ["distill.dropout=true"] if settings.dropout else []
    asked += [f"distill.attention={settings.attention:g}"] if settings.attention else []
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} cannot go with prune.tokens",
            id="usage.settings-conflict",
            why="layers that leave tokens out have no maps of attention to compare with the teacher's, and no dropout",
            hint="Leave it to its default.",
        )


def check(settings: StageSettings, goal: Goal) -> None:
    settings = cast("DistillSettings", settings)
    if settings.embeddings == "int4":
        _check_blocks("embeddings=int4", goal)
        if not settings.freeze_embeddings:
            raise UsageError(
                "distill.embeddings=int4 cannot go with distill.freeze_embeddings=false",
                id="usage.settings-conflict",
                why="a table that is trained does not stay rounded",
                hint="Leave one of them away.",
            )
    if not settings.quantize_last:
        return
    if settings.quantize_bits == 4:
        _check_blocks("quantize_bits=4", goal)
    rounding_for(settings, goal.target, convolutional=False)


def _check_blocks(setting: str, goal: Goal) -> None:
    """Refuse a setting that is for weights in INT4, where nothing reads them."""
    if goal.format == "onnx" and reads_blocks(goal.target):
        return
    where = f"the format {goal.format}" if goal.format != "onnx" else f"the target {goal.target.name!r}"
    raise UsageError(
        f"distill.{setting} cannot go with {where}",
        id="usage.settings-conflict",
        why="only onnxruntime on a CPU reads weights in INT4",
        hint=f"Leave distill.{setting.partition('=')[0]} away.",
    )


def rounding_for(settings: DistillSettings, target: Target, *, convolutional: bool) -> Rounding:
    """How the stage quantize will round, by the target and the settings.

    Args:
        settings: with the bits and the scheme.
        target: the device.
        convolutional: whether most of the weights are in convolutions, which are then quantized.

    Raises:
        UsageError: the target takes no such integers.
    """
    method: Method = "auto" if settings.quantize_bits == 8 else "int4"
    scheme = resolve_scheme(method, settings.quantize_scheme, "int8", target, convolutional=convolutional)
    if scheme.method == "fp16":
        raise UsageError(
            f"distill.quantize_last cannot go with the target {target.name!r}",
            id="usage.settings-conflict",
            why="it is taken to FP16, which is too fine to be learned",
            hint="Leave distill.quantize_last away, or name the integers: --set distill.quantize_scheme=s8s8.",
        )
    return Rounding(
        bits=settings.quantize_bits,
        activations=scheme.activations if scheme.method == "static" else "u8",
        weights=scheme.weights,
        last=64 if scheme.reduce_range else 127,
        per_channel=scheme.per_channel,
        static=scheme.method == "static",
        convolutions=scheme.convolutions,
    )


def _also_uses(settings: StageSettings) -> tuple[Facet, ...]:
    """The target's integers, where they are learned."""
    return ("int8",) if cast("DistillSettings", settings).quantize_last else ()


def layer_map(teacher: nn.Module, student: nn.Module, plan: Plan | None, *, own: bool = False) -> LayerMap:
    """Which of the teacher's layers and heads the student's layers stand for; nothing where they cannot be compared.

    Args:
        teacher: the original.
        student: a pruned copy of it, or a model of one's own.
        plan: what the student was cut by.
        own: whether the student is a model of one's own: its heads are then none of the teacher's.
    """
    if not (is_encoder(teacher) and is_encoder(student)):
        return LayerMap((), (), ())
    taught = len(encoder_layers(teacher))
    if own:
        same = stream_width(teacher) == stream_width(student)
        return LayerMap(evenly(len(encoder_layers(student)), taught) if same else (), (), ())
    cut = plan if isinstance(plan, EncoderPlan) else whole_plan(student)
    return LayerMap(
        hidden=cut.stands_for(taught),
        attention=tuple(layer.index for layer in cut.layers),
        heads=tuple(layer.heads for layer in cut.layers),
        columns=cut.hidden,
    )


def _schedule(settings: DistillSettings, samples: int, *, encoder: bool) -> Schedule:
    rate, taught = settings.learning_rate, settings.teacher_precision
    return Schedule(
        epochs=_epochs(settings, samples) if settings.epochs == "auto" else settings.epochs,
        most_steps=settings.max_steps,
        batch_size=settings.batch_size,
        learning_rate=(ENCODER_RATE if encoder else MODULE_RATE) if rate == "auto" else rate,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        evaluate_every=settings.evaluate_every,
        patience=settings.patience,
        checkpoint_every=settings.checkpoint_every,
        precision=settings.precision,
        dropout=settings.dropout,
        teacher=settings.precision if taught == "auto" and settings.precision != "fp32" else taught,
        freeze=settings.freeze_embeddings,
        rounder=round_to_blocks if settings.embeddings == "int4" else None,
    )


def _place(settings: DistillSettings, artifact: Artifact, job: Job) -> Place | None:
    """Where the teacher's answers are kept for all trainings of a run, if there is room.

    Whether they are is a decision: an answer that was kept is that of another batch than one asked for now, and differs
    in its last bits.
    """
    if job.shared is None:
        return None
    folder = job.shared() / f"answers-{settings.batch_size}-{settings.teacher_precision}-{settings.precision}"
    name = _kept_name(artifact)

    def place(size: int) -> Path | None:
        there = 512 * sum(file.stat().st_blocks for file in folder.glob("*.bin"))
        kept = job.decisions.decide(name, lambda: size <= min(MOST_KEPT, there + free_bytes(folder) // 2))
        if not kept:
            return None
        need_room([(folder, max(0, size - there))])
        return folder

    return place


def _kept_name(artifact: Artifact) -> str:
    """Name of the decision whether the teacher's answers are kept."""
    return f"{DISTILL.name}.answers.{_number(artifact)}"


def _number(artifact: Artifact) -> int:
    """Which distillation of the line this one is, from 1 on."""
    return 1 + sum(record.stage == DISTILL.name for record in artifact.manifest.stages)


def _timetable(schedule: Schedule, samples: int, artifact: Artifact, job: Job) -> Timetable:
    """The timetable of a training, each change of which is a decision."""
    prefix = ends_of(DISTILL.name, _number(artifact))
    values = (value for name, value in job.decisions.inside(DISTILL.name).items() if name.startswith(prefix))
    known = [Change(*cast("list[int]", value)) for value in values]

    def record(change: Change) -> Change:
        known.append(change)
        return Change(*cast("list[int]", job.decisions.decide(f"{prefix}{len(known)}", lambda: list(change))))

    return Timetable(schedule, schedule.steps(samples), known=known, left=job.left, record=record)


def planned_steps(settings: DistillSettings, samples: int) -> int:
    """Steps of training on so many samples, if nothing ends it early."""
    return _schedule(settings, samples, encoder=True).steps(samples)


def _epochs(settings: DistillSettings, samples: int) -> float:
    """Two passes, or as many as make enough steps where the training split is small."""
    enough = FEWEST_STEPS * settings.batch_size / samples
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, enough))


DISTILL = Stage(
    "distill",
    version=5,
    accepts="torch",
    produces="torch",
    settings=DistillSettings,
    uses=("data", "original", "seed", "jobs"),
    needs_data=lambda settings, goal: True,
    run=run,
    check=check,
    also_uses=_also_uses,
)
