"""Sentences one by one: turns, medians, what is missing, and whether the goal is reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

LINE = {
    "artifact": "sst2-60m", "n": 872, "tokens": {"median": 26.0}, "fp32_ms": 7000.0, "artifact_ms": 1000.0,
    "faster": [7.0, 6.9, 7.1],
}  # fmt: skip


@pytest.fixture
def script(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script with a measurement that is made up, ``script.line``, and folders of its own."""
    module = load("natural_lengths")
    module.line = dict(LINE)
    monkeypatch.setattr(module, "measure", lambda *given: module.line)
    monkeypatch.setattr(module, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(module, "find_asset", lambda key: key)
    monkeypatch.setattr("sys.argv", ["natural_lengths.py", "--results", str(tmp_path / "r.jsonl")])
    return module


def artifact(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(("faster", "code"), [(7.0, 0), (6.99, 1)])
def test_the_exit_code_says_whether_the_goal_is_reached(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], faster: float, code: int
) -> None:
    artifact(tmp_path / "sst2-60m")
    script.line["faster"] = [faster, 6.9, 7.1]
    assert script.main() == code
    assert json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8"))["faster"][0] == faster
    missed = "missed: sst2-60m, sentences one by one: 6.99 times less, and 7 is the goal\n"
    assert capsys.readouterr().err == (missed if code else "")


def test_without_the_artifact_nothing_is_measured(script: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"/sst2-60m; python benchmarks/run.py --case sst2-60m makes one$"):
        script.main()
    assert not (tmp_path / "r.jsonl").exists()


def test_both_run_each_sentence_and_begin_by_turns(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("natural_lengths")
    seen: list[tuple[str, str]] = []

    class Runner:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, component: str, feeds: str) -> None:
            seen.append((self.name, feeds))

    spent = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(spent) ** 2 / 1000)
    medians = module.timed((Runner("a"), Runner("b")), (["x", "y"], ["X", "Y"]))
    assert seen[:4] == [("a", "x"), ("b", "X"), ("a", "y"), ("b", "Y")]  # warm-up: there are no more sentences
    assert [name for name, _ in seen[4:12]] == ["b", "a", "a", "b", "a", "b", "b", "a"]
    assert [feeds for _, feeds in seen[4:8]] == ["X", "x", "y", "Y"]
    assert len(seen) == 4 + 4 * module.REPEATS
    # the third of five turns; call n takes 4 n + 1 milliseconds by that clock
    assert medians.tolist() == [pytest.approx([37.0, 41.0]), pytest.approx([33.0, 45.0])]
