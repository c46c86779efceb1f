from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.devices.emulation.kinds import PLUGIN_SOURCE, kind_of
from edgekit.devices.emulation.opcodes import A32, A64, X86
from edgekit.devices.emulation.plugin import Region, compile_plugin, middle, plugin_arguments, read_regions
from edgekit.errors import HostError


def test_the_arguments_say_what_is_counted_and_where_it_is_written() -> None:
    given = plugin_arguments(Path("/a,b/plugin.so"), Path("/tmp/log"), kind_of("x86-64"))
    assert given[:5] == ["-d", "plugin", "-D", "/tmp/log", "-plugin"]
    assert given[5].startswith("/a,,b/plugin.so,syscall=121,begin=0x5eed01,end=0x5eed02,class=vpmaddubsw:0xff031fff:")
    assert given[5].count("class=") == len(X86)


@pytest.mark.parametrize(("kind", "number"), [("arm64", 155), ("armhf", 132), ("x86-64", 121)])
def test_the_mark_is_the_architectures_own_system_call(kind: str, number: int) -> None:
    assert f",syscall={number}," in plugin_arguments(Path("p"), Path("l"), kind_of(kind))[-1]


def test_regions_are_read_and_other_lines_passed_over() -> None:
    log = "some warning\nedgekit-region 1200 sdot:7 smlal:0\n\nedgekit-region 90\n"
    assert read_regions(log) == [Region(1200, {"sdot": 7}), Region(90, {})]
    assert read_regions("") == []


@pytest.mark.parametrize(("counts", "expected"), [([5], 5), ([5, 3], 3), ([9, 1, 4], 4), ([4, 1, 2, 3], 2)])
def test_the_middle_is_the_lower_one_of_two(counts: list[int], expected: int) -> None:
    assert middle([Region(count) for count in counts]).instructions == expected


def test_every_row_has_room_in_the_plugin() -> None:
    text = PLUGIN_SOURCE.read_text(encoding="utf-8")
    most = {name: int(text.partition(f"{name} = ")[2].partition(",")[0]) for name in ("MOST_ROWS", "MOST_NAME")}
    for table in (A64, A32, X86):
        assert len(table) <= most["MOST_ROWS"]
        assert all(len(row.name) < most["MOST_NAME"] for row in table)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    compile_plugin(tmp_path / "plugin.so")
    assert (tmp_path / "plugin.so").read_bytes()[:4] == b"\x7fELF"
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(PLUGIN_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="compiling the plugin of the emulator failed\nno gcc here"):
        compile_plugin(tmp_path / "plugin.so")
