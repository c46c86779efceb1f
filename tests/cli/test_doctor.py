from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from edgekit.diagnosis.records import Check, DoctorRecord, EnvRecord
from edgekit.render.diagnosis import doctor_view, env_view


def check(name: str, state: Any = "ok", **changes: Any) -> Check:
    return Check(**({"group": "Installation", "name": name, "state": state, "found": "1.0"} | changes))


def record(*checks: Check) -> DoctorRecord:
    return DoctorRecord(edgekit="0.1.0", passed=all(one.state != "failed" for one in checks), checks=checks)


WELL = record(check("Python"), *(check(f"package-{n}", package=True) for n in range(3)), check("turbo", "note"))
BROKEN = record(
    check("Python"),
    check("onnx", "failed", found="not installed; needs >=1.20,<2", fix='pip install "onnx>=1.20,<2"', package=True),
    check("numpy", package=True),
    check("hub", "warning", group="Hub", found="cannot be reached", fix="HF_HUB_OFFLINE=1 saves the waiting"),
    check("TFLite", "absent", group="Hub", found="not installed", fix='pip install "edgekit[tflite]"'),
)
ENV = EnvRecord(
    edgekit="0.1.0",
    python="CPython 3.11.7",
    system="Linux 6.8",
    processor="a processor",
    architecture="x86_64",
    features=("avx2", "fma"),
    cores=4,
    memory_bytes=16_000_000_000,
    memory_available_bytes=None,
    packages={"torch": "2.13.0", "tensorflow": None},
    targets={"arm64": False, "x86-64": True},
    settings={"EDGEKIT_CACHE": "set"},
)


def drawn(view: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None, markup=False, highlight=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(("found", "code"), [(WELL, 0), (BROKEN, 3)])
def test_it_exits_with_3_when_something_needed_is_missing(found, code, run, pretend_module, recorder):
    pretend_module("diagnosis", examine=recorder(found))
    result = run("doctor")
    assert result.code == code
    assert result.stdout.startswith("edgekit 0.1.0: ")
    document = run("doctor", "--json")
    assert document.code == code
    assert document.document["schema"] == "edgekit.doctor/1"
    assert document.document["passed"] is (code == 0)


def test_packages_that_are_well_are_one_row():
    lines = drawn(doctor_view(WELL))
    assert lines[0] == "edgekit 0.1.0: nothing that a run needs is missing"
    assert [line.split()[:3] for line in lines if "packages" in line] == [["ok", "3", "packages"]]
    assert not any("package-1" in line for line in lines)


def test_each_gap_has_its_fix_below_it():
    lines = drawn(doctor_view(BROKEN))
    assert lines[0] == "edgekit 0.1.0: 1 of what a run needs is missing; 1 warning"
    gap = next(index for index, line in enumerate(lines) if line.startswith("failed"))
    assert lines[gap].split(maxsplit=2) == ["failed", "onnx", "not installed; needs >=1.20,<2"]
    assert lines[gap + 1].strip() == 'fix: pip install "onnx>=1.20,<2"'
    assert sum("fix:" in line for line in lines) == 3
    assert [line for line in lines if line in ("Installation", "Hub")] == ["Installation", "Hub"]
    assert max(map(len, lines)) <= 80


def test_env_is_told_in_lines_that_can_be_pasted():
    lines = drawn(env_view(ENV))
    assert lines[0].split() == ["edgekit", "0.1.0"]
    assert "memory         16.0 GB" in lines
    assert "targets        x86-64" in lines
    assert "packages       torch 2.13.0" in lines
    assert "not installed  tensorflow" in lines
    assert "settings       EDGEKIT_CACHE: set" in lines


def test_env_gives_one_document(run, pretend_module, recorder):
    pretend_module("diagnosis", describe_environment=recorder(ENV))
    document = run("env", "--json").document
    assert document["schema"] == "edgekit.env/1"
    assert document["packages"] == {"torch": "2.13.0", "tensorflow": None}
    assert run("env").stdout.startswith("edgekit")


def test_env_of_this_machine_runs(run):
    result = run("env")
    assert result.code == 0
    assert result.stderr == ""
    assert max(map(len, result.stdout.splitlines())) <= 80
