"""Costs are measured through the real stages, a run is pruned to a budget by them, and its lock repeats it without."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NoReturn

import pytest
from end_to_end.made import WORKLOAD, model_folder, text_data

import edgekit
from edgekit.pruning.encoders.table import load_costs

LAYERS = 2
WHOLE = [(4, 64)] * LAYERS
RECIPE = "".join(
    ['schema = "edgekit.recipe/1"\nname = "cut"\n']
    + [f'[[stages]]\nstage = "{name}"\n' for name in ("prune", "export", "optimize", "quantize", "verify")]
)


def refuse(*_: object) -> NoReturn:
    raise AssertionError("costs were measured again")


def test_a_run_is_pruned_to_a_measured_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: None) -> None:
    for name, value in (("HEAD_SHARES", (0.5, 1.0)), ("NEURON_SHARES", (0.5, 1.0)), ("CHECKED", ((0.75, 0.75),))):
        monkeypatch.setattr(f"edgekit.pruning.encoders.design.{name}", value)
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
