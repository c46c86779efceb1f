"""What the student is held to, term by term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.formats.thinning import Handed
from edgekit.tasks.base import Task, TrainingOutput

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Weights:
    """How much each term counts; a term of weight 0 is not computed.

    Attributes:
        logits: against the teacher's softened answers.
        task: against the labels.
        hidden: against the teacher's hidden states.
        attention: against the teacher's attention maps.
        temperature: of the softened answers.
    """

    logits: float
    task: float
    hidden: float
    attention: float
    temperature: float


@dataclass(frozen=True)
class LayerMap:
    """Which of the teacher's parts each of the student's stands for.

    An empty tuple: these parts cannot be compared.

    Attributes:
        hidden: for each student layer, the index in the teacher's hidden states that its output should equal.
        attention: for each student layer, the teacher layer that it was cut from.
        heads: for each student layer, the teacher's heads that it kept.
        columns: of the teacher's stream, those that the student kept; None where it kept all.
    """

    hidden: tuple[int, ...]
    attention: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    columns: tuple[int, ...] | None = None


def distillation_loss(
    student: TrainingOutput,
    teacher: TrainingOutput,
    *,
    task: Task,
    labels: torch.Tensor | None,
    mask: torch.Tensor | None,
    layers: LayerMap,
    weights: Weights,
    handed: Sequence[Handed | None] = (),
) -> torch.Tensor:
    """The weighted sum of all terms, a scalar.

    Args:
        student: with gradients.
        teacher: without.
        task: gives the loss against the labels.
        labels: [batch] or [batch, classes]; None skips that term.
        mask: [batch, tokens], 1 for real tokens; None when all are.
        layers: what is compared with what.
        weights: of the terms.
        handed: the tokens that each of the student's layers has handed on; nothing where all hand on all.
    """
    total = answer_loss(student.logits, teacher.logits, task=task, labels=labels, weights=weights)
    if weights.hidden:
        total = total + weights.hidden * hidden_states(
            student.hidden_states, teacher.hidden_states, layers.hidden, mask, layers.columns, handed
        )
    if weights.attention:
        total = total + weights.attention * attention_maps(student.attentions, teacher.attentions, layers)
    return total


def answer_loss(
    student: torch.Tensor, teacher: torch.Tensor, *, task: Task, labels: torch.Tensor | None, weights: Weights
) -> torch.Tensor:
    """The terms of the answers alone, a scalar: against the teacher's and against the labels.

    It is what a model is used for, and by it students compare whose hidden states do not: those of other depths.

    Args:
        student: logits [batch, outputs], with gradients.
        teacher: logits [batch, outputs].
        task: gives the loss against the labels.
        labels: [batch] or [batch, classes]; None skips that term.
        weights: of the terms.
    """
    total = student.new_zeros(())
    if weights.logits:
        total = total + weights.logits * soft_logits(student, teacher, weights.temperature, several=task.several)
    if weights.task and labels is not None:
        total = total + weights.task * task.loss(student, labels)
    return total


def soft_logits(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, *, several: bool = False
) -> torch.Tensor:
    """KL divergence of the softened classes, times the temperature squared: the mean over the answers of a batch.

    Source: Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2. One output alone has no
    classes: its mean squared error is taken.

    Args:
        student: logits [batch, ..., outputs].
        teacher: the same.
        temperature: of both.
        several: whether a sample may have several labels: each is then an answer, there or not (Yang et al. 2023,
            Multi-Label Knowledge Distillation). Softened together, they would only say which of them is likelier.
    """
    import torch
    from torch.nn import functional

    if several:
        student, teacher = (torch.stack([logits, torch.zeros_like(logits)], dim=-1) for logits in (student, teacher))
    elif student.shape[-1] == 1:
        return functional.mse_loss(student, teacher)
    student, teacher = student.flatten(0, -2), teacher.flatten(0, -2)
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def hidden_states(
    student: tuple[torch.Tensor, ...],
    teacher: tuple[torch.Tensor, ...],
    layers: tuple[int, ...],
    mask: torch.Tensor | None,
    columns: tuple[int, ...] | None = None,
    handed: Sequence[Handed | None] = (),
) -> torch.Tensor:
    """Mean squared error of hidden states [batch, tokens, width] over real tokens, in units of the teacher's variance.

    Source: Jiao et al. 2020, TinyBERT, eq. 8, without the projection, since each column of a pruned stream is one of
    the teacher's, whose ``columns`` are the ones to compare with; the division makes layers of a pre-norm encoder,
    whose states grow with depth, count alike. Of a layer that left tokens out, those that stayed are compared with the
    teacher's at the same places (Rao et al. 2021, DynamicViT, section 3.3).
    """
    total, fed = student[0].new_zeros(()), mask
    for mine, index, left in zip(student[1:], layers, handed or [None] * len(layers), strict=True):
        theirs = teacher[index] if columns is None else teacher[index][..., list(columns)]
        if left is not None:
            theirs = theirs.gather(1, left.places[:, :, None].expand(-1, -1, theirs.shape[2]))
        mask = fed if left is None else left.real
        error = (mine - theirs).square().mean(-1)
        spread = (theirs - theirs.mean(-1, keepdim=True)).square().mean(-1) + 1e-6  # five times as fast as ``var``
        if mask is None:
            total = total + error.mean() / spread.mean()
        else:
            real = mask.to(error.dtype)
            total = total + (error * real).sum() / (spread * real).sum()
    return total / len(layers)


def attention_maps(
    student: tuple[torch.Tensor, ...], teacher: tuple[torch.Tensor, ...], layers: LayerMap
) -> torch.Tensor:
    """Mean squared error of attention probabilities [batch, heads, tokens, tokens] (Jiao et al. 2020, TinyBERT, eq. 7).

    Each student head is compared with the teacher's head that it was cut from, so that the shapes always allow it.
    """
    from torch.nn import functional

    total = student[0].new_zeros(())
    for mine, index, heads in zip(student, layers.attention, layers.heads, strict=True):
        total = total + functional.mse_loss(mine, teacher[index][:, list(heads)])
    return total / len(layers.attention)
