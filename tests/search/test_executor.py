"""What a trial weighs: by the ratio to the artifact that is timed beside each. What a table of costs gives a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny
from pruning.encoders.test_hidden import HALF, costs
from sealed import sealed_artifact
from test_request_keys import REQUEST

from edgekit.artifact import Artifact
from edgekit.measure.latency import Timings
from edgekit.progress import Silent
from edgekit.recipe import load_recipe
from edgekit.search import executor
from edgekit.search.box import Box
from edgekit.search.executor import PROCESSES, REFERENCE, LocalExecutor, Scales
from edgekit.stages.base import Remembered
from edgekit.target import load_target
from edgekit.trials import TrialRecord
from edgekit.workshop import Made

TAKES = {REFERENCE: 7.0, "reference": 6.5, "candidate": 2.6}


def scales(reference: Artifact, monkeypatch: pytest.MonkeyPatch) -> tuple[Scales, list[list[str]]]:
    """Scales for which an artifact takes what its name says, and what they have timed."""
    timed: list[list[str]] = []

    def time_in_processes(subjects: dict[str, Any], place: object, timing: object, processes: int) -> Timings:
        assert processes == PROCESSES
        timed.append(list(subjects))
        return Timings({name: [[TAKES[name]] * 3] * 9 for name in subjects}, ())

    monkeypatch.setattr(executor, "time_in_processes", time_in_processes)
    monkeypatch.setattr(executor, "named_subjects", lambda artifacts, *_: artifacts)
    monkeypatch.setattr(executor, "for_trial", lambda *_: None)
    monkeypatch.setattr(executor, "make", lambda _: [Made(reference, "reference")])
    request = SimpleNamespace(clock=object(), workload=None, search=None, limits=SimpleNamespace(max_instructions=None))
    workshop = SimpleNamespace(request=request, decisions=Remembered(), progress=Silent(), task_of=None)
    return Scales(cast("Any", workshop), []), timed


def test_a_trial_takes_the_references_latency_times_its_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, other = sealed_artifact(tmp_path / "one"), sealed_artifact(tmp_path / "two")
    other.manifest.files["model.onnx"] = "0" * 64
    found, timed = scales(reference, monkeypatch)
    assert found.weigh(Made(other, "other")).latency_ms == pytest.approx(7.0 * 2.6 / 6.5)
    assert found.weigh(Made(other, "other")).latency_ms == pytest.approx(7.0 * 2.6 / 6.5)
    assert timed == [[REFERENCE], ["reference", "candidate"], ["reference", "candidate"]]


def test_the_reference_is_not_weighed_against_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, same = sealed_artifact(tmp_path / "one"), sealed_artifact(tmp_path / "two")
    found, timed = scales(reference, monkeypatch)
    assert found.weigh(Made(same, "verified")).latency_ms == 7.0
    assert timed == [[REFERENCE]]


@pytest.mark.parametrize(("hidden", "left"), [(None, tiny.HIDDEN), (HALF, HALF)])
def test_the_reach_of_layers_is_that_of_the_recipes_hidden_size(
    hidden: int | None, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_alone: object
) -> None:
    monkeypatch.setattr(executor, "use_threads", lambda jobs: None)
    task = tiny.task_for(tiny.save(tiny.build("bert"), tmp_path / "model"))
    table = costs(task.load_model())
    recipe = load_recipe("default", {} if hidden is None else {"prune.hidden": str(hidden)})
    request = replace(REQUEST, recipe=recipe, target=load_target("x86-64-vnni"))
    workshop: Any = SimpleNamespace(request=request, task=task, progress=Silent(), costs=lambda: table)
    workshop.for_run = lambda _: workshop
    scales: Any = None
    box = Box(tmp_path / "box.json", 100.0, clock=lambda: 0.0)
    (trial,) = LocalExecutor(workshop, box, scales).submit([TrialRecord(number=0, kind="costs", stages=())])
    whole = [(tiny.HEADS, tiny.NEURONS)] * tiny.LAYERS
    assert len(trial.reach) == tiny.LAYERS
    assert trial.reach[-1][1] == pytest.approx(table.at(left).predict(whole) / table.predict(whole), abs=1e-6)
    assert (trial.state, trial.reach[-1][1] == 1.0) == ("timed", hidden is None)
