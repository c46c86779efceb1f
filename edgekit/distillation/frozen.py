"""Tables of embeddings that a student has of its teacher: they stay as they are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def freeze_tables(student: nn.Module, teacher: nn.Module) -> int:
    """Let no gradient reach the tables that a student shares with its teacher, number by number.

    A table holds most weights of a small student, and none of its multiplications: with its gradient and its moments it
    would take more of each step than the layers do. A table that something else reads, too, such as a head that is tied
    to it, is left to learn, and so is one that was trained before.

    Returns:
        How many weights are frozen.
    """
    import torch
    from torch import nn

    theirs = dict(teacher.named_parameters())
    readers = Counter(id(weights) for _, weights in student.named_parameters(remove_duplicate=False))
    frozen = 0
    for name, layer in student.named_modules():
        if not isinstance(layer, nn.Embedding) or readers[id(layer.weight)] > 1:
            continue
        same = theirs.get(f"{name}.weight")
        if same is not None and torch.equal(same, layer.weight):
            layer.weight.requires_grad_(False)
            frozen += layer.weight.numel()
    return frozen
