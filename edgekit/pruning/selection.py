"""The choice: which layers, heads and neurons stay, under a budget that all layers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.formats.surgery import LayerPlan, Plan
from edgekit.pruning.cost import CostModel
from edgekit.pruning.importance import Scores

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


def choose_layers(plan: Plan, scores: Scores, keep: int) -> Plan:
    """The ``keep`` layers that matter most, in their order; the rest of the plan as it was."""
    import numpy as np

    kept = sorted(np.argsort(-scores.layers, kind="stable")[:keep].tolist())
    return Plan(architecture=plan.architecture, layers=tuple(plan.layers[index] for index in kept))


def choose_widths(scores: Scores, cost: CostModel, budget: int, multiple: int, architecture: str) -> Plan:
    """Heads and neurons that stay, so that the encoder costs at most ``budget``.

    The cut with the least importance for the cost it saves goes first, whatever its layer. Neurons go in blocks, least
    important first, so that each layer's width stays a multiple of ``multiple``; one head and one block always stay.

    Args:
        scores: of the model as it is.
        cost: of its parts.
        budget: multiply-accumulates; the smallest possible encoder is returned when it cannot be met.
        multiple: of neurons in a layer.
        architecture: the model's class.
    """
    heads = [set(range(len(layer))) for layer in scores.heads]
    neurons = [set(range(len(layer))) for layer in scores.neurons]
    total = sum(cost.layer(len(h), len(n)) for h, n in zip(heads, neurons, strict=True))
    for cut in sorted(_cuts(scores, cost, multiple), key=lambda cut: (cut.density, cut.layer, cut.members)):
        if total <= budget:
            break
        (heads if cut.head else neurons)[cut.layer] -= set(cut.members)
        total -= cut.cost
    return Plan(
        architecture=architecture,
        layers=tuple(
            LayerPlan(index=index, heads=tuple(sorted(h)), neurons=tuple(sorted(n)))
            for index, (h, n) in enumerate(zip(heads, neurons, strict=True))
        ),
    )


def _cuts(scores: Scores, cost: CostModel, multiple: int) -> list[_Cut]:
    cuts = []
    for layer, (heads, neurons) in enumerate(zip(scores.heads, scores.neurons, strict=True)):
        for head in _ascending(heads)[:-1]:
            cuts.append(_Cut(float(heads[head]) / cost.head, cost.head, layer, True, (head,)))
        order = _ascending(neurons)
        first = len(order) % multiple  # the first cut makes the width a multiple, each further one keeps it so
        starts = ([0] if first else []) + list(range(first, len(order) - multiple, multiple))
        for start in starts:
            block = tuple(order[start : first if start < first else start + multiple])
            saved = len(block) * cost.neuron
            cuts.append(_Cut(float(neurons[list(block)].sum()) / saved, saved, layer, False, block))
    return cuts


def _ascending(values: Array) -> list[int]:
    import numpy as np

    order: list[int] = np.argsort(values, kind="stable").tolist()
    return order
