"""Proposals of shapes: the base recipe's neighbours first, then optuna's; the journal keeps them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from search.world import SPACE

from edgekit.search.sampler import ShapeSampler
from edgekit.search.space import Shape

SHAPE = Shape(0.3, 4, "taylor")


def test_neighbours_come_first_and_nothing_twice(tmp_path: Path) -> None:
    sampler = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    seen = []
    for _ in range(8):
        number, shape = sampler.suggest(SHAPE, SPACE.layer_choices)
        assert shape.kept == 0.3
        seen.append((shape.layers, shape.importance))
        sampler.tell(number, (0.1, 5.0))
    assert seen[:4] == [(4, "taylor"), (3, "taylor"), (5, "taylor"), (6, "taylor")]
    assert len(set(seen)) == len(seen)


def test_a_sampler_that_is_opened_again_goes_on(tmp_path: Path) -> None:
    first = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    number, shape = first.suggest(SHAPE, SPACE.layer_choices)
    second = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    second.tell(number, None)
    second.tell(number, (0.1, 5.0))  # not heard: it has failed
    _, other = second.suggest(SHAPE, SPACE.layer_choices)
    assert (shape.layers, other.layers) == (4, 3)


def test_a_model_without_layers_has_its_importance_alone(tmp_path: Path) -> None:
    sampler = ShapeSampler(tmp_path / "journal", replace(SPACE, layers=None), seed=0)
    _, shape = sampler.suggest(Shape(0.6, None, "taylor"), ())
    assert shape == Shape(0.6, None, "taylor")


def test_layers_that_cannot_cost_as_much_are_passed_over(tmp_path: Path) -> None:
    sampler = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    seen = []
    for _ in range(4):
        number, shape = sampler.suggest(SHAPE, (3, 6))
        seen.append((shape.layers, shape.importance))
        sampler.tell(number, (0.1, 5.0))
    assert set(seen) == {(3, "taylor"), (6, "taylor"), (3, "fisher"), (6, "fisher")}


def test_a_journal_that_ends_in_half_a_line_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    number, _ = ShapeSampler(file, SPACE, seed=0).suggest(SHAPE, SPACE.layer_choices)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code": 4, "wor')
    ShapeSampler(file, SPACE, seed=0).tell(number, (0.1, 5.0))
    _, other = ShapeSampler(file, SPACE, seed=0).suggest(SHAPE, SPACE.layer_choices)
    assert file.read_bytes().startswith(whole)
    assert other.layers == 3


def test_a_journal_that_cannot_be_read_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "journal"
    ShapeSampler(file, SPACE, seed=0).suggest(SHAPE, SPACE.layer_choices)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    _, shape = ShapeSampler(file, SPACE, seed=0).suggest(SHAPE, SPACE.layer_choices)
    assert shape.layers == 4
    assert "journal is damaged" in caplog.text


def test_a_proposal_of_a_journal_that_was_lost_is_not_told(tmp_path: Path) -> None:
    sampler = ShapeSampler(tmp_path / "journal", SPACE, seed=0)
    for proposal in (0, 1, 12):
        sampler.tell(proposal, (0.1, 5.0))
    _, shape = sampler.suggest(SHAPE, SPACE.layer_choices)
    assert shape.layers == 4
