"""Checkpoints of a training run: tensors in safetensors, everything else in JSON, nothing pickled.

A checkpoint is a folder named by its step, with the hash of each file, renamed into place when it is whole and on the
disk; the one before it is removed after. One that is damaged is named in the log, and training goes on from the one
before it. What was decided while it was trained is in it, too: only a training that decides the same goes on from it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from edgekit.cache import name_damage, newest_whole, put_whole
from edgekit.distillation.timetable import Change

if TYPE_CHECKING:
    import torch
    from torch import nn

STATE, STUDENT, BEST, OPTIMIZER = "state.json", "student.safetensors", "best.safetensors", "optimizer.safetensors"
PREFIX = "step-"


class Progressed(BaseModel):
    """How far a training run is.

    Attributes:
        step: optimizer steps that are done.
        best_step: step of the best student so far.
        best_loss: its loss on the selection split; None before the first evaluation.
        losses: for each evaluation, step and loss.
        stopped: whether it ended early.
        changes: of the plan that a clock has made so far.
        answers_kept: whether the teacher's answers are kept; None where they cannot be.
    """

    model_config = ConfigDict(frozen=True)

    step: int = 0
    best_step: int = 0
    best_loss: float | None = None
    losses: tuple[tuple[int, float], ...] = ()
    stopped: bool = False
    changes: tuple[Change, ...] = ()
    answers_kept: bool | None = None


@dataclass
class TrainingState:
    """All that a training run needs to go on.

    Attributes:
        progressed: how far it is.
        best: the best student's tensors by name.
    """

    progressed: Progressed = field(default_factory=Progressed)
    best: dict[str, torch.Tensor] = field(default_factory=dict)


def save_checkpoint(folder: Path, state: TrainingState, student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint, whole or not at all, and remove the older ones."""
    from safetensors.torch import save_file

    staged = folder / f".{uuid.uuid4().hex}"
    staged.mkdir(parents=True)
    save_file(student_tensors(student), staged / STUDENT)
    save_file(_optimizer_tensors(student, optimizer), staged / OPTIMIZER)
    if state.best:
        save_file(state.best, staged / BEST)
    (staged / STATE).write_text(state.progressed.model_dump_json(), encoding="utf-8")
    place = folder / f"{PREFIX}{state.progressed.step:08d}"
    put_whole(staged, place)
    for other in folder.iterdir():
        if other.is_dir() and other != place and (other.name.startswith((PREFIX, "."))):
            shutil.rmtree(other, ignore_errors=True)


def load_checkpoint(
    folder: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    fits: Callable[[Progressed], bool] = lambda progressed: True,
) -> TrainingState | None:
    """Put the newest whole checkpoint into student and optimizer; None when there is none.

    Args:
        folder: of the checkpoints.
        student: as it was when the training began.
        optimizer: likewise.
        fits: whether this training goes on from where a checkpoint is; else it begins anew.
    """
    from safetensors.torch import load_file

    place = newest_whole(folder, PREFIX)
    if place is None:
        return None
    progressed = Progressed.model_validate_json((place / STATE).read_bytes())
    if not fits(progressed):
        name_damage(f"the checkpoint {place.name} is of a training that decided otherwise; it begins anew")
        return None
    load_tensors(student, load_file(place / STUDENT))
    _restore_optimizer(student, optimizer, load_file(place / OPTIMIZER))
    return TrainingState(progressed, load_file(place / BEST) if (place / BEST).exists() else {})


def student_tensors(student: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of what training changes, by name: parameters that learn, and buffers; shared ones once."""
    return {name: value.detach().clone().contiguous() for name, value in _named_tensors(student)}


def load_tensors(student: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put such copies back."""
    import torch

    with torch.no_grad():
        for name, value in _named_tensors(student):
            value.copy_(tensors[name])


def _named_tensors(student: nn.Module) -> list[tuple[str, torch.Tensor]]:
    kept = student.state_dict()
    buffers = [(name, value) for name, value in student.named_buffers() if name in kept]
    learning = [(name, weights) for name, weights in student.named_parameters() if weights.requires_grad]
    return [*learning, *buffers]


def _optimizer_tensors(student: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Adam's moments and step counts, under the names of the parameters."""
    return {
        f"{name}|{key}": value.detach().clone().contiguous()
        for name, parameter in student.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(student: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, torch.Tensor]) -> None:
    parameters = dict(student.named_parameters())
    for key, value in moments.items():
        name, _, part = key.rpartition("|")
        optimizer.state[parameters[name]][part] = value
