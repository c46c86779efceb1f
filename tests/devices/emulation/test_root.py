from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_programs import Programs
from processes import another_process

from edgekit.cache import Cache
from edgekit.devices.emulation import root as roots
from edgekit.devices.emulation.kinds import EMULATOR_PACKAGES, KINDS, PYTHON_PACKAGES, kind_of
from edgekit.devices.emulation.root import (
    MANIFEST,
    build_root,
    find_root,
    find_root_damage,
    remove_root,
    root_name,
    verify_root,
    why_not,
)
from edgekit.errors import HostError, ResourceLimitError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Fake programs, on a machine that has them all."""
    made = Programs()
    monkeypatch.setattr("subprocess.run", made)
    monkeypatch.setattr(roots, "why_not", lambda kind: None)
    return made


def left(cache: Cache) -> list[str]:
    """What of roots and unfinished work lies in the cache."""
    folders = (cache.root / place for place in ("roots", "tmp"))
    return sorted(path.name for folder in folders if folder.is_dir() for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_root_has_the_emulator_its_libraries_and_the_plugin(kind: str, cache: Cache, programs: Programs) -> None:
    assert find_root(kind, cache) is None
    made = build_root(kind, cache)
    assert made == find_root(kind, cache)
    assert (made.kind, made.path) == (kind, cache.root / "roots" / root_name(kind_of(kind)))
    assert {"host/qemu", "host/lib/libc.so.6", "host/plugin.so"} <= {
        path.relative_to(made.path).as_posix() for path in made.path.rglob("*")
    }
    assert (made.path / "guest").is_dir() == bool(kind_of(kind).debian)
    assert made.size_bytes == sum(
        path.stat().st_size
        for path in made.path.rglob("*")
        if path.is_file() and path.name != MANIFEST
        if not path.is_symlink()
    )
    assert verify_root(made) is None
    assert left(cache) == [made.path.name]


def test_what_is_there_is_not_made_again(cache: Cache, programs: Programs) -> None:
    build_root("x86-64", cache)
    programs.asked.clear()
    build_root("x86-64", cache)
    assert programs.asked == []


def test_packages_come_by_an_apt_state_of_their_own(cache: Cache, programs: Programs) -> None:
    contents = build_root("arm64", cache).contents
    names = [Programs.name(words) for words in programs.asked]
    assert names[:2] == ["update", "download"]
    assert [names.count(name) for name in ("update", "download", "gcc", "pip", "qemu")] == [1, 2, 1, 1, 1]
    update, first = programs.asked[:2]
    assert update[:3] == ["apt-get", "--quiet", "--config-file"]
    assert update[3].startswith(str(cache.root / "tmp"))
    assert first[5:] == [f"{name}:amd64" for name in EMULATOR_PACKAGES]
    second = [words for words in programs.asked if Programs.name(words) == "download"][1]
    assert second[5:] == [f"{name}:arm64" for name in PYTHON_PACKAGES]
    assert len(contents) == len(EMULATOR_PACKAGES) + len(PYTHON_PACKAGES) + 1


def test_wheels_are_asked_for_by_version_and_by_every_tag(cache: Cache, programs: Programs) -> None:
    build_root("arm64", cache)
    (words,) = [words for words in programs.asked if Programs.name(words) == "pip"]
    kind = kind_of("arm64")
    assert words[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(words)
    assert words[-len(kind.wheels) :] == list(kind.wheels)
    assert words.count("--platform") == len(kind.platforms)
    assert "manylinux2014_aarch64" in words


def test_the_trial_imports_what_the_runner_will(cache: Cache, programs: Programs) -> None:
    build_root("armhf", cache)
    (words,) = [words for words in programs.asked if Programs.name(words) == "qemu"]
    assert words[words.index("-cpu") + 1] == "cortex-a7"
    assert "('numpy', 'tflite_runtime.interpreter')" in words[-1]


def test_debians_own_links_are_made(cache: Cache, programs: Programs) -> None:
    folder = build_root("armhf", cache).path / "guest/usr/lib/arm-linux-gnueabihf"
    assert (folder / "libblas.so.3").readlink() == Path("blas/libblas.so.3")


@pytest.mark.parametrize(
    ("program", "says", "what", "why"),
    [
        ("update", "W: x\nE: Temporary failure resolving 'deb.debian.org'", "reading Debian's lists", "E: Temporary"),
        ("download", "E: Unable to locate package x", "fetching Debian packages failed", "E: Unable to locate"),
        ("pip", "ERROR: No matching distribution", "fetching wheels (onnxruntime==", "ERROR: No matching"),
        ("gcc", "plugin.c:1: error: no stdint.h", "compiling the plugin of the emulator", "no stdint.h"),
        ("extract", "", "unpacking libc6_1_amd64.deb failed", "dpkg-deb ended with code 100"),
        ("qemu", "ImportError: no", "the measuring process on cortex-a53, emulated failed", "ImportError: no"),
    ],
)
def test_a_step_that_fails_says_so_and_leaves_nothing(
    program: str, says: str, what: str, why: str, cache: Cache, programs: Programs
) -> None:
    programs.failing[program] = says
    with pytest.raises(HostError) as raised:
        build_root("arm64", cache)
    assert what in raised.value.what
    assert why in raised.value.why
    assert left(cache) == []


def test_a_full_disk_is_told(cache: Cache, programs: Programs) -> None:
    programs.failing["download"] = "E: write failed: No space left on device"
    with pytest.raises(ResourceLimitError, match="fetching Debian packages failed: the disk is full"):
        build_root("arm64", cache)


def test_an_emulator_that_does_not_count_is_no_root(cache: Cache, programs: Programs) -> None:
    programs.regions = ""
    with pytest.raises(HostError, match="the emulator of x86-64 runs and does not count\none region was marked, and 0"):
        build_root("x86-64", cache)
    assert left(cache) == []


def test_an_interrupted_build_leaves_nothing(cache: Cache, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(made: Path, kind: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(roots, "_try_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_root("x86-64", cache)
    assert left(cache) == []
    assert find_root("x86-64", cache) is None


def test_the_second_of_two_builders_keeps_what_the_first_put_there(
    cache: Cache, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = roots._try_out

    def slower(made: Path, kind: object) -> None:
        monkeypatch.setattr(roots, "_try_out", trial)
        first = build_root("x86-64", cache)  # another one is faster
        (first.path / MANIFEST).touch()
        inodes.append((first.path / "host/qemu").stat().st_ino)

    inodes: list[int] = []
    monkeypatch.setattr(roots, "_try_out", slower)
    second = build_root("x86-64", cache)
    assert [(second.path / "host/qemu").stat().st_ino] == inodes
    assert verify_root(second) is None
    assert left(cache) == [second.path.name]


def test_a_root_is_on_the_disk_before_it_is_found(
    cache: Cache, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cache.root / "roots" / root_name(kind_of("x86-64"))
    written: set[int] = set()

    def fsync(descriptor: int) -> None:
        assert not place.exists()
        written.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("os.fsync", fsync)
    made = build_root("x86-64", cache)
    assert {path.stat().st_ino for path in (made.path, *made.path.rglob("*")) if not path.is_symlink()} <= written


def test_a_folder_without_a_manifest_does_not_count_and_is_replaced(cache: Cache, programs: Programs) -> None:
    broken = cache.root / "roots" / root_name(kind_of("x86-64"))
    (broken / "host").mkdir(parents=True)
    assert find_root("x86-64", cache) is None
    assert find_root_damage(broken) == f"{MANIFEST} cannot be read"
    assert verify_root(build_root("x86-64", cache)) is None


def test_each_kind_of_damage_is_found(cache: Cache, programs: Programs) -> None:
    root = build_root("armhf", cache)
    plugin, link = root.path / "host/plugin.so", root.path / "guest/usr/lib/arm-linux-gnueabihf/libblas.so.3"
    plugin.write_bytes(b"other")
    assert verify_root(root) == "host/plugin.so changed"
    plugin.unlink()
    assert verify_root(root) == "host/plugin.so is missing or was added"
    plugin.write_bytes(b"\x7fELF")
    link.unlink()
    link.symlink_to("/etc/passwd")
    assert verify_root(root) == "guest/usr/lib/arm-linux-gnueabihf/libblas.so.3 changed"
    link.unlink()
    link.symlink_to("blas/libblas.so.3")
    (root.path / "site/added.py").write_text("")
    assert verify_root(root) == "site/added.py is missing or was added"


def test_a_manifest_says_what_it_was_made_of(cache: Cache, programs: Programs) -> None:
    record = json.loads((build_root("arm64", cache).path / MANIFEST).read_text())
    assert (record["schema"], record["kind"], record["digest"]) == (
        "edgekit.root/1",
        "arm64",
        kind_of("arm64").digest,
    )
    assert "qemu-user_1_amd64.deb" in record["contents"]
    assert "cache" not in json.dumps(record["contents"])


def test_removing_takes_every_version_of_a_kind(cache: Cache, programs: Programs) -> None:
    root = build_root("arm64", cache)
    build_root("armhf", cache)
    (cache.root / "roots" / "arm64-older").mkdir()
    assert remove_root("arm64", cache) > root.size_bytes
    assert [name.partition("-")[0] for name in left(cache)] == ["armhf"]
    assert remove_root("arm64", cache) == 0


def test_what_another_process_uses_is_not_removed(cache: Cache, programs: Programs, monkeypatch: Any) -> None:
    root = build_root("x86-64", cache)
    monkeypatch.undo()
    with another_process(cache.root, f"roots/{root.path.name}"), pytest.raises(HostError, match="is in use") as raised:
        remove_root("x86-64", cache)
    assert raised.value.id == "environment.in-use"
    assert root.path.is_dir()


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("apt-get", "apt-get is not here: install apt"),
        ("dpkg-deb", "dpkg-deb is not here: install dpkg"),
        ("gcc", "gcc is not here: install gcc and libc6-dev"),
    ],
)
def test_a_missing_program_is_named(lacking: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == lacking else f"/usr/bin/{name}")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert why_not("arm64") == why


def test_another_system_is_named(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(HostError, match="arm64 cannot be emulated on this machine\nemulation runs on Linux on x86-64"):
        build_root("arm64", cache)


def test_a_missing_keyring_and_pip_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(roots, "KEYRING", tmp_path / "none.gpg")
    assert str(why_not("x86-64")).endswith("install debian-archive-keyring")
    monkeypatch.setattr(roots, "KEYRING", tmp_path)
    monkeypatch.setattr(roots, "KEYRING", Path(__file__))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_not("x86-64") is None
    assert why_not("arm64") == "pip is not in this environment: run `python -m ensurepip`"
