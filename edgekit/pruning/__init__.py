"""What to prune and how much: heads, neurons and layers of encoders, channels of anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from edgekit.tasks.base import Batch, Task

if TYPE_CHECKING:
    from edgekit.pruning.encoders.table import CostTable

Importance = Literal["magnitude", "taylor", "fisher", "bn_scale", "weights"]


@dataclass(frozen=True)
class Measured:
    """That costs are measured ones, and what of.

    Attributes:
        table: measures the table, or reads it.
        budget: the most that an inference of what is left may cost, in the table's unit; None goes by ``Aim.ratio``.
        decide: gives the choice that was made before, else makes it and writes it down.
    """

    table: Callable[[], CostTable]
    budget: float | None
    decide: Callable[[Callable[[], JsonValue]], JsonValue]


@dataclass(frozen=True)
class Aim:
    """What pruning is asked for.

    Attributes:
        ratio: share of the cost to remove: multiply-accumulates, unless it is measured.
        layers: share of an encoder's layers that stay.
        floor: share of each layer's heads, neurons or channels that always stays.
        multiple: of a layer's width, as the target likes it.
        importance: how what stays is chosen.
        tokens: of one inference, for encoders.
        task: the loss that importance is measured by.
        batches: training batches for a purpose, from the start at each call.
        measured: where costs are measured ones.
        reconstruct: whether what stays of an encoder takes over by least squares what the rest handed on.
        hidden: how many columns of an encoder's stream stay: a number, or a share of the original's; None leaves all.
        handed: the share of a sample's tokens that the last layer of an encoder takes in, or the share that each layer
            but the last hands on; None leaves no tokens out.
        handed_before: the shares of an earlier pruning, for each layer but the last of the model as it is.
    """

    ratio: float
    layers: float
    floor: float
    multiple: int
    importance: Importance
    tokens: int
    task: Task
    batches: Callable[[str], Iterator[Batch]]
    measured: Measured | None = None
    reconstruct: bool = False
    hidden: float | None = None
    handed: float | tuple[float, ...] | None = None
    handed_before: tuple[float, ...] | None = None
