"""The teacher: what it answers, computed as fast as its processor allows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.distillation.products import Precision, products
from edgekit.environment import host
from edgekit.formats.encoder import is_encoder
from edgekit.tasks.base import Task, TrainingOutput

if TYPE_CHECKING:
    import torch
    from torch import nn

TeacherPrecision = Precision | Literal["auto"]
# Extensions with which a processor multiplies bfloat16 faster than float32.
MULTIPLIES_BF16 = ("amx_tile", "avx512_bf16")


@dataclass(frozen=True)
class Teacher:
    """A model that answers and learns nothing.

    Attributes:
        model: in evaluation mode, on its device.
        task: calls it.
        precision: of its products.
    """

    model: nn.Module
    task: Task
    precision: Precision

    def answer(
        self, tensors: Mapping[str, torch.Tensor], *, hidden_states: bool = False, attentions: bool = False
    ) -> TrainingOutput:
        """Its answers in float32, without gradients.

        Args:
            tensors: a batch, on the model's device.
            hidden_states: whether these are wanted, too.
            attentions: the same.
        """
        import torch

        own = next((value.dtype for value in self.model.parameters() if value.is_floating_point()), torch.float32)
        fed = {name: value.to(own) if value.is_floating_point() else value for name, value in tensors.items()}
        inside: Precision = self.precision if own == torch.float32 else "fp32"
        with torch.no_grad(), products(inside, next(iter(tensors.values())).device.type):
            given = self.task.call(self.model, fed, hidden_states=hidden_states, attentions=attentions)
        return given.float()


def prepare_teacher(model: nn.Module, task: Task, precision: TeacherPrecision, device: torch.device) -> Teacher:
    """A teacher on a device.

    An encoder that computes in bfloat16 holds its weights in it, which spares their conversion at every call; what it
    says changes in the third digit, and nothing is trained in it.

    Args:
        model: the original, in float32; stays as it is.
        task: calls it.
        precision: of its products; auto is bfloat16 for encoders on processors that multiply it, else float32.
        device: where.
    """
    import torch

    encoder = is_encoder(model)
    if precision == "auto":
        able = device.type == "cpu" and any(host().has(extension) for extension in MULTIPLIES_BF16)
        precision = "bf16" if encoder and able else "fp32"
    if precision == "bf16" and encoder:
        model = copy.deepcopy(model).to(torch.bfloat16)
    return Teacher(model.to(device).eval(), task, precision)
