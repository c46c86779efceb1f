"""Limits in, a recipe out: the search from end to end, on tiny models and a pretended device."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
from end_to_end.killing import kill_at
from end_to_end.made import WORKLOAD, events, model_folder, no_profile, text_data
from pruning.encoders.test_table import table

import edgekit
from edgekit.assembly import IN_A_HURRY
from edgekit.devices.meter import Meter
from edgekit.errors import UsageError
from edgekit.feasibility import NO_ENERGY
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
    monkeypatch.setattr("edgekit.search.space.LEVERS", ())  # on this device what is smaller is faster
    for name, value in (("HEAD_SHARES", (0.5, 1.0)), ("NEURON_SHARES", (0.5, 1.0)), ("CHECKED", ((0.75, 0.75),))):
        monkeypatch.setattr(f"edgekit.pruning.encoders.design.{name}", value)
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
    assert [trial.kind for trial in found.trials][:4] == ["quantized", "pace", "costs", "timing"]
    assert found.trials[2].reach[-1][1] == 1.0
    chosen = found.trials[found.chosen]
    assert chosen.kind == "full"
    assert chosen.reason == "the result"
    assert chosen.share_of == "predicted cost"
    details: Any = next(stage.details for stage in report.stages if stage.stage == "prune")
    assert chosen.kept == pytest.approx(details["predicted"]["after"] / details["predicted"]["before"], abs=1e-6)
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


# The search of the test below, in a process of its own.
KILLED = """
import json, sys
import pytest
from end_to_end.made import WORKLOAD, pretend_device
from end_to_end.test_search import shorten
import edgekit

pretend_device(pytest.MonkeyPatch())
shorten(pytest.MonkeyPatch())
edgekit.compress(workload=WORKLOAD, jobs=1, target="x86-64-vnni", **json.loads(sys.argv[1]))
"""


def shorten(patch: pytest.MonkeyPatch) -> None:
    """A search whose only long training takes some 150 steps, and whose shapes go by multiply-accumulates."""
    patch.setattr("edgekit.stages.distill.FEWEST_STEPS", 150)
    patch.setattr("edgekit.search.strategy.PROXY_SHARE", 0.0)
    patch.setattr("edgekit.search.space.SHORT_BOX", math.inf)
    patch.setattr("edgekit.search.space.LEVERS", ())
    patch.setattr("edgekit.assembly.profile_sides", no_profile)


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_a_search_that_is_killed_in_a_training_leaves_a_valid_artifact_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    options = {
        "source": str(model_folder("bert", tmp_path / "model")),
        "data": str(text_data(tmp_path)),
        "output": str(out),
        "settings": SETTINGS | {"distill.checkpoint_every": "5"},
        "max_drop": 1.0,
        "max_ms": 0.1,  # nothing is so fast: one training of the smallest shape
        "time": DAY,
    }
    before = kill_at(options, cache, "distill.checkpoint", "step", 20, script=KILLED, seconds=900)
    reached = max(event["step"] for event in before if event["event"] == "distill.checkpoint")
    assert reached >= 20  # in the long training: the one that is only timed has eight steps
    edgekit.verify(out)
    left = json.loads((out / "report.json").read_text())
    assert left["status"] == "in progress"
    assert left["search"]["chosen"] == 0
    assert [row["stage"] for row in left["ledger"]] == ["original", "export", "optimize", "quantize"]

    monkeypatch.setenv("EDGEKIT_CACHE", str(cache))
    shorten(monkeypatch)
    report = search(tmp_path, **options)
    assert not report.cached
    assert report.status == "complete"
    found = report.search
    assert found is not None
    assert found.attempts == 2
    (full,) = [trial for trial in found.trials if trial.kind == "full"]
    assert found.chosen == full.number
    assert found.nearest
    starts = [event["step"] for event in events(cache) if event["event"] == "distill.start"]
    assert max(starts) >= reached  # not from its beginning
    edgekit.verify(out)


@pytest.mark.usefixtures("device")
def test_a_dry_run_says_what_would_be_searched(tmp_path: Path) -> None:
    given = {"source": model_folder("bert", tmp_path / "model"), "target": "x86-64-vnni", "data": text_data(tmp_path)}
    plan = edgekit.plan(**given, max_ms=5.0, output=tmp_path / "out")
    assert plan.search is not None
    assert plan.search.model_dump() == {"objective": "latency", "fill": True, "seconds": 3600.0}
    assert plan.seconds == 3600.0
    assert plan.notes[0].startswith("a recipe is searched for, limits on cost are used up for quality, in 1 h 00 min")
    assert plan.notes[2].startswith(
        "what heads and neurons of an encoder cost is measured; "
        "shapes are timed untrained until one is within the budget; "
    )
    least = edgekit.plan(**given, time=600.0, objective="size", output=tmp_path / "out")
    assert least.notes[0].startswith("a recipe is searched for, least size within the limits, in 10 min at most")
    assert least.notes[2].startswith("as far as the time allows")
    assert least.notes[2].endswith("faster while the loss is within its limit, else longer or slower")
    assert plan.notes[2].endswith("longer, or another one, until every limit is kept")
    small = edgekit.plan(**given, max_mb=5.0, output=tmp_path / "out")
    assert small.notes[2].startswith("shapes are timed untrained")  # of size no table of costs is made
    assert edgekit.plan(**given, recipe="default", max_ms=5.0, output=tmp_path / "out").search is None


@pytest.mark.usefixtures("device")
def test_energy_is_what_a_search_goes_by_where_counters_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"source": model_folder("bert", tmp_path / "model"), "target": "x86-64-vnni", "data": text_data(tmp_path)}
    monkeypatch.setattr("edgekit.feasibility.Meter", lambda: Meter(str(tmp_path)))
    with pytest.raises(UsageError, match="--objective energy cannot be measured") as refused:
        edgekit.plan(**given, objective="energy", output=tmp_path / "out")
    assert (refused.value.id, refused.value.why) == ("usage.limit-not-measurable", NO_ENERGY)
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text("1000")
    (folder / "name").write_text("package-0")
    plan = edgekit.plan(**given, objective="energy", output=tmp_path / "out")
    assert plan.notes[0].startswith("a recipe is searched for, least energy within the limits, in 1 h 00 min")


@pytest.mark.usefixtures("device")
def test_a_table_of_costs_that_a_search_cannot_go_by_is_an_error(tmp_path: Path) -> None:
    graph = foreign.two_and_two(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="a table of costs was given, and nothing goes by it") as refused:
        search(tmp_path, source=graph, max_drop=1.0, time=DAY, costs=table())
    assert refused.value.id == "usage.options-conflict"
    assert "this search chooses no heads and neurons" in refused.value.why
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("device")
def test_a_graph_of_others_is_quantized_in_every_way_that_the_target_takes(tmp_path: Path) -> None:
    graph = foreign.two_and_two(tmp_path / "net.onnx")
    report = search(tmp_path, source=graph, max_drop=1.0, time=DAY)
    found = report.search
    assert found is not None
    assert {trial.kind for trial in found.trials} == {"quantized"}  # tables in INT4 are for those who want it small
    assert found.ended == "every way to quantize that the target takes was tried"
    assert found.metric == ""
    assert found.looks == 0
    costs = [trial.latency_ms for trial in found.trials if trial.latency_ms is not None]
    assert found.trials[found.chosen].latency_ms == min(costs)
    assert np.isclose(report.latency_ms.p50 or 0.0, min(costs), rtol=0.05)


@pytest.mark.usefixtures("device")
def test_a_search_that_takes_longer_than_its_box_hurries_at_the_end_and_has_not_failed(tmp_path: Path) -> None:
    report = search(tmp_path, source=foreign.two_and_two(tmp_path / "net.onnx"), max_drop=1.0, time=0.01)
    assert report.search is not None
    assert report.search.ended == "the time is up"
    assert IN_A_HURRY in report.notes
    assert next(limit for limit in report.limits if limit.limit == "time").met is False
    assert report.passed
    edgekit.verify(tmp_path / "out")


@pytest.mark.usefixtures("device")
def test_a_search_says_of_which_metric_its_losses_are(tmp_path: Path) -> None:
    given = {"source": model_folder("bert", tmp_path / "model"), "data": text_data(tmp_path), "settings": SETTINGS}
    report = search(tmp_path, max_drop=1.0, time=0.01, **given)
    assert report.search is not None
    assert report.search.trials[0].drop is not None
    assert report.search.metric == "accuracy"
