"""Which tables of words are INT4: all, or those without which the selection split loses too much stay INT8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from edgekit.measure.elsewhere import Spread
from edgekit.measure.quality import exceeds
from edgekit.progress import Progress
from edgekit.quantization.makers import Maker, Selection
from edgekit.quantization.schemes import Scheme
from edgekit.quantization.sensitivity import MOST_SAMPLES, rank_sensitivity

if TYPE_CHECKING:
    from edgekit.tasks.base import Array


def narrow(maker: Maker, selection: Selection | None, tolerance: float, progress: Progress) -> Maker:
    """The same with tables in INT4, and notes of which are and why the others are not.

    What INT8 loses by itself is not put down to the tables: INT4 stays where it loses no more than the tolerance, or
    no more than INT8 does.

    Args:
        maker: with the tables in INT8.
        selection: where nothing can be scored, or layers are not to fall back, None: then all of them are INT4.
        tolerance: drop of the metric on the selection split that calls for INT8.
        progress: told how far it is.
    """
    scheme = cast("Scheme", maker.scheme)
    tables = [f"{part}/{node.name}" for part, nodes in maker.nodes.items() for node in nodes if node.narrows]
    chosen, seen = tables, dict[str, JsonValue]()
    if selection is not None and tables:
        chosen, seen = _choose(maker, scheme, tables, selection, tolerance, progress)
    wide = [name for name in tables if name not in chosen]
    found: dict[str, JsonValue] = {"int4": cast("JsonValue", chosen), "int8": cast("JsonValue", wide), **seen}
    return replace(maker, scheme=_with(scheme, chosen), notes=maker.notes | {"tables": found})


def _choose(
    maker: Maker, scheme: Scheme, tables: list[str], selection: Selection, tolerance: float, progress: Progress
) -> tuple[list[str], dict[str, JsonValue]]:
    """The most of the tables whose loss is acceptable, the worst of them left out first."""

    def drop(names: Sequence[str]) -> float:
        return selection.drop(replace(maker, scheme=_with(scheme, names)))

    first = drop(tables)
    if not exceeds(first, tolerance):
        return tables, {"drop": first}
    allowed = max(tolerance, drop([]))
    some = Spread(selection.examples, MOST_SAMPLES)
    reference = selection.reference.logits[[some.at(index) for index in range(len(some))]]

    def alone(names: Sequence[str]) -> Array:
        progress.advance()
        return replace(maker, scheme=_with(scheme, names)).outputs([], some).logits

    progress.start("quantize: which tables lose too much in INT4", len(tables))
    ranked = [name for name, _ in rank_sensitivity(tables, reference, alone)]
    left = next(count for count in range(len(tables) + 1) if not exceeds(drop(ranked[count:]), allowed))
    progress.finish(f"{left} stay INT8")
    kept = [name for name in tables if name not in ranked[:left]]
    return kept, {"drop": first, "drop_in_int8": drop([])}


def _with(scheme: Scheme, names: Sequence[str]) -> Scheme:
    return scheme.model_copy(update={"int4": tuple(names)})
