"""The choice: which layers, heads and neurons stay, under a budget that all layers share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.formats.surgery import EncoderPlan, LayerPlan
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.importance import Scores

if TYPE_CHECKING:
    from edgekit.tasks.base import Array


@dataclass(frozen=True)
class _Cut:
    """Something that can go: a head, or a block of neurons, with what is lost for each unit of cost saved."""

    density: float
    cost: int
    layer: int
    head: bool
    members: tuple[int, ...]


def choose_layers(plan: EncoderPlan, scores: Scores, keep: int) -> EncoderPlan:
    """The ``keep`` layers that matter most, in their order; the rest of the plan as it was."""
    import numpy as np

    kept = sorted(np.argsort(-scores.layers, kind="stable")[:keep].tolist())
    return EncoderPlan(architecture=plan.architecture, layers=tuple(plan.layers[index] for index in kept))


@dataclass(frozen=True)
class Bounds:
    """What the choice must keep to.

    Attributes:
        budget: multiply-accumulates of the whole encoder.
        multiple: of the neurons in a layer.
        floor: share of each layer's heads and neurons that always stays; one head and one block at the least.
    """

    budget: int
    multiple: int
    floor: float


def choose_widths(scores: Scores, cost: CostModel, bounds: Bounds, architecture: str) -> EncoderPlan:
    """Heads and neurons that stay, so that the encoder costs at most the budget.

    The cut with the least importance for the cost it saves goes first, whatever its layer. Neurons go in blocks, least
    important first, so that each layer's width stays a multiple.

    Scores of heads and of neurons are not of one scale: absolute effects of many neurons add up to far more than their
    joint effect, in which they cancel. Each kind is therefore measured against its own mean importance for its cost.

    Args:
        scores: of the model as it is.
        cost: of its parts.
        bounds: the smallest encoder that they allow is returned when the budget cannot be met.
        architecture: the model's class.
    """
    heads = [set(range(len(layer))) for layer in scores.heads]
    neurons = [set(range(len(layer))) for layer in scores.neurons]
    total = cost.total([(len(h), len(n)) for h, n in zip(heads, neurons, strict=True)])
    for cut in sorted(_cuts(scores, cost, bounds), key=lambda cut: (cut.density, cut.layer, cut.members)):
        if total <= bounds.budget:
            break
        (heads if cut.head else neurons)[cut.layer] -= set(cut.members)
        total -= cut.cost
    return EncoderPlan(
        architecture=architecture,
        layers=tuple(
            LayerPlan(index=index, heads=tuple(sorted(h)), neurons=tuple(sorted(n)))
            for index, (h, n) in enumerate(zip(heads, neurons, strict=True))
        ),
    )


def _cuts(scores: Scores, cost: CostModel, bounds: Bounds) -> list[_Cut]:
    layers = len(scores.heads)
    head_unit, neuron_unit = _mean(scores.heads) / cost.head, _mean(scores.neurons) / cost.neuron
    cuts = []
    for layer, (heads, neurons) in enumerate(zip(scores.heads, scores.neurons, strict=True)):
        head_cost, neuron_cost = cost.heads(layers)[layer], cost.neurons(layers)[layer]
        for head in _ascending(heads)[: len(heads) - max(1, math.ceil(bounds.floor * len(heads)))]:
            cuts.append(_Cut(float(heads[head]) / head_cost / head_unit, head_cost, layer, True, (head,)))
        for block in _blocks(_ascending(neurons), bounds):
            saved = len(block) * neuron_cost
            density = float(neurons[list(block)].sum()) / saved / neuron_unit
            cuts.append(_Cut(density, saved, layer, False, block))
    return cuts


def _blocks(order: list[int], bounds: Bounds) -> list[tuple[int, ...]]:
    """Blocks of neurons that may go, in order; the first makes the width a multiple, each further one keeps it so."""
    odd = len(order) % bounds.multiple
    stay = max(bounds.multiple, math.ceil(bounds.floor * len(order)))
    starts = range(odd, len(order) - stay - bounds.multiple + 1, bounds.multiple)
    blocks = [tuple(order[start : start + bounds.multiple]) for start in starts]
    if not odd:
        return blocks
    return [tuple(order[:odd]), *blocks] if len(order) - odd >= stay else []


def _mean(layers: list[Array]) -> float:
    """Mean score of one kind over all layers; 1 where every score is 0."""
    import numpy as np

    return float(np.concatenate(layers).mean()) or 1.0


def _ascending(values: Array) -> list[int]:
    import numpy as np

    order: list[int] = np.argsort(values, kind="stable").tolist()
    return order
