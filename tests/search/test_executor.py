"""What a trial weighs: by the ratio to the artifact that is timed beside each. What a table of costs gives a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest
import tiny
from pruning.encoders.test_hidden import HALF, costs
from sealed import sealed_artifact
from test_request_keys import REQUEST

from edgekit.artifact import Artifact
from edgekit.errors import HostError
from edgekit.measure.latency import Timings
from edgekit.progress import Silent
from edgekit.recipe import load_recipe
from edgekit.search import executor
from edgekit.search.box import Box, Watched
from edgekit.search.executor import PROCESSES, REFERENCE, REFERENCE_ENERGY, LocalExecutor, Scales
from edgekit.stages.base import Remembered
from edgekit.target import load_target
from edgekit.trials import Objective, Search, TrialRecord
from edgekit.workshop import Made

TAKES = {REFERENCE: 7.0, REFERENCE_ENERGY: 7.0, "reference": 6.5, "candidate": 2.6}


def scales(
    reference: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    objective: Objective = "latency",
    energy: Mapping[str, list[float | None]] = MappingProxyType({}),
) -> tuple[Scales, list[list[str]]]:
    """Scales for which an artifact takes what its name says, and what they have timed."""
    timed: list[list[str]] = []

    def time_in_processes(subjects: dict[str, Any], place: object, timing: object, processes: int) -> Timings:
        assert processes == PROCESSES
        timed.append(list(subjects))
        blocks = {name: [[TAKES[name]] * 3] * 9 for name in subjects}
        return Timings(blocks, (), energy_uj={name: energy[name] for name in subjects if name in energy})

    monkeypatch.setattr(executor, "time_in_processes", time_in_processes)
    monkeypatch.setattr(executor, "named_subjects", lambda artifacts, *_: artifacts)
    monkeypatch.setattr(executor, "for_trial", lambda *_: None)
    monkeypatch.setattr(executor, "make", lambda _: [Made(reference, "reference")])
    limits, aim = SimpleNamespace(max_instructions=None), Search(objective=objective)
    request = SimpleNamespace(clock=object(), workload=None, search=aim, limits=limits)
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


def test_energy_is_the_references_times_its_ratio_in_the_rounds_that_tell_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, other = sealed_artifact(tmp_path / "one"), sealed_artifact(tmp_path / "two")
    other.manifest.files["model.onnx"] = "0" * 64
    energy = {
        REFERENCE_ENERGY: [900.0, None, 1100.0],
        "reference": [800.0, 700.0, None],
        "candidate": [400.0, None, 9.0],
    }
    found, timed = scales(reference, monkeypatch, "energy", energy)
    weight = found.weigh(Made(other, "other"))
    assert (weight.latency_ms, weight.energy_uj) == (pytest.approx(7.0 * 2.6 / 6.5), 500.0)
    assert found.weigh(Made(reference, "reference")).energy_uj == 1000.0
    assert timed == [[REFERENCE], [REFERENCE_ENERGY], ["reference", "candidate"]]


def test_no_energy_is_read_for_a_search_that_does_not_go_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = sealed_artifact(tmp_path / "one")
    found, timed = scales(reference, monkeypatch, "latency", {REFERENCE_ENERGY: [900.0]})
    assert found.weigh(Made(reference, "reference")).energy_uj is None
    assert timed == [[REFERENCE]]


def test_counters_that_stand_still_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = sealed_artifact(tmp_path / "one")
    found, _ = scales(reference, monkeypatch, "energy", {REFERENCE_ENERGY: [None] * 9})
    with pytest.raises(HostError, match="the energy of an inference cannot be told here") as caught:
        found.weigh(Made(reference, "reference"))
    assert caught.value.id == "environment.cannot-measure"


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


def test_the_few_steps_of_a_pace_stand_for_texts_of_usual_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of six texts each, of which the second one has the longest."""
    lengths, seen = [7] * 6 + [70] * 6 + [7] * 12, list[int]()
    batches = [list(range(start, start + 6)) for start in range(0, 24, 6)]

    def shuffled(examples: Any, size: int, seed: int, epoch: int) -> list[list[int]]:
        seen.extend((size, seed, epoch))
        return batches

    def run(self: LocalExecutor, trial: TrialRecord, watched: Watched) -> dict[str, object]:
        watched.step_seconds, watched.check_seconds = 0.6, 2.0
        return {}

    monkeypatch.setattr(executor, "shuffled_batches", shuffled)
    monkeypatch.setattr(LocalExecutor, "_run", run)
    data = SimpleNamespace(train=SimpleNamespace(length=lengths.__getitem__))
    workshop: Any = SimpleNamespace(request=REQUEST, progress=Silent(), data=data)
    scales: Any = None
    box = Box(tmp_path / "box.json", 100.0, clock=lambda: 0.0)
    stages = ({"stage": "distill", "batch_size": 6, "max_steps": 3},)
    trials = [TrialRecord(number=0, kind=kind, stages=stages, steps=3) for kind in ("pace", "full")]
    pace, full = LocalExecutor(workshop, box, scales).submit(trials)
    assert (pace.step_seconds, pace.check_seconds) == (pytest.approx(0.6 * (7 + 70 + 7 + 7) / 4 / 70), 2.0)
    assert full.step_seconds == 0.6  # of steps that are many
    assert seen == [6, REQUEST.seed, 0]
