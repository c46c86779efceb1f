"""The benchmark of a bundle's page: what it keeps of the page's own record, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import scripts


@pytest.fixture
def script() -> Iterator[ModuleType]:
    with scripts() as load:
        yield load("web_page")


def record(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "engine": "wasm", "threads": 2, "browser": "Chrome/1", "model_bytes": 7_000_000,
        "first_answer_ms": 900.0, "answers_ms": [3.0, 2.0, 4.0], "problems": [], "elsewhere": [], "load": 1.04,
    }  # fmt: skip
    return made | changes


def line(script: ModuleType, tmp_path: Path, *records: dict[str, Any]) -> dict[str, Any]:
    described = {"name": "tiny", "target": None, "model": {"forms": [{"format": "onnx"}]}}
    folder = tmp_path / "public/bundle"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps(described), encoding="utf-8")
    made: dict[str, Any] = script.line_of(tmp_path, list(records))
    return made


def test_a_line_has_the_first_answer_of_each_opening_and_the_middle_of_its_answers(
    script: ModuleType, tmp_path: Path
) -> None:
    made = line(script, tmp_path, record(), record(first_answer_ms=1200.04))
    assert (made["first_answer_ms"], made["answer_ms"]) == ([900.0, 1200.0], [3.0, 3.0])
    assert made["load"] == [1.0, 1.0]
    assert script.failures(made) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"first_answer_ms": 5_100.0}, ["the first answer took 5.1 s"]),
        ({"first_answer_ms": 5_100.0, "model_bytes": 10_000_001}, []),
        ({"problems": ["labels.txt: missing"]}, ["labels.txt: missing"]),
        ({"elsewhere": ["http://elsewhere.test/"]}, ["http://elsewhere.test/"]),
    ],
)
def test_what_is_not_as_it_has_to_be_is_told(
    script: ModuleType, tmp_path: Path, changes: dict[str, Any], said: list[str]
) -> None:
    assert script.failures(line(script, tmp_path, record(**changes))) == said
