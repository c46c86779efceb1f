"""Which layers lose too much: each is quantized alone, and ranked by how far the outputs move.

The search is bounded: a graph of many layers is ranked by groups of neighbours first, and only the layers of the worst
groups alone; the order needs few samples, and the loss of what is chosen is taken from all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING

from pydantic import JsonValue

from edgekit.measure.elsewhere import Spread
from edgekit.measure.quality import exceeds
from edgekit.progress import Progress
from edgekit.quantization.makers import Maker, Selection

if TYPE_CHECKING:
    from edgekit.tasks.base import Array

    # Makes the graph with only these nodes quantized and returns its logits [samples, outputs].
    QuantizedOutputs = Callable[[Sequence[str]], Array]


# Most graphs that are made and run to rank layers, and samples that each is run on: 8192 inferences, which take two
# minutes at 15 ms. Every layer of an encoder of up to 10 blocks, or of a ResNet-50, has a graph of its own.
MOST_LOOKS, MOST_SAMPLES = 64, 128


def rank_sensitivity(
    nodes: Sequence[str], reference: Array, outputs: QuantizedOutputs, most: int = MOST_LOOKS
) -> list[tuple[str, float]]:
    """Nodes with the mean squared error that quantizing each alone brings to the logits, worst first.

    Where there are more nodes than looks, half of the looks go to groups of neighbours, and the rest to the nodes of
    the worst groups; behind them come those of the other groups, with the error of their group.

    Args:
        nodes: names, in the order of the graph.
        reference: logits in float.
        outputs: makes those with only some nodes quantized.
        most: looks at outputs.
    """

    def ranked(groups: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], float]]:
        errors = [(group, float(((outputs(group) - reference) ** 2).mean())) for group in groups]
        return sorted(errors, key=lambda item: (-item[1], item[0]))

    size = 1 if len(nodes) <= most else ceil(len(nodes) / (most // 2))
    groups = ranked([list(nodes[start : start + size]) for start in range(0, len(nodes), size)])
    worst = (most // 2) // size if size > 1 else 0
    alone = ranked([[node] for group, _ in groups[:worst] for node in group])
    return [(node, error) for group, error in (*alone, *groups[worst:]) for node in group]


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
    if not exceeds(first, tolerance):
        return [], seen
    names, some = maker.names(), Spread(selection.examples, MOST_SAMPLES)
    reference = selection.reference.logits[[some.at(index) for index in range(len(some))]]

    def alone(nodes: Sequence[str]) -> Array:
        progress.advance()
        return maker.outputs([name for name in names if name not in nodes], some).logits

    progress.start("quantize: which layers lose too much", min(len(names), MOST_LOOKS))
    ranked = rank_sensitivity(names, reference, alone)
    fallbacks = choose_fallbacks(ranked, lambda kept: not exceeds(selection.drop(maker, kept), tolerance))
    progress.finish(f"{len(fallbacks)} fall back")
    seen["sensitivity"] = [[name, error] for name, error in ranked]
    seen["drop_with_fallback"] = selection.drop(maker, fallbacks)
    return fallbacks, seen
