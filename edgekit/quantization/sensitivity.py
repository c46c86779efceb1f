"""Which layers lose too much: each is quantized alone, and ranked by how far the outputs move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from edgekit.progress import Progress
from edgekit.quantization.makers import Maker, Selection

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


def fall_back(
    maker: Maker, selection: Selection, tolerance: float, progress: Progress
) -> tuple[list[str], dict[str, JsonValue]]:
    """The layers that stay float so that the selection split loses no more than the tolerance, and what was seen."""
    first = selection.drop(maker)
    seen: dict[str, JsonValue] = {
        "samples": len(selection.examples),
        "float": selection.before,
        "drop": first,
        "tolerance": tolerance,
    }
    if first <= tolerance:
        return [], seen
    names = maker.names()

    def alone(nodes: Sequence[str]) -> Array:
        progress.advance()
        return maker.outputs([name for name in names if name not in nodes], selection.examples).logits

    progress.start("quantize: which layers lose too much", len(names))
    ranked = rank_sensitivity(names, selection.reference.logits, alone)
    fallbacks = choose_fallbacks(ranked, lambda kept: selection.drop(maker, kept) <= tolerance)
    progress.finish(f"{len(fallbacks)} fall back")
    seen["sensitivity"] = [[name, error] for name, error in ranked]
    seen["drop_with_fallback"] = selection.drop(maker, fallbacks)
    return fallbacks, seen
