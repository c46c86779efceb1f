"""The benchmark of budgets: what the search is asked for, when a budget is met, and its rival by magnitude."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from records import make_record, p50
from test_retention import report

import edgekit
from edgekit.gate.record import BenchRecord
from edgekit.report import LimitVerdict

FP32 = 30.0
PRUNE = {"stage": "prune", "ratio": 0.9, "importance": "taylor", "layers": 0.67}
AFTER = ({"stage": "distill"}, {"stage": "export"}, {"stage": "quantize"}, {"stage": "verify"})


def found(left: float | None, after_ms: float, before_ms: float = FP32) -> Any:
    """A report of what a search found."""
    made = report(left)
    made.recipe = {"stages": [*([PRUNE] if left is not None else []), *AFTER]}
    made.latency_ms = SimpleNamespace(p50=after_ms)
    made.original_latency_ms = SimpleNamespace(p50=before_ms)
    made.limits = (LimitVerdict(limit="max_ms", bound=7.5, value=after_ms, met=True, proven=True),)
    return made


class Bench:
    """What is compressed and timed, in place of doing it."""

    def __init__(self, budgets: ModuleType, monkeypatch: pytest.MonkeyPatch, after_ms: float) -> None:
        self.cases: list[Any] = []
        self.timed = 0
        self.left: float | None = 0.2
        self.after_ms, self.before_ms = after_ms, FP32
        monkeypatch.setattr(budgets, "compress", self.compress)
        monkeypatch.setattr(edgekit, "bench", self.bench)

    def compress(self, case: Any, output: Path) -> Any:
        self.cases.append(case)
        return found(self.left, self.after_ms, self.before_ms)

    def bench(self, folder: Path, **options: Any) -> BenchRecord:
        self.timed += 1
        return make_record(p50(FP32, n=100))


@pytest.mark.parametrize(("after_ms", "met"), [(7.4, True), (6.7, False), (7.6, False)])
def test_a_budget_is_met_when_nine_tenths_of_it_are_used(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after_ms: float, met: bool
) -> None:
    budgets = load("budgets")
    bench = Bench(budgets, monkeypatch, after_ms)
    line = budgets.budget("sst2/0.25", budgets.CASE, 900.0, tmp_path)
    assert (line["fp32_ms"], line["budget_ms"], line["met"]) == (FP32, 7.5, met)
    assert line["used"] == pytest.approx(after_ms / 7.5)
    assert line["of_fp32"] == pytest.approx(after_ms / 30.0)  # of the FP32 in its own run
    assert line["limits"][0]["limit"] == "max_ms"
    exported, searched, rival = bench.cases
    assert exported.recipe == load("run").FP32_RECIPE
    assert [step.stage.name for step in edgekit.load_recipe(exported.recipe).steps] == ["export", "verify"]
    assert (searched.recipe, searched.max_drop) == (None, 1.0)
    assert searched.options == {"max_ms": 7.5, "time": 900.0}
    assert rival.options == {}
    assert line["magnitude"]["case"] == "sst2/0.25/magnitude"
    told = budgets.table([line])
    assert ("yes" in told) is met
    assert told.count("20.0%") == 2  # of the multiply-accumulates are left, of both


def test_a_budget_is_a_share_of_the_fp32_latency_of_its_own_run(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    budgets = load("budgets")
    bench = Bench(budgets, monkeypatch, 7.4)
    bench.before_ms = 36.0  # the machine became slower since the budget was set
    line = budgets.budget("sst2/0.25", budgets.CASE, None, tmp_path)
    assert line["used"] == pytest.approx(7.4 / 7.5)
    assert line["used_in_its_run"] == pytest.approx(7.4 / 9.0)
    assert line["met"] is False


def test_the_rival_prunes_as_much_by_magnitude(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budgets = load("budgets")
    bench = Bench(budgets, monkeypatch, 7.4)
    budgets.budget("sst2/0.25", budgets.CASE, None, tmp_path)
    assert bench.cases[1].options == {"max_ms": 7.5}
    recipe = edgekit.load_recipe(bench.cases[2].recipe)
    assert [step.stage.name for step in recipe.steps] == ["prune", "distill", "export", "quantize", "verify"]
    prune: Any = recipe.steps[0].settings
    assert (prune.importance, prune.ratio, prune.layers, prune.floor) == ("weights", 0.8, 0.67, 0.0)


def test_measured_costs_and_budgets_become_a_share(load: Any) -> None:
    budgets = load("budgets")
    made = found(0.2, 7.4)
    made.recipe["stages"][0] |= {"cost": "measured", "budget": 5.0, "floor": None}
    prune = budgets.by_magnitude(made)["stages"][0]
    assert prune == {
        "stage": "prune",
        "ratio": 0.8,
        "importance": "weights",
        "layers": 0.67,
        "floor": 0.0,
        "reconstruct": False,
    }


def test_what_was_not_pruned_has_no_rival(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budgets = load("budgets")
    bench = Bench(budgets, monkeypatch, 7.4)
    bench.left = None
    line = budgets.budget("sst2/0.25", budgets.CASE, None, tmp_path)
    assert line["magnitude"] is None
    assert len(bench.cases) == 2
    assert "not pruned" in budgets.table([line])


def test_a_search_that_was_killed_goes_on_with_its_budget(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    budgets = load("budgets")
    bench = Bench(budgets, monkeypatch, 7.4)

    def killed(case: Any, output: Path) -> Any:
        if case.recipe is None:
            raise KeyboardInterrupt
        return bench.compress(case, output)

    monkeypatch.setattr(budgets, "compress", killed)
    with pytest.raises(KeyboardInterrupt):
        budgets.budget("sst2/0.25", budgets.CASE, None, tmp_path)
    kept = tmp_path / "budget-sst2-0.25.json"
    known = json.loads(kept.read_text())
    assert known["fp32_ms"] == FP32
    monkeypatch.setattr(budgets, "compress", bench.compress)
    budgets.budget("sst2/0.25", budgets.CASE, None, tmp_path)
    assert bench.timed == 1
    kept.write_text(json.dumps(known | {"host": "another processor"}), encoding="utf-8")
    budgets.budget("sst2/0.25", budgets.CASE, None, tmp_path)
    assert bench.timed == 2
    cache = tmp_path / "budget-sst2-0.25-cache"
    cache.mkdir()
    budgets.forget("sst2/0.25", tmp_path)
    assert not kept.exists()  # the next one is timed anew
    assert not cache.exists()


def test_a_budget_with_less_time_is_another_line(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budgets = load("budgets")
    bench = Bench(budgets, monkeypatch, 7.4)
    monkeypatch.setattr(budgets, "RESULTS", tmp_path / "budgets.jsonl")
    monkeypatch.setattr(budgets, "ARTIFACTS", tmp_path)
    for more in ([], ["--time", "900"], ["--time", "900"]):
        monkeypatch.setattr("sys.argv", ["budgets.py", "--shares", "0.25", *more])
        budgets.main()
    assert [case.options.get("time") for case in bench.cases if case.recipe is None] == [None, 900.0]
    lines = [json.loads(text) for text in (tmp_path / "budgets.jsonl").read_text().splitlines()]
    assert [(line["case"], line["share"]) for line in lines] == [("sst2/0.25", 0.25), ("sst2/0.25/900", 0.25)]
