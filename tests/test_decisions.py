"""What a run decides is kept at once, and what was decided elsewhere is taken unless it is decided here."""

from __future__ import annotations

from pathlib import Path

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
    assert decisions.inside("optimize") == {"optimize.model": ["residual"]}
    assert decisions.locked_for("keep") == {"keep.quantize": False}


def test_what_a_stage_asked_for_is_noted(tmp_path: Path) -> None:
    noted = Noted(RunDecisions(tmp_path / "decisions.json", {"keep.export": True}))
    noted.decide("optimize.model", lambda: [])
    assert noted.made == {"optimize.model": []}
