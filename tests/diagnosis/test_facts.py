from __future__ import annotations

import io
import platform
import re
from pathlib import Path

import pytest
from rich.console import Console

from edgekit.diagnosis import describe_environment
from edgekit.diagnosis.facts import describe_system, read_settings
from edgekit.diagnosis.machine import Kernel
from edgekit.diagnosis.surroundings import Surroundings
from edgekit.environment import version_of
from edgekit.render.diagnosis import env_view
from edgekit.target import HOST, target_names

NAME, COMPUTER, HOME = "wilhelmina", "wilhelminas-laptop", "/home/wilhelmina"
VARIABLES = {
    "EDGEKIT_CACHE": f"{HOME}/cache",
    "EDGEKIT_DEBUG": "1",
    "EDGEKIT_ASSETS": f"{HOME}/assets",
    "EDGEKIT_EMPTY": "",
    "HF_HOME": f"{HOME}/hub",
    "HF_ENDPOINT": f"https://{COMPUTER}/",
    "HF_TOKEN": "hf_secret",
    "OMP_NUM_THREADS": "2",
    "HOME": HOME,
    "USER": NAME,
}


def test_settings_are_told_without_what_they_hold() -> None:
    assert read_settings(VARIABLES) == {
        "EDGEKIT_ASSETS": "set",
        "EDGEKIT_CACHE": "set",
        "EDGEKIT_DEBUG": "1",
        "HF_ENDPOINT": "set",
        "HF_HOME": "set",
        "OMP_NUM_THREADS": "2",
    }


def test_nothing_tells_who_or_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: COMPUTER)
    monkeypatch.setattr(platform, "release", lambda: f"6.8.0-12-{NAME}-custom")
    monkeypatch.setenv("HOME", HOME)  # whatever it is here: of a container's user it may be the root
    monkeypatch.chdir(tmp_path)
    record = describe_environment(Surroundings(variables=VARIABLES, cache=Path(HOME), folder=Path(HOME)))
    console = Console(width=80, file=io.StringIO())
    console.print(env_view(record))
    assert isinstance(console.file, io.StringIO)
    for text in (record.model_dump_json(), console.file.getvalue()):
        assert NAME not in text
        assert COMPUTER not in text
        assert "hf_secret" not in text
        assert str(Path.home()) not in text
        assert str(tmp_path) not in text
        assert re.search(r"(?<![\w.:])/\w", text) is None  # no path from the root
        assert re.search(r"[A-Za-z]:\\", text) is None


def test_what_a_report_needs_is_there(tmp_path: Path) -> None:
    record = describe_environment(Surroundings(kernel=Kernel(tmp_path)))
    assert record.edgekit == version_of("edgekit")
    assert record.python == f"CPython {platform.python_version()}"
    assert record.packages["torch"] == version_of("torch")
    assert record.packages["tflite-runtime"] == version_of("tflite-runtime")
    assert "ruff" not in record.packages
    assert set(record.targets) == set(target_names()) - {HOST}
    assert record.cores >= 1
    assert record.memory_available_bytes is None  # the kernel of this test says nothing


def test_the_systems_release_is_told_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "release", lambda: "6.8.0-mine")
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert describe_system() == "Linux 6.8, debian 12, glibc 2.36"

    def unknown() -> dict[str, str]:
        raise OSError("no such file")

    monkeypatch.setattr(platform, "freedesktop_os_release", unknown)
    assert describe_system() == "Linux 6.8, glibc 2.36"
