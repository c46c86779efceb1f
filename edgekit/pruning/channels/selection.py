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

# A layer is cut in steps of the target's multiple, but in four steps at least.
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
    """
    budget = counter.total({}) * (1 - aim.ratio)
    gone: set[Unit] = set()
    removed: dict[Face, set[int]] = {}
    blocks = [block for number, group in enumerate(groups) for block in _blocks(number, group, scores, counter, aim)]
    for block in sorted(blocks, key=lambda block: (block.density, block.group, block.order)):
        then = {**removed}
        for face, channels in removed_channels(block.units).items():
            then[face] = removed.get(face, set()) | channels
        above, below = counter.total(removed) - budget, budget - counter.total(then)
        if above <= 0 or below > above:
            break
        gone |= set(block.units)
        removed = then
    return gone


def _blocks(number: int, group: Group, scores: Scores, counter: MacCounter, aim: Aim) -> list[_Block]:
    """The blocks of a group in the order in which they may go; a later one never costs less than an earlier one."""
    order = sorted(group.units, key=lambda unit: (scores[unit], min(unit.atoms)))
    size = step(len(order), aim.multiple)
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


def step(units: int, multiple: int) -> int:
    """Units that go at once: the target's multiple, halved until the group has four such steps."""
    size = multiple
    while size > 1 and size * STEPS > units:
        size //= 2
    return max(1, size)
