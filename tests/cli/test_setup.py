from __future__ import annotations

import pytest
from fake_programs import Programs

from edgekit.cache import Cache
from edgekit.devices.emulation import root as roots


@pytest.fixture
def programs(monkeypatch, tmp_path):
    made = Programs()
    monkeypatch.setattr("subprocess.run", made)
    monkeypatch.setattr(roots, "why_not", lambda kind: None)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return made


def test_setup_says_what_it_made_and_where(run, programs):
    result = run("targets", "setup", "haswell")
    assert result.code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("x86-64: made, ")
    assert first.endswith(", for haswell")
    assert second.startswith(f"  {Cache().root / 'roots'}/x86-64-")
    assert "set up x86-64: " in result.told
    assert run("targets", "setup", "x86-64", "-q").stdout.startswith("x86-64: sound, ")
    assert result.told != ""


def test_setup_prints_one_document(run, programs):
    result = run("targets", "setup", "armv7", "--json", "-q")
    assert (result.code, result.stderr) == (0, "")
    assert result.document["schema"] == "edgekit.setup/1"
    (made,) = result.document["emulators"]
    assert (made["kind"], made["state"], made["profiles"]) == ("armhf", "made", ["cortex-a7"])
    assert "python3-numpy_1_armhf.deb" in made["contents"]


def test_remove_says_what_it_freed(run, programs):
    run("targets", "setup", "haswell", "-q")
    assert run("targets", "remove", "haswell").stdout.startswith("x86-64: removed, ")
    assert run("targets", "remove", "haswell").stdout == "x86-64: was not there\n"
    document = run("targets", "remove", "arm64", "--json").document
    assert document == {"schema": "edgekit.removal/1", "freed_bytes": {"arm64": 0}}


def test_a_machine_that_cannot_have_it_exits_with_3(run, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    result = run("targets", "setup", "arm64", "--json")
    assert (result.code, result.error["id"]) == (3, "environment.cannot-emulate")
    assert result.error["what"] == "arm64 cannot be emulated on this machine"


def test_an_unknown_name_suggests_the_nearest(run):
    result = run("targets", "setup", "cortex-a77", "--json")
    assert (result.code, result.error["id"]) == (2, "unknown-name.emulation")
    assert "'cortex-a76'" in result.error["hint"]


def test_the_cache_lists_and_verifies_emulators(run, programs):
    run("targets", "setup", "haswell", "-q")
    (entry,) = run("cache", "ls", "--json").document["entries"]
    assert (entry["place"], entry["kind"], entry["stage"], entry["use"]) == ("roots", "emulator", "x86-64", "free")
    assert run("cache", "verify", "--json", "-q").document["sound"]
    (Cache().root / "roots" / entry["key"] / "host" / "qemu").write_text("damaged")
    result = run("cache", "verify", "--json", "-q")
    assert result.code == 1
    assert [one["problem"] for one in result.document["damaged"]] == ["host/qemu changed"]
    assert run("cache", "prune", "--all", "-y").code == 0
    assert run("cache", "ls", "--json").document["entries"] == []
