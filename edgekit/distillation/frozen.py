"""Tables of embeddings that a student has of its teacher: they stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from edgekit.tasks.base import Array

if TYPE_CHECKING:
    from torch import nn

# What a quantizer leaves of a table [rows, width], as floats.
Rounder = Callable[[Array], Array]


class Frozen(NamedTuple):
    """What does not learn.

    Attributes:
        weights: how many.
        rounded: whether the table of words is among them, as quantization will leave it.
    """

    weights: int
    rounded: bool


def freeze_tables(
    student: nn.Module, teacher: nn.Module, rounder: Rounder | None = None, columns: tuple[int, ...] | None = None
) -> Frozen:
    """Let no gradient reach the tables that a student shares with its teacher, number by number.

    A table holds most weights of a small student, and none of its multiplications: with its gradient and its moments it
    would take more of each step than the layers do. A table that something else reads, too, such as a head that is tied
    to it, is left to learn, and so is one that was trained before.

    Args:
        student: changed in place.
        teacher: left as it is.
        rounder: what quantization will leave of the table of words; where it is given, that takes the table's place, so
            that the layers learn to do with it. A student of such a student has it already.
        columns: of the teacher's stream that the student kept; None for all.
    """
    import torch
    from torch import nn

    theirs = {name: weights.detach() for name, weights in teacher.named_parameters()}
    readers = Counter(id(weights) for _, weights in student.named_parameters(remove_duplicate=False))
    words = _words(student) if rounder is not None else None
    frozen, rounded = 0, False
    for name, layer in student.named_modules():
        if not isinstance(layer, nn.Embedding) or readers[id(layer.weight)] > 1:
            continue
        same = theirs.get(f"{name}.weight")
        if same is not None and columns is not None and same.shape != layer.weight.shape:
            same = same[:, list(columns)]
        if same is None or same.shape != layer.weight.shape:
            continue
        left = torch.from_numpy(rounder(same.numpy())) if rounder is not None and layer is words else same
        if torch.equal(same, layer.weight) or torch.equal(left, layer.weight):
            layer.weight.requires_grad_(False)
            layer.weight.copy_(left)
            frozen += layer.weight.numel()
            rounded |= left is not same
    return Frozen(frozen, rounded)


def _words(model: nn.Module) -> nn.Module | None:
    """The table that a model's inputs are looked up in, if it says which that is."""
    named = getattr(model, "get_input_embeddings", None)
    return None if named is None else named()
