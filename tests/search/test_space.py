"""Trials as recipes: tables of stages that parse, and shapes that come out as they were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from search.world import SPACE, with_levers

from edgekit.recipe import load_recipe
from edgekit.search.space import LEVERS, Shape, recipe_of, training_of

SHAPE = Shape(0.3, 4, "taylor")


def test_a_cut_removes_what_the_shape_does_not_keep() -> None:
    assert SPACE.cut(SHAPE) == {"stage": "prune", "ratio": 0.7, "importance": "taylor", "layers": 0.6667}
    further = SPACE.cut(Shape(0.21, 4, "taylor"), of=SHAPE)
    assert (further["ratio"], further["layers"]) == (0.3, 1.0)


def test_a_small_shape_lowers_what_each_layer_has_to_keep() -> None:
    assert SPACE.cut(Shape(0.08, 4, "fisher"))["floor"] == 0.07


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
    assert SPACE.taught(200) == {"stage": "distill", "max_steps": 200, "evaluate_every": 50}
    assert SPACE.taught(4200)["evaluate_every"] == 300


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


def test_no_method_is_no_quantization() -> None:
    assert [table["stage"] for table in SPACE.quantized("")] == ["export", "optimize", "verify"]
    assert SPACE.quantized("static")[2] == {"stage": "quantize", "method": "static"}


def test_savings_stand_behind_the_training() -> None:
    stages = with_levers().whole((SPACE.cut(SHAPE), SPACE.taught(10)), LEVERS)
    assert [table["stage"] for table in stages][:3] == ["prune", "distill", "vocabulary"]
    assert stages[5] == {"stage": "quantize", "embeddings": "int4"}
