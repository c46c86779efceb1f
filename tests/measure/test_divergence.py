"""How far answers are apart."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.measure.divergence import divergence


def test_equal_classes_are_no_nats_apart_whatever_the_logits_are_shifted_by() -> None:
    logits = np.array([[0.0, 1.0], [3.0, -2.0]])
    assert divergence(logits, logits + 7.0).mean == pytest.approx(0.0, abs=1e-12)


def test_it_is_the_mean_of_kullback_and_leibler_with_its_standard_error() -> None:
    original, other = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    found = divergence(original, other)
    assert found.mean == pytest.approx(first / 2)
    assert found.error == pytest.approx(np.std([first, 0.0], ddof=1) / np.sqrt(2))


def test_one_number_is_compared_by_its_share_of_the_variance() -> None:
    original = np.array([[0.0], [2.0]])
    assert divergence(original, original + 0.5).mean == pytest.approx(0.25)


def test_several_places_of_a_sample_count_as_one_sample() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3, 4))
    moved = logits + np.random.default_rng(1).normal(size=(5, 3, 4))
    each = [divergence(one[None], other[None]).mean for one, other in zip(logits, moved, strict=True)]
    assert divergence(logits, moved).mean == pytest.approx(np.mean(each))
    assert divergence(logits[:1], moved[:1]).error == 0.0
