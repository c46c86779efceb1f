"""Trials as the executor runs them, on a tiny model: what the clock shortens, and what goes on from it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from end_to_end.made import WORKLOAD, events, model_folder, text_data

from edgekit.cache import Cache
from edgekit.pipeline import run
from edgekit.progress import Silent
from edgekit.request import resolve_request
from edgekit.search.box import Box
from edgekit.search.executor import LocalExecutor, Scales, for_trial, make
from edgekit.trials import TrialRecord
from edgekit.workshop import Workshop

PRUNE = {"stage": "prune", "ratio": 0.3, "samples": 16}
DISTILL = {"stage": "distill", "max_steps": 30, "batch_size": 8, "epochs": 2.0}
GRAPH = ({"stage": "export"}, {"stage": "optimize"}, {"stage": "quantize", "tolerance": 1.0}, {"stage": "verify"})


def trial(number: int, *training: dict[str, Any], **facts: Any) -> TrialRecord:
    stages = (*training, *GRAPH)
    return TrialRecord.model_validate({"number": number, "kind": "full", "stages": stages, "steps": 30, **facts})


def test_a_training_whose_time_is_up_is_kept_and_the_next_one_goes_on_from_it(tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=2), text_data(tmp_path)
    options: dict[str, Any] = {"data": data, "target": "arm64", "workload": WORKLOAD, "time": 3600.0}
    workshop = Workshop(resolve_request(model, **options), Cache(tmp_path / "cache"), Silent())
    box = Box(tmp_path / "box.json", 3600.0, clock=lambda: 0.0)
    executor = LocalExecutor(workshop, box, Scales(workshop, GRAPH))

    box.kept_back = 3610.0
    (short,) = executor.submit([trial(1, PRUNE, DISTILL)])
    assert (short.state, short.steps) == ("kept", 10)
    assert short.shortened == {"distill.steps.1.1": [10, 10]}
    assert short.selection_drop is not None
    assert short.size_bytes is not None
    assert short.latency_ms is None

    box.kept_back = 0.0
    (longer,) = executor.submit([trial(2, PRUNE, DISTILL, DISTILL, parent=1, shortened=short.shortened)])
    assert (longer.state, longer.steps, longer.kept) == ("kept", 30, short.kept)
    assert longer.shortened == short.shortened
    lines = [make(for_trial(workshop, one.stages, one.shortened)) for one in (short, longer)]
    assert [made.key for made in lines[0][:2]] == [made.key for made in lines[1][:2]]

    (proxy,) = executor.submit([trial(3, PRUNE, DISTILL).model_copy(update={"kind": "proxy", "steps": 30})])
    assert proxy.divergence is not None
    assert proxy.divergence > 0
    assert proxy.divergence_error is not None


def test_steps_are_timed_where_another_search_has_done_the_same_ones(tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=2), text_data(tmp_path)
    taught = {**DISTILL, "max_steps": 8, "evaluate_every": 8}
    paces = []
    for drop in (0.01, 0.02):
        options: dict[str, Any] = {"data": data, "target": "arm64", "workload": WORKLOAD, "time": 3600.0}
        workshop = Workshop(resolve_request(model, max_drop=drop, **options), Cache(tmp_path / "cache"), Silent())
        box = Box(tmp_path / f"box-{drop}.json", 1e9, clock=map(float, itertools.count()).__next__)
        executor = LocalExecutor(workshop, box, Scales(workshop, GRAPH))
        (pace,) = executor.submit([trial(1, taught).model_copy(update={"kind": "pace", "steps": 8})])
        assert (pace.state, pace.steps) == ("timed", 8)
        paces.append((pace.step_seconds, pace.check_seconds is None))
    assert paces[0] == paces[1]
    assert paces[0][0]


def test_where_nobody_waits_for_an_interim_result_only_the_last_artifact_is_verified(tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=2), text_data(tmp_path)
    options: dict[str, Any] = {"data": data, "target": "arm64", "workload": WORKLOAD, "time": 3600.0}
    cache = tmp_path / "cache"
    workshop = Workshop(resolve_request(model, **options), Cache(cache), Silent())
    stages = (PRUNE, {**DISTILL, "max_steps": 8}, *GRAPH)

    def verified() -> int:
        return sum(event["event"] == "stage.done" and event["stage"] == "verify" for event in events(cache))

    alone = run(for_trial(workshop, stages), None)
    assert verified() == 1
    seen: list[str] = []
    watched = run(for_trial(workshop, stages), lambda trail: seen.append(trail.finished.key))
    assert verified() == 3
    assert len(set(seen)) == 2
    assert watched == alone
