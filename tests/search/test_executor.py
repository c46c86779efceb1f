"""What a trial weighs: by the ratio to the artifact that is timed beside each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sealed import sealed_artifact

from edgekit.artifact import Artifact
from edgekit.measure.latency import Timings
from edgekit.progress import Silent
from edgekit.search import executor
from edgekit.search.executor import PROCESSES, REFERENCE, Scales
from edgekit.stages.base import Remembered
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
