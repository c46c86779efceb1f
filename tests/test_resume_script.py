"""The script that kills a search: what it keeps of the half that was killed and of the end."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_retention import report

import edgekit

GIVEN = argparse.Namespace(
    model="models/minilm", data="data", target="host", max_drop="1%", time="5m", kill_after=180.0
)


class Process:
    """A run that goes on until it is killed, or ends with an exit code."""

    def __init__(self, code: int | None) -> None:
        self.code, self.killed = code, False

    def wait(self, timeout: float | None = None) -> int:
        if self.code is None and not self.killed:
            raise subprocess.TimeoutExpired("edgekit", timeout or 0.0)
        return self.code or 0

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def script(load: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script with runs that are made up: ``script.started`` has the processes, ``script.codes`` how they end."""
    resume = load("resume")
    resume.started, resume.codes = [], [None, 0]

    def start(self: Any, cache: Path, *more: str) -> Process:
        resume.started.append(Process(resume.codes.pop(0)))
        process: Process = resume.started[-1]
        return process

    def load_report(out: Path) -> Any:
        made = report(0.2)
        made.status = "complete" if resume.started[-1].code is not None else "in progress"
        made.search = SimpleNamespace(attempts=len(resume.started), trials=[1, 2])
        return made

    monkeypatch.setattr(resume.Runs, "start", start)
    monkeypatch.setattr(resume, "load_report", load_report)
    monkeypatch.setattr(edgekit, "verify", lambda out: SimpleNamespace(files=12))
    return resume


def test_a_search_that_is_killed_has_left_an_artifact_and_goes_on(script: Any, tmp_path: Path) -> None:
    line = script.search_killed(GIVEN, tmp_path / "kept")
    first, second = script.started
    assert first.killed
    assert not second.killed
    assert line["killed_after"] == 180.0
    assert line["options"] == ["minilm", "--data", "data", "--target", "host", "--max-drop", "1%", "--time", "5m"]
    assert (line["killed"]["data"]["name"], line["end"]["source"]["name"]) == ("texts", "model")
    assert (line["killed"]["status"], line["killed"]["verified_files"]) == ("in progress", 12)
    assert line["killed"]["speedup"] == pytest.approx(11.1, abs=0.1)
    assert (line["end"]["status"], line["end"]["attempts"], line["end"]["exit_code"]) == ("complete", 2, 0)
    assert not (tmp_path / "kept").exists()


def test_the_half_that_was_killed_is_not_run_again(script: Any, tmp_path: Path) -> None:
    script.codes = [None, 2, 0]
    with pytest.raises(SystemExit, match="the run that was started again ended with 2"):
        script.search_killed(GIVEN, tmp_path / "kept")
    kept = json.loads((tmp_path / "kept" / "middle.json").read_text(encoding="utf-8"))
    assert kept["killed"]["drop"] == 0.0
    assert script.search_killed(GIVEN, tmp_path / "kept")["killed"] == kept["killed"]
    assert len(script.started) == 3


@pytest.mark.parametrize("other", [{"versions": {}}, {"host": "another processor"}, {"options": []}, {"code": "0"}])
def test_the_half_of_another_machine_or_of_other_data_is_run_again(
    script: Any, tmp_path: Path, other: dict[str, Any]
) -> None:
    script.codes = [None, 2, None, 0]
    with pytest.raises(SystemExit):
        script.search_killed(GIVEN, tmp_path / "kept")
    middle = tmp_path / "kept" / "middle.json"
    middle.write_text(json.dumps(json.loads(middle.read_text(encoding="utf-8")) | other), encoding="utf-8")
    line = script.search_killed(GIVEN, tmp_path / "kept")
    assert len(script.started) == 4
    assert line["versions"]


def test_one_that_fails_is_not_told_to_be_killed_earlier(script: Any, tmp_path: Path) -> None:
    script.codes = [4]
    with pytest.raises(SystemExit, match=r"^the run ended with 4 before it could be killed$"):
        script.search_killed(GIVEN, tmp_path / "kept")


def test_one_that_ends_before_it_is_killed_says_so(script: Any, tmp_path: Path) -> None:
    script.codes = [0]
    with pytest.raises(
        SystemExit, match=r"the run ended with 0 before it could be killed: give a smaller --kill-after"
    ):
        script.search_killed(GIVEN, tmp_path / "kept")
