"""The options of ``bench`` that write its result for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate.records import alone, gate

from edgekit.gate.exports import EXPORTS


@pytest.fixture(autouse=True)
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step of GitHub Actions, whoever runs these tests."""
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.delenv(name, raising=False)


def test_every_format_is_written_where_it_was_asked_for(run, pretend, recorder, tmp_path: Path) -> None:
    pretend(bench=recorder(gate()))
    named = {"junit": ("--junit", "{}"), "markdown": ("--markdown", "{}")}
    options = [
        word.format(tmp_path / "made" / name)
        for name in EXPORTS
        for word in named.get(name, ("--export", f"{name}={{}}"))
    ]
    result = run("bench", "new.onnx", "--baseline", "old.onnx", *options)
    assert result.code == 1
    for name, export in EXPORTS.items():
        assert (tmp_path / "made" / name).read_text(encoding="utf-8") == export.write(gate())


def test_github_gets_annotations_a_summary_and_the_verdict(
    run, pretend, recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    pretend(bench=recorder(gate()))
    result = run("bench", "new.onnx", "--baseline", "old.onnx", "--github", "--json")
    assert json.loads(result.stdout)["verdict"] == "regression"
    lines = [line for line in result.stderr.splitlines() if line.startswith("::")]
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::warning"]
    assert (tmp_path / "summary").read_text(encoding="utf-8") == EXPORTS["markdown"].write(gate())
    assert (tmp_path / "output").read_text(encoding="utf-8") == "verdict=regression\n"


def test_without_a_step_it_says_that_there_is_no_summary(run, pretend, recorder) -> None:
    pretend(bench=recorder(alone()))
    result = run("bench", "new.onnx", "--github")
    assert result.code == 0
    assert "::notice title=edgekit bench::new_model.onnx was measured.\n" in result.stderr
    assert "no summary was written: GITHUB_STEP_SUMMARY is not set" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--export", "junitt=x"), "error[unknown-name.export]: there is no format 'junitt'"),
        (("--export", "bencher"), "error[usage.bad-value]: --export 'bencher' names no file"),
        (("--junit", "."), "error[usage.output-taken]: '.' is a directory"),
        (
            ("--export", "bencher=a", "--export", "bencher=b"),
            "error[usage.options-conflict]: --export bencher was given twice",
        ),
        (
            ("--junit", "r.json", "--save", "./r.json"),
            "error[usage.options-conflict]: 'r.json' was named twice",
        ),
        (("--junit", "new.onnx"), "error[usage.output-taken]: 'new.onnx' is read by this command"),
        (("--save", "today"), "error[usage.bad-value]: --save 'today' does not end in .json"),
        (
            ("--baseline", "old.json", "--save", "old.json"),
            "error[usage.output-taken]: 'old.json' is read by this command",
        ),
        (("--markdown", "out/c.md"), "error[usage.output-sealed]: 'out/c.md' lies inside the artifact 'out'"),
    ],
)
def test_what_cannot_be_written_is_seen_before_measuring(
    run, pretend, recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    bench = recorder(gate())
    pretend(bench=bench)
    result = run("bench", "new.onnx", *options)
    assert result.code == 2
    assert message in result.stderr
    assert bench.keywords is None
