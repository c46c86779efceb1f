"""What to prune and how much: heads, neurons and layers of encoders, channels of anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from edgekit.tasks.base import Batch, Task

Importance = Literal["magnitude", "taylor", "fisher", "bn_scale"]


@dataclass(frozen=True)
class Aim:
    """What pruning is asked for.

    Attributes:
        ratio: share of the multiply-accumulates to remove.
        layers: share of an encoder's layers that stay.
        floor: share of each layer's heads, neurons or channels that always stays.
        multiple: of a layer's width, as the target likes it.
        importance: how what stays is chosen.
        tokens: of one inference, for encoders.
        task: the loss that importance is measured by.
        batches: training batches for a purpose, from the start at each call.
    """

    ratio: float
    layers: float
    floor: float
    multiple: int
    importance: Importance
    tokens: int
    task: Task
    batches: Callable[[str], Iterator[Batch]]
