from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle.bundles import flip

from edgekit.artifact import Artifact
from edgekit.cli import main


@pytest.fixture
def made(
    artifacts: Callable[[str], Artifact],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A bundle made by the command line, without the command's own name."""
    monkeypatch.setenv("COLUMNS", "300")  # the path is a long one
    out = tmp_path / "out"
    assert main(["bundle", str(artifacts("vit").path), "--platform", "c", "-o", str(out), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["schema"] == "edgekit.bundle-made/1"
    assert (said["path"], said["platform"], said["form"]) == (str(out), "c", "onnx")
    assert said["model_bytes"] == (out / "bundle/model/model.onnx").stat().st_size
    return out


def test_a_sound_bundle_is_told_in_two_lines(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "check", str(made)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"sound  {made}"
    assert lines[1].endswith("files, each hashed; 17 rules hold")


def test_a_broken_bundle_ends_with_one_and_names_rule_and_file(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flip(made / "bundle/labels.txt", 0)
    assert main(["bundle", "check", str(made)]) == 1
    shown = capfd.readouterr().out
    assert shown.startswith(f"broken  {made}")
    assert "sums: bundle/labels.txt: not what SHA256SUMS says" in shown
    assert main(["bundle", "check", str(made), "--json"]) == 1
    said = json.loads(capfd.readouterr().out)
    assert {problem["rule"] for problem in said["problems"]} == {"sums", "record"}


def test_an_unknown_platform_ends_with_two(
    artifacts: Callable[[str], Artifact], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", str(artifacts("vit").path), "--platform", "abacus", "-o", str(tmp_path / "out")]) == 2
    assert "there is no platform 'abacus'" in capfd.readouterr().err
