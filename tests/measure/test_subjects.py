from __future__ import annotations

from pathlib import Path

import foreign
import pytest
from sealed import sealed_artifact

from edgekit.measure.subjects import describe


def test_a_folder_is_named_where_it_is_given_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_artifact(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    assert describe(".")["name"] == "out"
    monkeypatch.chdir(tmp_path / "out" / "golden")
    assert describe("..")["name"] == "out"


def test_a_name_is_one_line(tmp_path: Path) -> None:
    assert describe(foreign.conv_net(tmp_path / "a\nb\tc\x1b[2J.onnx"))["name"] == r"a\nb\tc\x1b[2J.onnx"
