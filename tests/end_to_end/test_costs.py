"""Costs are measured through the real stages, a run is pruned to a budget by them, and its lock repeats it without."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import pytest
from end_to_end.made import WORKLOAD, model_folder, text_data
from tiny import HIDDEN

import edgekit
from edgekit.errors import UsageError
from edgekit.pruning.encoders.table import load_costs

LAYERS = 2
WHOLE = [(4, 64)] * LAYERS
RECIPE = "".join(
    ['schema = "edgekit.recipe/1"\nname = "cut"\n']
    + [f'[[stages]]\nstage = "{name}"\n' for name in ("prune", "export", "optimize", "quantize", "verify")]
)


def refuse(*_: object) -> NoReturn:
    raise AssertionError("costs were measured again")


@pytest.fixture
def few_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two widths of each kind are measured, and two hidden sizes."""
    two = (0.5, 1.0)
    for name, value in (("HEAD_SHARES", two), ("NEURON_SHARES", two), ("CHECKED", ((0.75, 0.75),))):
        monkeypatch.setattr(f"edgekit.pruning.encoders.design.{name}", value)
    for name, value in (("HIDDEN_SHARES", (0.5,)), ("HIDDEN_CHECKED", (0.75,))):
        monkeypatch.setattr(f"edgekit.pruning.encoders.design.{name}", value)


@pytest.mark.usefixtures("device", "few_encoders")
def test_a_run_is_pruned_to_a_measured_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cut.toml").write_text(RECIPE)
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    options: dict[str, Any] = {"target": "x86-64-vnni", "workload": WORKLOAD, "jobs": 1}
    settings = {"optimize.seconds": "0.2", "quantize.tolerance": "1.0", "prune.samples": "64", "prune.layers": "1.0"}

    table = edgekit.costs(model, recipe=tmp_path / "cut.toml", output=tmp_path / "costs.json", **options)
    assert table.unit == "ms"
    assert load_costs(tmp_path / "costs.json") == table
    assert (len(table.encoders), sum(one.fitted for one in table.encoders)) == (8, 6)
    assert table.largest_error is not None
    assert table.largest_error < 0.02  # costs of the pretended device are linear in the weights
    monkeypatch.setattr("edgekit.workshop.measure_costs", refuse)

    budget = 0.9 * table.predict(WHOLE)
    settings |= {"prune.cost": "measured", "prune.budget": str(budget)}
    common: dict[str, Any] = {"data": data, "max_drop": 1.0, **options}
    report = edgekit.compress(model, recipe=tmp_path / "cut.toml", settings=settings, output=tmp_path / "a", **common)
    details: Any = next(stage.details for stage in report.stages if stage.stage == "prune")
    widths = [(layer["heads"], layer["neurons"]) for layer in details["kept"]]
    assert details["predicted"]["after"] == pytest.approx(table.predict(widths), abs=1e-3)
    assert 0.9 * budget < details["predicted"]["after"] <= budget < details["predicted"]["before"]
    assert [note for note in report.notes if note.startswith("an inference was predicted to cost")] != []

    lock = tmp_path / "a" / "recipe.lock.toml"
    decided = tomllib.loads(lock.read_text())["lock"]["decisions"]["prune.widths"]
    assert [tuple(pair) for pair in decided["widths"]] == widths
    edgekit.compress(
        model, recipe=tmp_path / "cut.toml", settings=settings, output=tmp_path / "c", **common | {"max_drop": 0.9}
    )  # another run, whose stages are all in the cache
    known = tomllib.loads((tmp_path / "c" / "recipe.lock.toml").read_text())["lock"]["decisions"]
    assert known["prune.widths"] == decided

    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "other-cache"))
    again = edgekit.compress(model, recipe=lock, output=tmp_path / "b", **common)
    assert (tmp_path / "b" / "model.onnx").read_bytes() == (tmp_path / "a" / "model.onnx").read_bytes()
    assert again.artifact.size_bytes == report.artifact.size_bytes


@pytest.mark.slow
@pytest.mark.usefixtures("device", "few_encoders")
def test_a_hidden_size_is_pruned_by_costs_that_lie_between_those_that_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut.toml").write_text(RECIPE)
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS, hidden_size=2 * HIDDEN), text_data(tmp_path)
    options: dict[str, Any] = {
        "target": "x86-64-vnni",
        "workload": WORKLOAD,
        "jobs": 1,
        "recipe": tmp_path / "cut.toml",
    }
    settings = {"optimize.seconds": "0.2", "quantize.tolerance": "1.0", "prune.samples": "64", "prune.layers": "1.0"}

    costs = tmp_path / "costs.json"
    table = edgekit.costs(model, settings={"prune.hidden": "0.6"}, output=costs, **options)
    assert (table.schema_, table.hidden_sizes) == ("edgekit.costs/2", (HIDDEN, 2 * HIDDEN))
    assert (len(table.encoders), sum(one.fitted for one in table.encoders)) == (15, 12)
    assert [one.hidden for one in table.encoders if not one.fitted] == [None, None, 48]
    assert table.largest_error is not None
    assert table.largest_error < 0.02

    monkeypatch.setattr("edgekit.workshop.measure_costs", refuse)
    settings |= {"prune.cost": "measured", "prune.hidden": "0.75", "prune.ratio": "0.3"}
    report = edgekit.compress(
        model, data=data, max_drop=1.0, settings=settings, costs=costs, output=tmp_path / "a", **options
    )
    details: Any = next(stage.details for stage in report.stages if stage.stage == "prune")
    assert (details["hidden"], details["hidden_of"]) == (48, 2 * HIDDEN)
    widths = [(layer["heads"], layer["neurons"]) for layer in details["kept"]]
    predicted = details["predicted"]
    assert predicted["before"] == pytest.approx(table.predict(WHOLE), abs=1e-3)
    assert predicted["after"] == pytest.approx(table.at(48).predict(widths), abs=1e-3)
    assert 0.6 * predicted["before"] < predicted["after"] <= 0.7 * predicted["before"]
    (note,) = [note for note in report.notes if note.startswith("an inference was predicted to cost")]
    found = re.search(r"and costs ([\d.]+) ms: ", note)
    assert found is not None, note
    assert float(found[1]) == pytest.approx(predicted["after"], rel=0.05)

    smaller = settings | {"prune.hidden": "0.25"}
    with pytest.raises(UsageError, match="for something else") as refused:
        edgekit.compress(model, data=data, settings=smaller, costs=costs, output=tmp_path / "b", **options)
    assert refused.value.why == f"hidden: from {HIDDEN} columns on in the table, 16 here"
