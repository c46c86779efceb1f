from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.measure.quality import Outputs
from edgekit.progress import Silent
from edgekit.quantization.makers import Maker, Selection, integers_of
from edgekit.quantization.schemes import Scheme, WeightedNode, resolve_scheme
from edgekit.quantization.tables import narrow
from edgekit.target import load_target
from edgekit.tasks.base import Examples, Task

SCHEME = Scheme(method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True)
NODES = {
    "encoder": [WeightedNode("words", "Gather", 4096, True), WeightedNode("places", "Gather", 2048, True)],
    "decoder": [WeightedNode("words", "Gather", 4096, True), WeightedNode("product", "MatMul", 4096)],
}
TABLES = ["encoder/words", "encoder/places", "decoder/words"]


class Numbered:
    """Samples that are their numbers."""

    def __len__(self) -> int:
        return 8

    def batch(self, indices: Sequence[int]) -> Any:
        return list(indices)


def found(losses: dict[str, float], tolerance: float, always: float = 0.0) -> tuple[tuple[str, ...], Any, list[Any]]:
    """What is chosen where each table in INT4 moves the outputs by so much, and what was asked."""
    asked: list[tuple[str, ...]] = []

    def answer(made: Any, examples: Any) -> Outputs:
        asked.append(made.int4)
        loss = always + sum(losses[name] for name in made.int4)
        return Outputs(np.full((len(examples), 2), loss), np.zeros(len(examples), int))

    class Told(Maker):
        """Makes nothing, and answers by its scheme."""

        def make(self, fallbacks: Sequence[str]) -> Any:
            assert not fallbacks
            return self.scheme

    maker = Told(cast("Any", None), SCHEME, NODES, cast("Any", None), Path, answer, {"kept": 1})
    examples = cast("Examples", Numbered())
    reference = Outputs(np.zeros((8, 2)), np.zeros(8, int))
    score = cast("Task", SimpleNamespace(score=lambda logits, labels: 1.0 - float(logits.max())))
    selection = Selection(examples, reference, score, 1.0)
    narrowed = narrow(maker, selection, tolerance, Silent())
    assert narrowed.notes["kept"] == 1
    return cast("Scheme", narrowed.scheme).int4, narrowed.notes["tables"], asked


def test_all_tables_are_int4_where_that_is_accepted() -> None:
    chosen, told, asked = found(dict.fromkeys(TABLES, 0.001), tolerance=0.005)
    assert list(chosen) == TABLES
    assert told == {"int4": TABLES, "int8": [], "drop": pytest.approx(0.003)}
    assert len(asked) == 1


def test_the_table_that_loses_most_stays_int8() -> None:
    losses = {"encoder/words": 0.001, "encoder/places": 0.2, "decoder/words": 0.002}
    chosen, told, _ = found(losses, tolerance=0.005)
    assert list(chosen) == ["encoder/words", "decoder/words"]
    assert told["int8"] == ["encoder/places"]
    assert (told["drop"], told["drop_in_int8"]) == (pytest.approx(0.203), 0.0)


def test_no_table_is_int4_where_each_loses_too_much() -> None:
    chosen, told, _ = found(dict.fromkeys(TABLES, 0.2), tolerance=0.005)
    assert (chosen, told["int8"]) == ((), TABLES)


def test_what_int8_loses_is_not_put_down_to_the_tables() -> None:
    chosen, told, _ = found(dict.fromkeys(TABLES, 0.0), tolerance=0.005, always=0.3)
    assert list(chosen) == TABLES
    assert told["drop"] == told["drop_in_int8"] == pytest.approx(0.3)


def test_without_a_selection_they_are_as_asked_for() -> None:
    maker = Maker(cast("Any", None), SCHEME, NODES, cast("Any", None), Path, cast("Any", None))
    narrowed = narrow(maker, None, 0.005, Silent())
    assert narrowed.notes == {"tables": {"int4": TABLES, "int8": []}}
    assert integers_of(narrowed.scheme) == "u8s8, tables of 4 bits"
    assert cast("Scheme", narrowed.scheme).within("encoder").int4 == ("words", "places")


@pytest.mark.parametrize(
    ("target", "method", "what"),
    [
        ("x86-64-vnni", "fp16", "quantize.embeddings=int4 cannot go with quantize.method=fp16"),
        ("tensorrt", "static", "quantize.embeddings=int4 cannot go with the target 'tensorrt'"),
    ],
)
def test_int4_is_for_int8_on_a_cpu(target: str, method: Any, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_scheme(method, "auto", "int4", load_target(target))
    assert (caught.value.what, caught.value.id) == (what, "usage.settings-conflict")
    assert caught.value.hint == "Leave quantize.embeddings away."
