from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgekit.devices.base import RUNNER, SPEC
from edgekit.devices.command import CommandDevice
from edgekit.errors import HostError, ModelError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / RUNNER).write_text("import sys; print(open(sys.argv[1]).read())")
    (tmp_path / SPEC).write_text(json.dumps({"what": "latency"}))
    return tmp_path


def test_the_command_is_run_without_a_shell(folder: Path) -> None:
    device = CommandDevice(f"{sys.executable} {{runner}} {{spec}}")
    assert json.loads(device.execute(folder, 60)) == {"what": "latency"}
    words = CommandDevice(f"{sys.executable} -c 'import sys; print(sys.argv[1:])' '$HOME' '; ls' {{folder}}")
    assert words.execute(folder, 60).strip() == str(["$HOME", "; ls", str(folder)])


def test_what_fails_there_is_an_error_of_its_kind(folder: Path) -> None:
    with pytest.raises(HostError, match="the measuring process on a device behind a command failed\nnot today"):
        CommandDevice(f"{sys.executable} -c 'import sys; sys.exit(\"not today\")' {{spec}}").execute(folder, 60)
    refusing = f"{sys.executable} -c 'import sys; sys.exit(\"onnxruntime.capi.Fail: no\")' {{spec}}"
    with pytest.raises(ModelError, match="onnxruntime on a device behind a command does not run the model"):
        CommandDevice(refusing).execute(folder, 60)
    with pytest.raises(HostError, match="there is no program 'no-such-program'"):
        CommandDevice("no-such-program {spec}").execute(folder, 60)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "it is empty"),
        ("run it", "it names no file"),
        ("run {spec} {port}", "it names {port}"),
        ("run '{spec}", "No closing quotation"),
        ("run {spec", "expected '}' before end of string"),
    ],
)
def test_templates_that_cannot_be_run(template: str, why: str) -> None:
    with pytest.raises(UsageError, match="cannot be run") as raised:
        CommandDevice(template)
    assert why in str(raised.value)
    assert "--device 'command:docker run" in str(raised.value)


def test_two_commands_are_two_devices() -> None:
    assert CommandDevice("a {spec}").fingerprint != CommandDevice("b {spec}").fingerprint
