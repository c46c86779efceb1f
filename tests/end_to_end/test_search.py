"""Limits in, a recipe out: the search from end to end, on tiny models and a pretended device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
from end_to_end.made import WORKLOAD, model_folder, text_data

import edgekit
from edgekit.recipe import load_recipe
from edgekit.source import sha256_file

SETTINGS = {
    "prune.samples": "64",
    "distill.batch_size": "8",
    "optimize.seconds": "0.2",
    "quantize.tolerance": "1.0",
}
DAY = 86400.0


def search(folder: Path, **options: Any) -> edgekit.Report:
    common = {"target": "x86-64-vnni", "workload": WORKLOAD, "jobs": 1, "output": folder / "out"}
    return edgekit.compress(**{**common, **options})


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_a_budget_is_met_by_pruning_and_its_lock_repeats_without_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.stages.distill.FEWEST_STEPS", 1)  # two passes are enough here
    monkeypatch.setattr("edgekit.search.strategy.PROXY_SHARE", 0.0)
    given = {
        "source": model_folder("bert", tmp_path / "model"),
        "data": text_data(tmp_path),
    }
    quantized = search(tmp_path, recipe="quantize", max_drop=1.0, **given)
    budget = 0.8 * (quantized.latency_ms.p50 or 0.0)
    report = search(tmp_path, settings=SETTINGS, max_drop=1.0, max_ms=budget, time=DAY, **given)
    assert report.passed
    assert [limit.limit for limit in report.limits] == ["max_drop", "max_ms", "time"]
    assert 0.85 * budget < (report.latency_ms.p50 or 0.0) <= budget  # widths of tiny models are few
    found = report.search
    assert found is not None
    assert found.fill
    assert not found.nearest
    assert found.ended == "every limit is kept"
    assert [trial.kind for trial in found.trials][:3] == ["quantized", "pace", "timing"]
    chosen = found.trials[found.chosen]
    assert chosen.kind == "full"
    assert chosen.reason == "the result"
    assert found.looks == 2
    assert report.quality is not None
    assert report.quality.looks == 2
    assert [row.stage for row in report.ledger] == ["original", "prune", "distill", "export", "optimize", "quantize"]
    edgekit.verify(tmp_path / "out")

    assert search(tmp_path, settings=SETTINGS, max_drop=1.0, max_ms=budget, time=DAY, **given).cached
    lock = tmp_path / "out" / "recipe.lock.toml"
    recipe = load_recipe(lock)
    assert recipe.limits.max_ms == budget
    assert recipe.limits.time is None
    again = search(tmp_path, recipe=lock, **{**given, "output": tmp_path / "again", "workload": None, "jobs": None})
    assert again.search is None
    assert sha256_file(tmp_path / "again" / "model.onnx") == sha256_file(tmp_path / "out" / "model.onnx")


@pytest.mark.usefixtures("device")
def test_a_dry_run_says_what_would_be_searched(tmp_path: Path) -> None:
    given = {"source": model_folder("bert", tmp_path / "model"), "target": "x86-64-vnni", "data": text_data(tmp_path)}
    plan = edgekit.plan(**given, max_ms=5.0, output=tmp_path / "out")
    assert plan.search is not None
    assert plan.search.model_dump() == {"objective": "latency", "fill": True, "seconds": 3600.0}
    assert plan.seconds == 3600.0
    assert plan.notes[0].startswith("a recipe is searched for, limits on cost are used up for quality, in 1 h 00 min")
    assert "shapes are timed untrained until one is within the budget" in plan.notes[2]
    least = edgekit.plan(**given, time=600.0, objective="size", output=tmp_path / "out")
    assert least.notes[0].startswith("a recipe is searched for, least size within the limits, in 10 min at most")
    assert edgekit.plan(**given, recipe="default", max_ms=5.0, output=tmp_path / "out").search is None


@pytest.mark.usefixtures("device")
def test_a_graph_of_others_is_quantized_in_every_way_that_the_target_takes(tmp_path: Path) -> None:
    graph = foreign.two_and_two(tmp_path / "net.onnx")
    report = search(tmp_path, source=graph, max_drop=1.0, time=DAY)
    found = report.search
    assert found is not None
    assert {trial.kind for trial in found.trials} == {"quantized"}
    assert found.ended == "every way to quantize that the target takes was tried"
    assert found.metric == ""
    assert found.looks == 0
    costs = [trial.latency_ms for trial in found.trials if trial.latency_ms is not None]
    assert found.trials[found.chosen].latency_ms == min(costs)
    assert np.isclose(report.latency_ms.p50 or 0.0, min(costs), rtol=0.05)
