from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.tasks.base import Workload, ordered_batches, shuffled_batches, softmax


class Lengths:
    """Samples that are nothing but their lengths."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def length(self, index: int) -> int:
        return self.lengths[index]

    def batch(self, indices: Any) -> dict[str, Any]:
        return {"x": np.array(indices)}


def lengths(count: int) -> Lengths:
    return Lengths(np.random.default_rng(0).integers(1, 100, count).tolist())


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_ordered_batches_have_every_sample_once(size: int) -> None:
    batches = list(ordered_batches(lengths(50), size))
    assert sorted(index for batch in batches for index in batch) == list(range(50))
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert batches == list(ordered_batches(lengths(50), size))


def test_ordered_batches_put_like_lengths_together_and_keep_single_samples_in_order() -> None:
    examples = lengths(50)
    found = [examples.length(index) for batch in ordered_batches(examples, 4) for index in batch]
    assert found == sorted(examples.lengths)
    assert [batch[0] for batch in ordered_batches(examples, 1)] == list(range(50))


def test_the_same_seed_and_epoch_give_the_same_batches() -> None:
    examples = lengths(640)
    batches = shuffled_batches(examples, 8, 3, 5)
    assert batches == shuffled_batches(examples, 8, 3, 5)
    assert batches != shuffled_batches(examples, 8, 3, 6)
    assert batches != shuffled_batches(examples, 8, 4, 5)


def test_an_epoch_has_every_sample_once() -> None:
    batches = shuffled_batches(lengths(640), 8, 0, 0)
    assert [len(batch) for batch in batches] == [8] * 80
    assert sorted(index for batch in batches for index in batch) == list(range(640))


def test_only_full_batches_are_trained_on_where_there_are_any() -> None:
    batches = shuffled_batches(lengths(21), 8, 0, 0)
    assert [len(batch) for batch in batches] == [8, 8]
    assert len({index for batch in batches for index in batch}) == 16
    assert sorted(shuffled_batches(lengths(5), 8, 0, 0)[0]) == [0, 1, 2, 3, 4]


def test_epochs_leave_out_other_samples() -> None:
    seen = {index for epoch in range(10) for batch in shuffled_batches(lengths(21), 8, 0, epoch) for index in batch}
    assert len(seen) >= 20


def test_batches_hold_like_lengths() -> None:
    examples = lengths(800)
    spreads = [np.ptp([examples.length(index) for index in batch]) for batch in shuffled_batches(examples, 8, 0, 0)]
    assert np.mean(spreads) < 5  # at random about 75


def test_softmax_is_a_distribution_even_of_large_logits() -> None:
    found = softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3.0)]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize("values", [{"batch": 0}, {"tokens": 0}, {"image": 0}, {"tokn": 1}])
def test_a_workload_is_positive(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 validation error for Workload"):
        Workload(**values)
