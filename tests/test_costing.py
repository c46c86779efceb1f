from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.costing import graph_steps, level_costs
from edgekit.errors import UsageError
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
