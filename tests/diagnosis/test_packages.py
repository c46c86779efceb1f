from __future__ import annotations

import importlib
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from edgekit.diagnosis.packages import Requirement, installed, misfit, read_requirement, requirements, wanted_python

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("torch<3,>=2.10", Requirement("torch", ">=2.10,<3")),
        ("onnx-ir (>=1.0,<2)", Requirement("onnx-ir", ">=1.0,<2")),
        ('ruff>=0.12; extra == "dev"', Requirement("ruff", ">=0.12", "dev")),
        ("numpy", Requirement("numpy", "")),
        ("huggingface-hub[cli]>=1", Requirement("huggingface-hub", ">=1")),
        ("litert>=2 ; (python_version < '3.14') and extra == 'tflite'", Requirement("litert", ">=2", "tflite")),
    ],
)
def test_a_requirement_of_the_metadata(line: str, expected: Requirement) -> None:
    assert read_requirement(line) == expected


def test_what_is_no_requirement_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no requirement"):
        read_requirement(">=2")


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("2.10.0", ">=2.10,<3", None),
        ("2.13.0+cpu", ">=2.10,<3", None),
        ("2.9.1", ">=2.10,<3", "older"),
        ("3.0.0", ">=2.10,<3", "newer"),
        ("3.0", "<=3", None),
        ("3.0.1", "<=3", "newer"),
        ("3", ">3", "older"),
        ("0.7.2", ">=0.7,<0.8", None),
        ("0.8", ">=0.7,<0.8", "newer"),
        ("1.5", "==1.5.*", None),
        ("1.6", "==1.5.*", "other"),
        ("1.5.2", "!=1.5.2", "other"),
        ("1.9", "~=1.4", None),
        ("2.0", "~=1.4", "newer"),
        ("1.3", "~=1.4", "older"),
        ("7.36.2", "", None),
    ],
)
def test_a_version_beside_a_range(version: str, wanted: str, expected: str | None) -> None:
    assert misfit(version, wanted) == expected


def test_every_dependency_of_the_project_is_understood() -> None:
    for line in PROJECT["dependencies"]:
        requirement = read_requirement(line)
        assert line.startswith(requirement.name)
        assert requirement.wanted == line.removeprefix(requirement.name)
        version = installed(requirement)
        assert version is not None
        assert misfit(version, requirement.wanted) is None


def test_every_dependency_has_a_module_of_the_name_that_is_imported() -> None:
    for line in PROJECT["dependencies"]:
        assert importlib.util.find_spec(read_requirement(line).module) is not None


def test_the_metadata_is_that_of_the_installed_package() -> None:
    lines = metadata.requires("edgekit") or []
    assert len(requirements()) == len(lines)
    assert {one.extra for one in requirements()} >= {"", "dev"}
    assert wanted_python() == PROJECT["requires-python"]


def test_without_an_installation_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.diagnosis.packages.NAME", "no-such-package-at-all")
    assert requirements() == []
    assert wanted_python() == ""


def test_a_requirement_as_pip_takes_it() -> None:
    assert Requirement("torch", ">=2.10,<3").spelled == '"torch>=2.10,<3"'
    assert Requirement("torch", "").spelled == "torch"
