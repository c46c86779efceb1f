"""Which layers lose too much: each is quantized alone, and ranked by how far the outputs move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.tasks.base import Array

    # Makes the graph with only these nodes quantized and returns its logits [samples, outputs].
    QuantizedOutputs = Callable[[Sequence[str]], Array]


def rank_sensitivity(nodes: Sequence[str], reference: Array, outputs: QuantizedOutputs) -> list[tuple[str, float]]:
    """Nodes with the mean squared error that quantizing each alone brings to the logits, worst first."""
    errors = [(node, float(((outputs([node]) - reference) ** 2).mean())) for node in nodes]
    return sorted(errors, key=lambda item: (-item[1], item[0]))


def choose_fallbacks(ranked: Sequence[tuple[str, float]], acceptable: Callable[[Sequence[str]], bool]) -> list[str]:
    """The fewest of the worst nodes (1, 2, 4, ... of them) that have to stay float for the rest to be acceptable.

    Half of the nodes at the most: beyond that, quantization is not worth keeping, and the last try is returned.
    """
    names = [name for name, _ in ranked]
    count = 1
    while True:
        kept = names[:count]
        if acceptable(kept) or count * 2 > max(1, len(names) // 2):
            return kept
        count *= 2
