"""Trials as recipes: tables of stages that parse, and shapes that come out as they were asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pruning.encoders.test_table import of_sizes
from search.world import REACH, SPACE, with_levers
from test_request_keys import REQUEST

from edgekit.pruning.encoders.table import CostTable
from edgekit.recipe import Limits, load_recipe, read_step
from edgekit.search.space import LEVERS, Shape, _measures, reach_of, recipe_of, space_of, training_of
from edgekit.target import load_target
from edgekit.trials import Search

SHAPE = Shape(0.3, 4, "taylor")


def test_a_cut_removes_what_the_shape_does_not_keep() -> None:
    assert SPACE.cut(SHAPE) == {"stage": "prune", "ratio": 0.7, "importance": "taylor", "layers": 0.6667}
    further = SPACE.cut(Shape(0.21, 4, "taylor"), of=SHAPE)
    assert (further["ratio"], further["layers"]) == (0.3, 1.0)


def test_a_small_shape_lowers_what_each_layer_has_to_keep() -> None:
    assert SPACE.cut(Shape(0.08, 4, "fisher"))["floor"] == 0.07


def test_by_a_table_a_cut_removes_a_share_of_the_predicted_cost() -> None:
    space = replace(SPACE, reach=REACH)
    table = {"stage": "prune", "ratio": 0.7, "importance": "taylor", "layers": 0.6667, "cost": "measured"}
    assert space.cut(SHAPE) == table
    narrow = space.cut(Shape(0.2, 4, "taylor"))
    assert narrow["floor"] == pytest.approx(0.6 * (0.2 - 0.13) / (0.62 - 0.13), abs=0.005)
    further = space.cut(Shape(0.21, 4, "taylor"), of=SHAPE)
    assert (further["ratio"], further["layers"], "floor" in further) == (0.3, 1.0, False)
    fewer = space.cut(Shape(0.12, 3, "taylor"), of=Shape(0.2, 4, "taylor"))
    assert (fewer["ratio"], fewer["layers"]) == (0.4, 0.75)


def test_no_less_is_asked_of_layers_than_the_narrowest_of_them_cost() -> None:
    space = replace(SPACE, reach=REACH)
    assert space.cut(Shape(0.05, 4, "taylor"))["ratio"] == 0.87
    assert space.cut(Shape(0.05, 4, "taylor"))["floor"] == 0.0
    assert [space.layers_near(kept, 4) for kept in (0.9, 0.7, 0.3, 0.12, 0.02)] == [6, 5, 4, 3, 3]
    assert space.comparable(Shape(0.15, 4, "taylor")) == (4, 3)
    assert space.comparable(Shape(0.01, 4, "taylor")) == (4,)
    assert SPACE.layers_near(0.02, 4) == 4
    assert replace(SPACE, layers=None).comparable(Shape(0.3, None, "taylor")) == ()


def test_equal_widths_have_the_share_of_the_cost_that_they_have_of_the_widths() -> None:
    assert SPACE.share(0.3, 4) == 0.3
    assert replace(SPACE, reach=REACH).share(0.3, 4) == pytest.approx(0.13 + 0.45 * 0.49)
    assert replace(SPACE, reach=REACH).default.kept == pytest.approx(0.13 + 0.45 * 0.49)


def test_the_reach_of_layers_is_what_the_table_predicts_of_their_narrowest_and_widest() -> None:
    curves = {
        "base": 1.0,
        "attention": ((1, 2.0), (4, 5.0)),
        "feed_forward": ((16, 1.0), (64, 4.0)),
        "last_attention": ((4, 2.0),),
        "last_feed_forward": ((64, 1.0),),
    }
    table = CostTable.model_construct(**curves)
    one, two, three = reach_of(table, [(4, 64)] * 3, 16)
    whole = 1 + 2 * 9 + 3
    assert three == (pytest.approx(1.02 * 10 / whole, abs=1e-6), 1.0)
    assert two == (pytest.approx(1.02 * 7 / whole, abs=1e-6), pytest.approx(13 / whole, abs=1e-6))
    assert one == (
        pytest.approx(4 / whole, abs=1e-6),
        pytest.approx(4 / whole, abs=1e-6),
    )  # one layer has one width here


def test_the_reach_of_layers_is_of_the_hidden_size_that_stays() -> None:
    table, widths = of_sizes(192), [(12, 1536)] * 6
    found = reach_of(table, widths, 16, 192)
    usual = reach_of(table, widths, 16)
    assert usual == reach_of(table, widths, 16, 384)
    assert found == tuple(
        (pytest.approx(least / 2, abs=2e-6), pytest.approx(most / 2, abs=2e-6)) for least, most in usual
    )


@pytest.mark.parametrize(
    ("changes", "measured"),
    [
        ({}, True),
        ({"time": 300.0}, False),
        ({"time": 300.0, "costs": "given"}, True),
        ({"places": ()}, False),
        ({"format": "tflite"}, False),
        ({"layers": 1}, False),
        ({"objective": "size"}, False),
        ({"fill": True, "max_mb": 3.0}, False),
        ({"fill": True, "max_ms": 3.0}, True),
        ({"fill": True, "max_instructions": 10}, True),
        ({"prune": {"hidden": 0.5}}, False),
        ({"prune": {"hidden": 0.5}, "costs": "given"}, True),
        ({"prune": {"hidden": 0.5}, "costs": "given", "objective": "size"}, False),
        ({"prune": {"tokens": 0.5}, "costs": "given"}, False),
    ],
)
def test_costs_are_measured_where_they_decide_and_time_allows(changes: dict[str, Any], *, measured: bool) -> None:
    asked: dict[str, Any] = {
        "time": 3600.0,
        "costs": None,
        "places": ("here",),
        "format": "onnx",
        "layers": 6,
    } | changes
    search = Search(objective=asked.pop("objective", "latency"), fill=asked.pop("fill", False))
    names = ("time", "max_ms", "max_mb", "max_instructions")
    limits = Limits(**{name: asked.pop(name) for name in names if name in asked})
    layers = asked.pop("layers")
    prune = read_step({"stage": "prune"} | asked.pop("prune", {}), "a stage")
    request: Any = SimpleNamespace(search=search, limits=limits, **asked)
    assert _measures(request, layers, prune) == measured


def test_a_search_with_a_hidden_size_cuts_every_shape_to_it() -> None:
    given: Any = "a table"
    recipe = load_recipe("default", {"prune.hidden": "0.5"})
    request = replace(REQUEST, search=Search(objective="latency"), costs=given, recipe=recipe)
    space = space_of(request, 6, 1000)
    assert space.measures
    assert space.cut(SHAPE)["hidden"] == 0.5
    assert not space_of(replace(request, costs=None), 6, 1000).measures


def test_a_search_with_fewer_tokens_cuts_every_shape_to_them_and_goes_by_no_table() -> None:
    given: Any = "a table"
    recipe = load_recipe("default", {"prune.tokens": "0.5"})
    space = space_of(replace(REQUEST, search=Search(objective="latency"), costs=given, recipe=recipe), 6, 1000)
    assert not space.measures
    assert space.cut(SHAPE)["tokens"] == 0.5


def test_by_a_table_shapes_of_a_smaller_hidden_size_are_shares_of_the_whole_model() -> None:
    """Of 6 layers, the narrowest and the widest that a hidden size of two thirds leaves."""
    least, most = 0.15, 0.7
    reach = tuple((least * count / 6, most * count / 6) for count in range(1, 7))
    space = replace(SPACE, reach=reach)
    assert space.span(6) == pytest.approx((least, most))
    assert space.share(0.7, 6) == pytest.approx(most)  # what columns save, heads and neurons need not
    assert space.share(0.35, 6) == pytest.approx((least + most) / 2)
    assert space.cut(Shape(most, 6, "taylor"))["ratio"] == pytest.approx(1 - most)
    assert "floor" not in space.cut(Shape(most, 6, "taylor"))
    assert space.cut(Shape(0.75 * least / 2 + 0.25 * most / 2, 3, "taylor"))["floor"] == 0.15
    student = Shape(most, 6, "taylor")
    further = space.cut(Shape(0.35, 3, "taylor"), of=student)
    assert (further["ratio"], further["layers"], "floor" in further) == (0.5, 0.5, False)


def test_a_model_without_layers_is_cut_by_ratio_alone() -> None:
    table = replace(SPACE, layers=None).cut(Shape(0.6, None, "magnitude"))
    assert table == {"stage": "prune", "ratio": 0.4, "importance": "magnitude"}


def test_the_usual_shape_and_its_neighbours_are_the_base_recipes() -> None:
    assert SPACE.default == Shape(pytest.approx(0.3), 4, "taylor")
    assert SPACE.layer_choices == (4, 3, 5, 6)
    assert replace(SPACE, layers=12).layer_choices == (8, 7, 9, 6)
    assert replace(SPACE, layers=None).layer_choices == ()
    assert SPACE.importances == ("taylor", "fisher")


def test_a_training_looks_a_few_times_on_its_way() -> None:
    assert SPACE.taught(200) == {"stage": "distill", "max_steps": 200, "evaluate_every": 200}
    assert SPACE.taught(1200)["evaluate_every"] == 300
    assert SPACE.taught(4200)["evaluate_every"] == 700
    said = replace(SPACE, distill={"stage": "distill", "evaluate_every": 50})
    assert said.taught(200)["evaluate_every"] == 50


def test_a_trial_is_a_recipe_with_the_base_recipes_limits() -> None:
    base = load_recipe("default")
    stages = SPACE.whole((SPACE.cut(SHAPE), SPACE.taught(100)))
    recipe = recipe_of(base, stages)
    names = [step.stage.name for step in recipe.steps]
    assert names == ["prune", "distill", "export", "optimize", "quantize", "verify"]
    assert recipe.limits == base.limits
    assert recipe.as_dict()["stages"][0]["ratio"] == 0.7  # type: ignore[index,call-overload]  # tables in a list


def test_quick_trials_do_without_a_fall_back() -> None:
    quick = SPACE.whole((SPACE.cut(SHAPE),), quick=True)
    assert quick[3] == {"stage": "quantize", "fallback": False}
    assert training_of(quick) == (SPACE.cut(SHAPE),)


def test_students_learn_with_the_tables_that_are_shipped() -> None:
    space = replace(SPACE, narrows=True)
    assert space.taught(100)["embeddings"] == "int4"
    for training in ((space.cut(SHAPE), space.taught(100)), (space.cut(SHAPE),)):
        assert {"stage": "quantize", "embeddings": "int4"} in space.whole(training)
    assert {"stage": "quantize"} in space.whole(())
    assert {"stage": "quantize", "method": "static"} in space.whole((space.cut(SHAPE),), method="static")


@pytest.mark.parametrize(
    ("changes", "narrows"),
    [
        ({}, True),
        ({"recipe": load_recipe("default", {"quantize.tolerance": "0.01"})}, True),
        ({"recipe": load_recipe("default", {"quantize.embeddings": "int8"})}, False),
        ({"recipe": load_recipe("default", {"distill.freeze_embeddings": "false"})}, False),
        ({"recipe": load_recipe("quantize")}, False),
        ({"target": load_target("cuda")}, False),
        ({"format": "tflite"}, False),
        ({"layers": None}, False),
    ],
)
def test_words_are_int4_where_the_runtime_reads_them_and_nobody_says_otherwise(
    changes: dict[str, Any], *, narrows: bool
) -> None:
    request = replace(
        REQUEST,
        search=Search(objective="latency"),
        **{name: value for name, value in changes.items() if name != "layers"},
    )
    assert space_of(request, changes.get("layers", 6), 1000).narrows == narrows


def test_no_method_is_no_quantization() -> None:
    assert [table["stage"] for table in SPACE.quantized("")] == ["export", "optimize", "verify"]
    assert SPACE.quantized("static")[2] == {"stage": "quantize", "method": "static"}


def test_savings_stand_behind_the_training() -> None:
    stages = with_levers().whole((SPACE.cut(SHAPE), SPACE.taught(10)), LEVERS)
    assert [table["stage"] for table in stages][:3] == ["prune", "distill", "vocabulary"]
    assert stages[5] == {"stage": "quantize", "embeddings": "int4"}
