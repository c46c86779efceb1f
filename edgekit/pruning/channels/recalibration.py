"""Batch norms after pruning: their running statistics are those of channels that see other inputs now.

They are measured again on training batches, with no weight changed (Yu and Huang 2019, Universally Slimmable Networks,
section 3.3: post-statistics of batch normalization).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgekit.formats.torch import batch_norms
from edgekit.tasks.base import Batch, Task

if TYPE_CHECKING:
    from torch import nn


def recalibrate(model: nn.Module, task: Task, batches: Iterable[Batch]) -> int:
    """Replace the statistics of every batch norm by their mean over ``batches``.

    Returns:
        How many batch norms there were.
    """
    import torch

    norms: list[Any] = [layer for _, layer in batch_norms(model) if layer.track_running_stats]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a mean over all batches
        layer.train()
    if not norms:
        return 0
    with torch.no_grad():
        for batch in batches:
            task.call(model, {name: torch.from_numpy(values) for name, values in batch.items()})
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return len(norms)
