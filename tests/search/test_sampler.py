"""Proposals of shapes: the base recipe's neighbours first, then optuna's; the journal keeps them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from search.world import SPACE

from edgekit.search.sampler import ShapeSampler
from edgekit.search.space import Shape

SHAPE = Shape(0.3, 4, "taylor")


def test_neighbours_come_first_and_nothing_twice(tmp_path: Path) -> None:
    sampler = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    seen = []
    for _ in range(8):
        number, shape = sampler.suggest(SHAPE)
        assert shape.kept == 0.3
        seen.append((shape.layers, shape.importance))
        sampler.tell(number, (0.1, 5.0))
    assert seen[:4] == [(4, "taylor"), (3, "taylor"), (5, "taylor"), (6, "taylor")]
    assert len(set(seen)) == len(seen)


def test_a_sampler_that_is_opened_again_goes_on(tmp_path: Path) -> None:
    first = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    number, shape = first.suggest(SHAPE)
    second = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    second.tell(number, None)
    second.tell(number, (0.1, 5.0))  # not heard: it has failed
    _, other = second.suggest(SHAPE)
    assert (shape.layers, other.layers) == (4, 3)


def test_a_model_without_layers_has_its_importance_alone(tmp_path: Path) -> None:
    sampler = ShapeSampler(tmp_path / "journal", replace(SPACE, layers=None), seed=0)
    _, shape = sampler.suggest(Shape(0.6, None, "taylor"))
    assert shape == Shape(0.6, None, "taylor")
