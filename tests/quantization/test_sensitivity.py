from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgekit.quantization.sensitivity import choose_fallbacks, rank_sensitivity


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
