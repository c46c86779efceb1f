from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from edgekit.measure.quality import Outputs
from edgekit.progress import Silent
from edgekit.quantization.makers import Maker, Selection
from edgekit.quantization.sensitivity import MOST_LOOKS, MOST_SAMPLES, choose_fallbacks, fall_back, rank_sensitivity
from edgekit.tasks.base import Examples, Task


class Numbered:
    """Samples that are their numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Any:
        return list(indices)


class Score:
    """The metric is what the answers say."""

    def score(self, outputs: Any, labels: Any) -> float:
        return 1.0 - float(outputs.max())


class Layers:
    """Of so many layers, one loses half of the metric, as long as it is quantized."""

    scheme = "any"

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, list[list[int]]()

    def names(self) -> list[str]:
        return [f"model/{index}" for index in range(self.count)]

    def outputs(self, fallbacks: Sequence[str], examples: Any) -> Outputs:
        samples = examples.batch(range(len(examples)))
        self.asked.append(samples)
        loss = 0.0 if "model/41" in fallbacks else 0.5
        return Outputs(np.full((len(samples), 2), loss), np.zeros(len(samples), int))


class Steps(Silent):
    """Counts them."""

    steps = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps


def test_nodes_are_ranked_by_what_each_alone_does_to_the_outputs() -> None:
    reference = np.zeros((4, 2), np.float32)
    errors = {"a": 0.1, "b": 0.5, "c": 0.1, "d": 0.0}
    asked: list[list[str]] = []

    def outputs(nodes: Sequence[str]) -> Any:
        asked.append(list(nodes))
        return reference + errors[nodes[0]]

    ranked = rank_sensitivity(list(errors), reference, outputs)
    assert [name for name, _ in ranked] == ["b", "a", "c", "d"]  # equal ones by name
    assert [error for _, error in ranked] == pytest.approx([0.25, 0.01, 0.01, 0.0])
    assert asked == [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize(("count", "looks"), [(64, 64), (65, 22 + 30), (400, 31 + 26), (5000, 32)])
def test_of_many_nodes_groups_are_ranked_and_the_nodes_of_the_worst(count: int, looks: int) -> None:
    errors = {f"n{index:04}": 1e-3 for index in range(count)}
    errors["n0041"], errors["n0003"] = 0.5, 0.25
    asked: list[list[str]] = []

    def outputs(nodes: Sequence[str]) -> Any:
        asked.append(list(nodes))
        return np.full((4, 2), np.sqrt(sum(errors[node] for node in nodes)))

    ranked = rank_sensitivity(list(errors), np.zeros((4, 2)), outputs)
    assert sorted(name for name, _ in ranked) == list(errors)
    assert len(asked) == looks <= MOST_LOOKS
    if count < 5000:  # else a group alone is larger than what is left
        assert [name for name, _ in ranked[:2]] == ["n0041", "n0003"]
        assert ranked[0][1] == pytest.approx(0.5)


def test_a_search_is_bounded_in_looks_and_samples() -> None:
    examples, made = Numbered(1000), Layers(100)
    reference = Outputs(np.zeros((1000, 2)), np.zeros(1000, int))
    selection = Selection(cast("Examples", examples), reference, cast("Task", Score()), 1.0)
    progress = Steps()
    fallbacks, seen = fall_back(cast("Maker", made), selection, 0.005, progress)
    assert [len(asked) for asked in made.asked] == [1000, *[MOST_SAMPLES] * 57, 1000]
    assert made.asked[1] == [index * 1000 // MOST_SAMPLES for index in range(MOST_SAMPLES)]
    assert fallbacks == ["model/41"]
    assert (seen["drop"], seen["drop_with_fallback"]) == (0.5, 0.0)
    assert progress.steps == 57


def test_a_loss_at_the_tolerance_is_within_it() -> None:
    class One(Layers):
        """One sample of 200 is lost: a hair above 0.005 in binary."""

        def outputs(self, fallbacks: Sequence[str], examples: Any) -> Outputs:
            return Outputs(np.full((len(examples), 2), 1 - 179 / 200), np.zeros(len(examples), int))

    reference = Outputs(np.zeros((200, 2)), np.zeros(200, int))
    selection = Selection(cast("Examples", Numbered(200)), reference, cast("Task", Score()), 180 / 200)
    assert 180 / 200 - 179 / 200 > 0.005
    fallbacks, seen = fall_back(cast("Maker", One(4)), selection, 0.005, Silent())
    assert (fallbacks, seen["drop"]) == ([], pytest.approx(0.005))


@pytest.mark.parametrize(("enough", "expected"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_as_few_of_the_worst_fall_back_as_are_needed_in_doublings(enough: int, expected: int) -> None:
    ranked = [(f"n{index}", 1.0 / (index + 1)) for index in range(16)]
    tried: list[int] = []

    def acceptable(kept: Sequence[str]) -> bool:
        tried.append(len(kept))
        return len(kept) >= enough

    assert choose_fallbacks(ranked, acceptable) == [f"n{index}" for index in range(expected)]
    assert tried == [2**power for power in range(len(tried))]


@pytest.mark.parametrize(("nodes", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (20, 8)])
def test_half_of_the_nodes_fall_back_at_the_most(nodes: int, most: int) -> None:
    ranked = [(f"n{index}", 1.0) for index in range(nodes)]
    assert len(choose_fallbacks(ranked, lambda kept: False)) == most
