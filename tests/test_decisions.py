"""What a run decides is kept at once, and what was decided elsewhere is taken unless it is decided here."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from pydantic import JsonValue

from edgekit.decisions import Noted, RunDecisions
from edgekit.summed import find_damage, read_whole


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
    assert read_whole(tmp_path / "decisions.json")["decided"] == decisions.known
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


@pytest.mark.parametrize("name", ["decisions.json", "decided"])
@pytest.mark.parametrize("damage", ["bit", "cut", "other", "deep"])
def test_damaged_decisions_are_named_and_decided_again(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    RunDecisions(tmp_path / "decisions.json", {}).decide("keep.quantize", lambda: 0.25)
    (claimed,) = (tmp_path / "decided").glob("*/decision.json")
    (damaged, other) = (claimed, tmp_path / "decisions.json")
    if name == "decisions.json":
        damaged, other = other, damaged
    content = damaged.read_bytes()
    changed = {
        "bit": content.replace(b"0.25", b"0.35"),
        "cut": content[:-20],
        "other": b"[]",
        "deep": b"[" * 100_000,
    }[damage]
    damaged.write_bytes(changed)
    problem = find_damage(tmp_path)
    assert problem is not None
    assert problem.startswith(damaged.relative_to(tmp_path).as_posix())
    again = RunDecisions(tmp_path / "decisions.json", {})
    assert again.known == {"keep.quantize": 0.25}  # as the other file has it
    assert f"{damaged} is damaged" in caplog.text
    assert find_damage(tmp_path) is None
    other.unlink()
    assert RunDecisions(tmp_path / "decisions.json", {}).decide("keep.quantize", lambda: 0.5) == 0.5
    assert RunDecisions(tmp_path / "decisions.json", {}).known == {"keep.quantize": 0.5}


def test_a_damaged_decision_of_another_process_is_decided_here(tmp_path: Path) -> None:
    one, other = (RunDecisions(tmp_path / "decisions.json", {}) for _ in range(2))

    def measure() -> JsonValue:
        other.decide("keep.quantize", lambda: True)
        (claimed,) = (tmp_path / "decided").glob("*/decision.json")
        claimed.write_text("{")
        return False

    assert one.decide("keep.quantize", measure) is False
    assert find_damage(tmp_path) is None
    assert not list(tmp_path.glob(".*"))
