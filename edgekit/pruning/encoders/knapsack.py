"""The choice of widths under a measured budget: a multiple-choice knapsack, solved by dynamic programming.

Each layer picks a number of heads and a number of neurons; each number has a cost, not linear, from a cost table, and a
value, the importance of what then stays (the most important go in first). The sum of the values is to be as large as
the budget allows. Sources: Kwon et al. 2022 (A Fast Post-Training Pruning Framework for Transformers, section 3.2),
Kurtic et al. 2023 (ZipLM, section 3.2), Shen et al. 2022 (HALP, section 3.2); the recursion is that of Dudzinski and
Walukiewicz 1987 (Exact methods for the knapsack problem and its generalizations, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.formats.surgery import EncoderPlan, LayerPlan
from edgekit.pruning.encoders.importance import Scores
from edgekit.pruning.encoders.table import CostTable, Widths

if TYPE_CHECKING:
    from edgekit.tasks.base import Array

# Costs are counted in parts of what is free to spend, rounded up, so that the budget holds: of 24 groups, 0.1 % of it
# is lost at most.
PARTS = 20_000


@dataclass(frozen=True)
class Allowed:
    """What the choice must keep to.

    Attributes:
        budget: of the whole encoder, in the table's unit.
        multiple: of the neurons in a layer.
        floor: share of each layer's heads and neurons that always stays; one head and one block at the least.
        one_scale: whether scores of heads compare with scores of neurons.
    """

    budget: float
    multiple: int
    floor: float
    one_scale: bool


@dataclass(frozen=True)
class _Group:
    """The heads or the neurons of a layer: of each number that may stay, ascending, its cost and its value."""

    numbers: list[int]
    costs: Array
    values: Array

    def parts(self, size: float) -> list[int]:
        """What each number costs beyond the cheapest, in parts of this size, rounded up."""
        beyond = [float(cost - self.costs.min()) for cost in self.costs]
        if size <= 0:
            return [0 if cost <= 0 else PARTS + 1 for cost in beyond]
        return [math.ceil(cost / size - 1e-9) for cost in beyond]


def choose_numbers(scores: Scores, table: CostTable, allowed: Allowed) -> list[tuple[int, int]]:
    """How many heads and neurons stay in each layer.

    Scores that do not compare between kinds are measured against the mean of their kind for its cost, as
    ``choose_widths`` does.

    Raises:
        UsageError: the smallest encoder that may be is above the budget.
    """
    groups = _groups(scores, table, allowed)
    least = table.base + sum(float(group.costs.min()) for group in groups)
    if least > allowed.budget:
        raise UsageError(
            f"a budget of {allowed.budget:.4g} {table.unit} cannot be met by pruning",
            id="usage.budget-too-small",
            why=f"the smallest of {len(scores.heads)} layers is predicted at {least:.4g} {table.unit}",
            hint="Keep fewer layers (prune.layers), a lower floor (prune.floor), or give a larger budget.",
        )
    if least + sum(float(group.costs[-1] - group.costs.min()) for group in groups) <= allowed.budget:
        return [(len(heads), len(neurons)) for heads, neurons in zip(scores.heads, scores.neurons, strict=True)]
    part = (allowed.budget - least) / PARTS
    chosen = _solve([group.parts(part) for group in groups], [group.values for group in groups])
    numbers = [group.numbers[index] for group, index in zip(groups, chosen, strict=True)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _solve(parts: list[list[int]], values: list[Array]) -> list[int]:
    """Of each group the option to take, so that parts add up to ``PARTS`` at most and values to the most."""
    import numpy as np

    best = np.zeros(PARTS + 1)  # by what may be spent
    picks = []
    for taken, worth in zip(parts, values, strict=True):
        found, picked = np.full(PARTS + 1, -np.inf), np.zeros(PARTS + 1, np.int64)
        for index, (cost, value) in enumerate(zip(taken, worth, strict=True)):
            if cost <= PARTS:
                with_it = best[: PARTS + 1 - cost] + value
                better = with_it > found[cost:]
                found[cost:][better], picked[cost:][better] = with_it[better], index
        best = found
        picks.append(picked)
    left, chosen = PARTS, list[int]()
    for picked, taken in zip(reversed(picks), reversed(parts), strict=True):
        chosen.append(int(picked[left]))
        left -= taken[chosen[-1]]
    return chosen[::-1]


def most_important(scores: Scores, widths: Widths, architecture: str) -> EncoderPlan:
    """The plan that keeps so many heads and neurons of each layer, the most important ones."""

    def first(values: Array, number: int) -> tuple[int, ...]:
        return tuple(sorted(_descending(values)[:number]))

    layers = [
        LayerPlan(index=index, heads=first(scores.heads[index], heads), neurons=first(scores.neurons[index], neurons))
        for index, (heads, neurons) in enumerate(widths)
    ]
    return EncoderPlan(architecture=architecture, layers=tuple(layers))


def _groups(scores: Scores, table: CostTable, allowed: Allowed) -> list[_Group]:
    """Heads and neurons of every layer, in turn."""
    import numpy as np

    head_unit = neuron_unit = 1.0
    if not allowed.one_scale:
        head_unit = _unit(scores.heads, table.attention)
        neuron_unit = _unit(scores.neurons, table.feed_forward)
    groups = []
    for index, (heads, neurons) in enumerate(zip(scores.heads, scores.neurons, strict=True)):
        last = index == len(scores.heads) - 1
        counts = list(range(max(1, math.ceil(allowed.floor * len(heads))), len(heads) + 1))
        costs = np.array([table.heads_cost(count, last=last) for count in counts])
        groups.append(_Group(counts, costs, _kept(heads, counts) / head_unit))
        counts = allowed_neurons(len(neurons), allowed)
        costs = np.array([table.neurons_cost(count, last=last) for count in counts])
        groups.append(_Group(counts, costs, _kept(neurons, counts) / neuron_unit))
    return groups


def allowed_neurons(whole: int, allowed: Allowed) -> list[int]:
    """Numbers of neurons that may stay, ascending: multiples from the floor on, and all of them."""
    least = max(allowed.multiple, math.ceil(allowed.floor * whole))
    first = -(-least // allowed.multiple) * allowed.multiple
    return sorted({*range(first, whole + 1, allowed.multiple), whole})


def _unit(layers: list[Array], curve: tuple[tuple[int, float], ...]) -> float:
    """The mean score of a kind for its mean cost; 1 where either is nothing."""
    import numpy as np

    (low, below), (high, above) = curve[0], curve[-1]
    cost = (above - below) / (high - low) if high > low else above / high
    mean = float(np.concatenate(layers).mean())
    return mean / cost if mean > 0 and cost > 0 else 1.0


def _kept(values: Array, counts: list[int]) -> Array:
    """The sum of the largest values, for each count."""
    import numpy as np

    sums: Array = np.concatenate([[0.0], np.cumsum(values[_descending(values)].astype(np.float64))])[counts]
    return sums


def _descending(values: Array) -> list[int]:
    import numpy as np

    order: list[int] = np.argsort(-values, kind="stable").tolist()
    return order
