from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from pruning.encoders.test_table import GEOMETRY, SCOPE
from test_request_keys import REQUEST

from edgekit.costing import Costed, _name, fewest_columns, graph_of, graph_steps, hidden_of, level_costs, table_of
from edgekit.errors import UsageError
from edgekit.pruning.encoders.design import Design, Small
from edgekit.recipe import load_recipe
from edgekit.request import resolve_request
from edgekit.stages.base import Goal
from edgekit.stages.prune import PRUNE
from edgekit.target import load_target


def test_a_slow_phase_of_the_machine_does_not_reach_the_costs() -> None:
    truth = {"a": 1.0, "b": 2.0, "c": 5.0}
    random = np.random.default_rng(0)
    drift = np.where(np.arange(30) < 10, 3.0, 1.0)  # a third of the rounds is three times as slow
    blocks = {
        name: [[cost * level * random.normal(1, 0.01) for _ in range(3)] for level in drift]
        for name, cost in truth.items()
    }
    blocks["a"][20] = [9.0, 9.0, 9.0]  # and one block was interrupted
    found = level_costs(blocks)
    assert found == pytest.approx(truth, rel=0.01)


def test_the_graph_comes_from_the_stages_after_the_export_and_no_layer_falls_back() -> None:
    steps = graph_steps(load_recipe("default"))
    assert [step.stage.name for step in steps] == ["export", "optimize", "quantize"]
    assert steps[-1].settings.model_dump()["fallback"] is False
    assert [step.stage.name for step in graph_steps(load_recipe("export"))] == ["export", "optimize"]


def test_a_table_is_of_layers_in_integers_whatever_share_of_them_the_recipe_leaves_in_float() -> None:
    """Its key does not hang on the share: a search tries many of them with one table."""
    spared = load_recipe("default", {"quantize.float_share": "0.5"})
    assert spared.steps[-2].settings.model_dump()["float_share"] == 0.5
    assert graph_steps(spared)[-1].settings.model_dump()["float_share"] == 0.0
    assert graph_of(spared) == graph_of(load_recipe("default"))


@pytest.mark.parametrize(
    ("settings", "format_", "told"),
    [
        ({"budget": 2.5}, "onnx", "prune.budget=2.5 was given, and costs are multiply-accumulates"),
        ({"cost": "measured"}, "tflite", "prune.cost=measured cannot go with the format tflite"),
    ],
)
def test_settings_that_cannot_go_together_are_told_before_any_work(settings, format_, told) -> None:
    goal = Goal(load_target("arm64"), format_, "onnxruntime")
    with pytest.raises(UsageError, match=told) as refused:
        PRUNE.check(PRUNE.settings(**settings), goal)
    assert refused.value.id == "usage.settings-conflict"


def test_only_measured_costs_ask_for_a_table() -> None:
    assert not PRUNE.needs_costs(PRUNE.settings())
    assert PRUNE.needs_costs(PRUNE.settings(cost="measured", budget=3.0))


def test_a_table_that_nothing_goes_by_is_an_error(tmp_path: Path) -> None:
    from end_to_end.made import model_folder

    with pytest.raises(UsageError, match="a table of costs was given, and nothing goes by it") as refused:
        resolve_request(model_folder("bert", tmp_path), target="x86-64-vnni", costs=tmp_path / "costs.json")
    assert refused.value.id == "usage.options-conflict"


def truth(small: Small, *, bend: float = 0.0) -> float:
    """What an encoder costs: products go with the hidden size and the widths, the rest does not."""
    hidden, shape = small
    share = hidden / 384 + bend * (hidden / 384) ** 2
    total = 1.0 + 2.0 * share
    for index, (heads, neurons) in enumerate(shape):
        last = 0.3 if index == len(shape) - 1 else 1.0
        total += last * (0.2 + share * (0.3 * heads + 0.004 * neurons) + 0.05 * heads)
    return total


@pytest.mark.parametrize("narrowest", [None, 192, 96])
def test_costs_that_go_with_the_hidden_size_are_predicted_exactly(narrowest: int | None) -> None:
    geometry = GEOMETRY.model_copy(update={"narrowest": narrowest})
    design = Design.of(geometry, 6, 16)
    found = Costed({_name(small): truth(small) for small in design.measured}, "ms", "1.2")
    table = table_of(design, SCOPE.model_copy(update={"geometry": geometry}), found, ("packed",))
    assert table.schema_ == ("edgekit.costs/1" if narrowest is None else "edgekit.costs/2")
    assert table.hidden_sizes == tuple(sorted(design.hidden))
    assert (table.rewrites, table.scope.runtime_version) == (("packed",), "1.2")
    assert len(table.encoders) == len(design.measured)
    assert sum(one.fitted for one in table.encoders) == len(design.fitted)
    assert {one.hidden for one in table.encoders} >= {None, *design.hidden[1:]}
    assert table.largest_error == pytest.approx(0, abs=1e-4)  # rounded to four digits
    for hidden in (384,) if narrowest is None else (narrowest, 208, 256, 352):
        for shape in (((12, 1536),) * 6, ((3, 192), (9, 800), (6, 512))):
            assert table.at(hidden).predict(shape) == pytest.approx(truth((hidden, shape)))


def test_the_error_between_hidden_sizes_is_that_of_encoders_that_the_table_was_not_made_of() -> None:
    geometry = GEOMETRY.model_copy(update={"narrowest": 192})
    design = Design.of(geometry, 6, 16)
    found = Costed({_name(small): truth(small, bend=0.5) for small in design.measured}, "ms", "")
    table = table_of(design, SCOPE.model_copy(update={"geometry": geometry}), found)
    errors = {one.hidden: one.error for one in table.encoders if not one.fitted}
    assert errors[None] == pytest.approx(0, abs=1e-4)
    assert errors.keys() == {None, 240, 336}
    assert min(errors[240], errors[336]) > 0.0005  # lines lie above what bends upwards
    assert table.largest_error == max(errors[240], errors[336]) < 0.05


def with_hidden(*hidden: float) -> Any:
    """A request whose recipe prunes the hidden size in so many stages."""
    recipe = load_recipe("default")
    (prune,) = (step for step in recipe.steps if step.stage is PRUNE)
    pruned = [replace(prune, settings=PRUNE.settings(hidden=one)) for one in hidden]
    steps = (*pruned, *(step for step in recipe.steps if step.stage is not PRUNE))
    return replace(REQUEST, recipe=replace(recipe, steps=steps), target=load_target("arm64"))


def test_the_hidden_sizes_of_every_stage_count() -> None:
    model = tiny.build("bert")
    whole, half, twice = with_hidden(), with_hidden(0.5), with_hidden(0.75, 8)
    assert [hidden_of(one.recipe) for one in (whole, half, twice)] == [[], [0.5], [0.75, 8]]
    multiple = half.target.width_multiple
    assert fewest_columns(model, whole) == tiny.HIDDEN
    assert fewest_columns(model, half) == max(multiple, tiny.HIDDEN // 2)
    assert fewest_columns(model, twice) == max(multiple, 8)


def test_more_columns_than_there_are_are_told_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match=r"prune\.hidden=33 was given, and the model has a hidden size of 32"):
        fewest_columns(tiny.build("bert"), with_hidden(33))
