"""What a run decides is kept at once, and what was decided elsewhere is taken unless it is decided here."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from edgekit.decisions import Noted, RunDecisions


def test_a_decision_falls_once_and_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "decisions.json"
    first = RunDecisions(file, {})
    assert first.decide("optimize.model", lambda: ["residual"]) == ["residual"]
    again = RunDecisions(file, {})
    assert again.decide("optimize.model", lambda: ["attention"]) == ["residual"]


def test_what_was_decided_elsewhere_is_taken_where_nothing_is_decided(tmp_path: Path) -> None:
    decisions = RunDecisions(tmp_path / "decisions.json", {"keep.quantize": False})
    decisions.adopt({"keep.quantize": True, "optimize.model": ["residual"]})
    assert decisions.known == {"keep.quantize": False, "optimize.model": ["residual"]}
    assert json.loads((tmp_path / "decisions.json").read_text()) == decisions.known
    assert decisions.inside("optimize") == {"optimize.model": ["residual"]}
    assert decisions.locked_for("keep") == {"keep.quantize": False}


def test_what_a_stage_asked_for_is_noted(tmp_path: Path) -> None:
    noted = Noted(RunDecisions(tmp_path / "decisions.json", {"keep.export": True}))
    noted.decide("optimize.model", lambda: [])
    assert noted.made == {"optimize.model": []}


def test_what_an_object_was_made_with_is_what_counts(tmp_path: Path) -> None:
    decisions = RunDecisions(tmp_path / "decisions.json", {})
    decisions.decide("optimize.model", lambda: ["mine"])
    decisions.adopt({"optimize.model": ["theirs"]})  # whose object was put first
    assert decisions.known == RunDecisions(tmp_path / "decisions.json", {}).known == {"optimize.model": ["theirs"]}


def test_of_two_processes_the_first_decides_for_both(tmp_path: Path) -> None:
    file = tmp_path / "decisions.json"
    one, other = RunDecisions(file, {}), RunDecisions(file, {})

    def measure() -> JsonValue:
        other.decide("keep.quantize", lambda: True)  # while this one measures
        return False

    assert one.decide("keep.quantize", measure) is True
    other.decide("keep.optimize", lambda: False)
    one.decide("keep.distill", lambda: True)
    everything = {"keep.quantize": True, "keep.optimize": False, "keep.distill": True}
    assert one.known == RunDecisions(file, {}).known == everything
    assert not list(tmp_path.glob(".*"))


def test_a_decision_that_cannot_be_kept_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "full")

    decisions = RunDecisions(tmp_path / "decisions.json", {})
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="full"):
        decisions.decide("keep.quantize", lambda: True)
    assert list(tmp_path.iterdir()) == [tmp_path / "decided"]
