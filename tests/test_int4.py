from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.int4 import HIGHEST, LOWEST, SHARES, scales_of, steps_of


def furthest_of(blocks: Any) -> Any:
    return np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1, keepdims=True), axis=-1)


def drawn() -> Any:
    return np.random.default_rng(0).standard_normal((7, 3, 64)).astype(np.float32)


def test_the_scale_is_the_best_of_its_shares() -> None:
    blocks = drawn()
    scales = scales_of(blocks, furthest_of(blocks), np)
    assert (scales.dtype, scales.shape) == (np.float32, (7, 3, 1))
    for block, scale in zip(blocks.reshape(-1, 64), scales.ravel(), strict=True):
        whole = furthest_of(block) / LOWEST
        errors = {
            share: np.square(np.clip(np.rint(block / (whole * share)), -8, 7) * whole * share - block).sum()
            for share in SHARES
        }
        assert scale / whole == pytest.approx(min(errors, key=lambda share: float(errors[share])))


def test_steps_are_whole_numbers_from_the_lowest_to_the_highest() -> None:
    blocks = drawn()
    steps = steps_of(blocks, scales_of(blocks, furthest_of(blocks), np), np)
    assert (steps.min(), steps.max()) == (LOWEST, HIGHEST)
    assert (steps.dtype, np.array_equal(steps, steps.astype(np.int8))) == (np.float32, True)


def test_numpy_and_torch_find_the_same(torch_alone: Any) -> None:
    blocks = drawn()
    blocks[0, 0] = 0
    scales = scales_of(blocks, furthest_of(blocks), np)
    values, furthest = (torch_alone.from_numpy(found) for found in (blocks, furthest_of(blocks)))
    found = scales_of(values, furthest, torch_alone)
    assert np.array_equal(found.numpy(), scales)
    assert np.array_equal(steps_of(values, found, torch_alone).numpy(), steps_of(blocks, scales, np))
    assert float(scales[0, 0, 0]) == 1


def test_a_block_of_next_to_nothing_has_steps(torch_alone: Any) -> None:
    """An eighth of the least number is 0, by which nothing can be divided."""
    blocks = np.zeros((1, 1, 64), np.float32)
    blocks[0, 0, 3] = np.float32(1e-45)
    for values, furthest, xp in (
        (blocks, furthest_of(blocks), np),
        (torch_alone.from_numpy(blocks), torch_alone.from_numpy(furthest_of(blocks)), torch_alone),
    ):
        scales = scales_of(values, furthest, xp)
        assert float(scales[0, 0, 0]) == 1
        assert not np.asarray(steps_of(values, scales, xp)).any()
