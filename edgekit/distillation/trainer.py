"""The trainer: AdamW with warm-up and cosine decay, the best student on the selection split, checkpoints and resume.

Every random choice is drawn from the seed and the step, so that a run that was killed and went on computes what an
uninterrupted one does. Through ``accelerate``, the same code runs on a GPU and on several.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from edgekit.distillation.answers import Answers, Place, sheets_of
from edgekit.distillation.checkpoint import (
    Progressed,
    TrainingState,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    student_tensors,
)
from edgekit.distillation.frozen import Frozen, Rounder, freeze_tables
from edgekit.distillation.losses import LayerMap, Weights, answer_loss, distillation_loss
from edgekit.distillation.products import Precision, products
from edgekit.distillation.rounding import Rounding, round_while_learning
from edgekit.distillation.teacher import Teacher, TeacherPrecision, prepare_teacher
from edgekit.distillation.timetable import Timetable
from edgekit.errors import UsageError
from edgekit.formats.encoder import is_encoder
from edgekit.formats.thinning import watch_tokens
from edgekit.formats.torch import batch_norms
from edgekit.progress import Progress
from edgekit.tasks.base import LABELS, MASK, Batch, Examples, Task, ordered_batches, shuffled_batches

if TYPE_CHECKING:
    import torch
    from torch import nn

Note = Callable[..., None]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs, most_steps: training ends at whichever comes first.
        batch_size: samples a step.
        learning_rate: at its peak.
        warmup: share of the steps over which it rises.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        evaluate_every: steps between two looks at the selection split.
        patience: looks without a better student before training ends early.
        checkpoint_every: steps between two checkpoints.
        precision: of the student's products while training.
        dropout: whether the student's dropout is on.
        teacher: precision of the teacher's products.
        freeze: whether tables of embeddings that are the teacher's own stay as they are.
        rounder: what quantization will leave of the table of words, which then takes its place while it is frozen.
        rounded: share of the steps, the last ones, that are learned with rounded weights and inputs.
        rounding: how they are rounded then.
    """

    epochs: float
    most_steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    clip: float
    evaluate_every: int
    patience: int
    checkpoint_every: int
    precision: Precision
    dropout: bool
    teacher: TeacherPrecision = "fp32"
    freeze: bool = False
    rounder: Rounder | None = None
    rounded: float = 0.0
    rounding: Rounding = field(default_factory=Rounding)

    def steps(self, samples: int) -> int:
        """Steps in all, for so many training samples."""
        return max(1, min(self.most_steps, round(self.epochs * max(1, samples // self.batch_size))))

    def first_rounded(self, steps: int) -> int | None:
        """The step from which on weights and inputs are rounded; None where they never are."""
        return steps - max(1, round(self.rounded * steps)) if self.rounded else None

    def rising(self, steps: int) -> int:
        """Steps of warm-up."""
        return max(1, round(self.warmup * steps))

    def rate(self, step: int, steps: int) -> float:
        """A step's learning rate: linear warm-up, then half a cosine to zero (Loshchilov and Hutter 2017, eq. 5)."""
        rising = self.rising(steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


@dataclass(frozen=True)
class Lesson:
    """Who teaches whom, what, and on what.

    Attributes:
        teacher: the original.
        student: trained in place.
        layers: which parts correspond.
        weights: of the losses.
        task: of both.
        train, selection: samples to train on, and to choose the best student on.
        place: where a teacher's answers are kept; None where it is asked each time.
        agree: told whether an attempt before has kept them; whether this one does the same.
    """

    teacher: nn.Module
    student: nn.Module
    layers: LayerMap
    weights: Weights
    task: Task
    train: Examples
    selection: Examples
    place: Place | None = None
    agree: Callable[[bool], bool] = lambda kept: True


def train(
    lesson: Lesson,
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    progress: Progress,
    note: Note,
    timetable: Timetable | None = None,
) -> dict[str, JsonValue]:
    """Train the student and leave the best one in it: the one whose answers on the selection split are closest.

    Args:
        lesson: who teaches whom.
        schedule: how long and how fast.
        folder: of the checkpoints; a run of the same lesson that was killed goes on from there.
        seed: of the order of the samples, and of dropout.
        progress: told of every step.
        note: told of checkpoints and of where the run goes on.
        timetable: of the schedule, where a clock may shorten it.

    Returns:
        Figures for the report.

    Raises:
        UsageError: the loss is no longer a number.
    """
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="no")  # and not what the environment says: it is no part of any key
    frozen = Frozen(0, rounded=False)
    if schedule.freeze:
        frozen = freeze_tables(lesson.student, lesson.teacher, schedule.rounder, lesson.layers.columns)
    learning = [weights for weights in lesson.student.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True)
    plan = timetable or Timetable(schedule, schedule.steps(len(lesson.train)))

    def fits(progressed: Progressed) -> bool:
        same = progressed.answers_kept is None or lesson.agree(progressed.answers_kept)
        return same and plan.holds(progressed.step, progressed.changes)

    state = load_checkpoint(folder, lesson.student, optimizer, fits) or TrainingState()
    plan.begin(state.progressed.step)
    note("distill.start", step=state.progressed.step, steps=plan.steps, checkpoint_every=schedule.checkpoint_every)
    student, optimizer = accelerator.prepare(lesson.student, optimizer)
    teacher = prepare_teacher(lesson.teacher, lesson.task, schedule.teacher, accelerator.device)
    loop = _Loop(lesson, schedule, accelerator, teacher, student, optimizer, seed)
    progress.start("distill", plan.steps)
    progress.advance(state.progressed.step)
    with closing(loop):
        _take_steps(loop, plan, state, folder, progress, note)
    load_tensors(lesson.student, state.best)
    lesson.student.to("cpu").eval()
    progress.finish(f"best at step {state.progressed.best_step} of {plan.steps}")
    note("distill.done", step=state.progressed.step, best_step=state.progressed.best_step)
    figures = _figures(state.progressed, plan.planned) | {
        "frozen_weights": frozen.weights,
        "teacher": teacher.precision,
    }
    figures |= {"embeddings": "int4"} if frozen.rounded else {}
    return figures | ({} if plan.first_rounded is None else {"rounded_from": plan.first_rounded})


def _take_steps(
    loop: _Loop, plan: Timetable, state: TrainingState, folder: Path, progress: Progress, note: Note
) -> None:
    """All steps from where the state is, with looks and checkpoints."""
    schedule, student = loop.schedule, loop.lesson.student
    while state.progressed.step < plan.steps and not state.progressed.stopped:
        step = state.progressed.step
        if plan.first_rounded is not None and step >= plan.first_rounded:
            _begin_rounding(state, loop, plan.first_rounded)
        loss = loop.step(step, plan.rate(step))
        done = step + 1
        state.progressed = state.progressed.model_copy(update={"step": done})
        plan.advance(done)
        if done % schedule.evaluate_every == 0 or done == plan.steps:
            patience = schedule.patience if plan.first_rounded is None or step >= plan.first_rounded else plan.steps
            _keep_best(state, _finite(loop.selection_loss(), step), student, patience)
        if done % schedule.checkpoint_every == 0 and done < plan.steps and loop.accelerator.is_main_process:
            state.progressed = state.progressed.model_copy(
                update={"changes": plan.changes, "answers_kept": loop.answers_kept}
            )
            save_checkpoint(folder, state, student, loop.optimizer)
            note("distill.checkpoint", step=done)
        progress.advance(1, f"loss {loss:.3f}")


@dataclass
class _Loop:
    """The parts of one step, bound together."""

    lesson: Lesson
    schedule: Schedule
    accelerator: Any
    teacher: Teacher
    student: nn.Module
    optimizer: Any
    seed: int
    _epoch: int = 0
    _batches: list[list[int]] = field(default_factory=list)
    _answers: list[torch.Tensor] = field(default_factory=list)  # the teacher's, to each batch of the selection split
    _end: Callable[[], None] | None = None
    _kept: Answers | None = None

    def __post_init__(self) -> None:
        """On a processor a file is read faster than the teacher answers: ask it about each training sample once."""
        lesson, alone = self.lesson, self.accelerator.num_processes == 1 and self.accelerator.device.type == "cpu"
        if lesson.place is not None and alone and not lesson.weights.attention and is_encoder(lesson.teacher):
            sheets = sheets_of(lesson.train, self.schedule.batch_size, self.seed)
            layers = lesson.layers.hidden if lesson.weights.hidden else ()
            self._kept = Answers(self.teacher, lesson.train, sheets, layers, lesson.place)

    @property
    def answers_kept(self) -> bool | None:
        """Whether the teacher's answers are kept; None where they cannot be, or none was wanted yet."""
        return self._kept.kept if self._kept is not None else None

    def close(self) -> None:
        """The student computes as it did before, and no file is open."""
        if self._end is not None:
            self._end()
            self._end = None
        if self._kept is not None:
            self._kept.close()

    def begin_rounding(self) -> None:
        """From here on the student learns with rounded weights and inputs."""
        if self._end is None:
            self._end = round_while_learning(self.lesson.student, self.schedule.rounding)

    def step(self, step: int, rate: float) -> float:
        """One optimizer step at a learning rate; returns the loss."""
        import torch

        indices = self._indices(step)
        if self.schedule.dropout:
            torch.manual_seed(self.seed * 1_000_003 + step)
        self.student.train(self.schedule.dropout)
        for _, norm in batch_norms(self.student):
            norm.train(len(indices) > 1)  # they follow what they see, and one sample alone has no spread
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(indices)
        value = _finite(float(loss.detach()), step)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.student.parameters(), self.schedule.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def selection_loss(self) -> float:
        """The loss of the student's answers over the selection split; the teacher is asked once per training."""
        import torch

        self.student.eval()
        examples, task, total, count = self.lesson.selection, self.lesson.task, 0.0, 0
        weights = self.lesson.weights
        if not weights.logits and not weights.task:  # its answers are not taught: the teacher's are what counts
            weights = replace(weights, logits=1.0)
        for number, indices in enumerate(ordered_batches(examples, self.schedule.batch_size)):
            tensors = self._tensors(examples.batch(indices))
            if number == len(self._answers):
                self._answers.append(self.teacher.answer(tensors).logits)
            with torch.no_grad(), products(self.schedule.precision, self.accelerator.device.type):
                learned = task.call(self.student, tensors).float().logits
            loss = answer_loss(learned, self._answers[number], task=task, labels=tensors.get(LABELS), weights=weights)
            total += float(loss) * len(indices)
            count += len(indices)
        return total / count

    def _indices(self, step: int) -> list[int]:
        """The samples of a step on this process."""
        if not self._batches:
            self._batches = self._shuffle(0)
        epoch, place = divmod(step, len(self._batches))
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        indices = self._batches[place]
        return indices[self.accelerator.process_index :: self.accelerator.num_processes] or indices

    def _shuffle(self, epoch: int) -> list[list[int]]:
        return shuffled_batches(self.lesson.train, self.schedule.batch_size, self.seed, epoch)

    def _tensors(self, batch: Batch) -> dict[str, torch.Tensor]:
        import torch

        return {name: torch.from_numpy(values).to(self.accelerator.device) for name, values in batch.items()}

    def _loss(self, indices: list[int]) -> torch.Tensor:
        lesson, weights = self.lesson, self.lesson.weights
        tensors = self._tensors(lesson.train.batch(indices))
        hidden, attention = bool(weights.hidden), bool(weights.attention)
        if self._kept is not None:
            taught = self._kept.of(indices, tensors)
        else:
            taught = self.teacher.answer(tensors, hidden_states=hidden, attentions=attention)
        with products(self.schedule.precision, self.accelerator.device.type), watch_tokens(lesson.student) as handed:
            learned = lesson.task.call(self.student, tensors, hidden_states=hidden, attentions=attention)
        return distillation_loss(
            learned.float(),
            taught,
            task=lesson.task,
            labels=tensors.get(LABELS),
            mask=tensors.get(MASK),
            layers=lesson.layers,
            weights=weights,
            handed=handed,
        )


def _finite(loss: float, step: int) -> float:
    """The loss, as long as it is a number.

    Raises:
        UsageError: it is none.
    """
    if not math.isfinite(loss):
        raise UsageError(
            f"distillation diverged: the loss is {loss} at step {step}",
            id="usage.training-diverged",
            hint="Lower the learning rate: --set distill.learning_rate=3e-5.",
        )
    return loss


def _begin_rounding(state: TrainingState, loop: _Loop, first: int) -> None:
    """Round; at the first such step the best student is forgotten, since it has not learned to be rounded."""
    loop.begin_rounding()
    if state.progressed.step == first:
        state.best = {}
        state.progressed = state.progressed.model_copy(update={"best_loss": None, "best_step": 0})


def _keep_best(state: TrainingState, loss: float, student: nn.Module, patience: int) -> None:
    now = state.progressed
    losses = (*now.losses, (now.step, loss))
    if now.best_loss is None or loss < now.best_loss:
        state.best = {name: value.cpu() for name, value in student_tensors(student).items()}
        state.progressed = now.model_copy(update={"losses": losses, "best_loss": loss, "best_step": now.step})
        return
    since = sum(1 for step, _ in losses if step > now.best_step)
    state.progressed = now.model_copy(update={"losses": losses, "stopped": since >= patience})


def _figures(progressed: Progressed, steps: int) -> dict[str, JsonValue]:
    return {
        "steps": progressed.step,
        "planned_steps": steps,
        "best_step": progressed.best_step,
        "best_selection_loss": progressed.best_loss,
        "selection_losses": [[step, loss] for step, loss in progressed.losses],
        "stopped_early": progressed.stopped,
    }
