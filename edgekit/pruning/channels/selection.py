"""The choice: which units of channels go, under a budget that all layers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgekit.pruning import Aim
from edgekit.pruning.channels.cost import MacCounter
from edgekit.pruning.channels.groups import Face, Group, Unit, removed_channels
from edgekit.pruning.channels.importance import Scores

# Layers are cut in steps of the target's multiple, but the widest one of a network in four steps at least.
STEPS = 4


@dataclass(frozen=True)
class _Block:
    """Units of one group that go in one step, with what is lost for each multiply-accumulate saved."""

    density: float
    group: int
    order: int
    units: tuple[Unit, ...]


def choose_units(groups: Sequence[Group], scores: Scores, counter: MacCounter, aim: Aim) -> set[Unit]:
    """The units that go, so that about ``1 - ratio`` of the multiply-accumulates stay.

    The block with the least importance for the cost it saves goes first, whatever its group. Blocks keep each group's
    number of channels at a multiple; within a group the least important units go first. The last block goes only where
    that comes nearer to the budget than staying above it.

    A group that is no wider than a step stays whole: kernels fill a tile of channels up, or have a slower way for less
    than one. An INT8 convolution to 4 of 16 channels takes longer than to all 16 in onnxruntime 1.32 on AVX-512 VNNI,
    whose kernel is for 16 and more (``MlasConvSymPackWSize`` of ``onnxruntime/core/mlas/lib/convsym.cpp``).
    """
    budget = counter.total({}) * (1 - aim.ratio)
    channels = step(max(layer.outputs for layer in counter.layers.values()), aim.multiple)
    gone: set[Unit] = set()
    removed: dict[Face, set[int]] = {}
    cut = [(number, group) for number, group in enumerate(groups) if group.units]
    blocks = [block for number, group in cut for block in _blocks(number, group, scores, counter, channels, aim)]
    for block in sorted(blocks, key=lambda block: (block.density, block.group, block.order)):
        then = {**removed}
        for face, more in removed_channels(block.units).items():
            then[face] = removed.get(face, set()) | more
        above, below = counter.total(removed) - budget, budget - counter.total(then)
        if above <= 0 or below > above:
            break
        gone |= set(block.units)
        removed = then
    return gone


def _blocks(number: int, group: Group, scores: Scores, counter: MacCounter, channels: int, aim: Aim) -> list[_Block]:
    """The blocks of a group in the order in which they may go; a later one never costs less than an earlier one.

    Each is as many units as have ``channels`` of the group's root: in a convolution of groups a unit has several.
    """
    order = sorted(group.units, key=lambda unit: (scores[unit], min(unit.atoms)))
    size = max(1, channels // len(order[0].on((group.root, "outputs"))))
    stay = max(size, math.ceil(aim.floor * len(order)))
    blocks: list[_Block] = []
    first = len(order) % size
    bounds = [0, *range(first or size, len(order) - stay + 1, size)]
    lowest = 0.0
    for start, end in pairwise(bounds):
        units = tuple(order[start:end])
        saved = max(1, counter.saved(removed_channels(units)))
        lowest = max(lowest, sum(scores[unit] for unit in units) / saved)
        blocks.append(_Block(lowest, number, start, units))
    return blocks


def step(widest: int, multiple: int) -> int:
    """Channels that go at once: the target's multiple, halved until the widest layer has four such steps."""
    size = multiple
    while size > 1 and size * STEPS > widest:
        size //= 2
    return max(1, size)
