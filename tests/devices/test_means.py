from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.cache import Cache
from edgekit.devices.emulation.root import MANIFEST, PLACE, root_name
from edgekit.devices.means import Means, find_means
from edgekit.environment import host
from edgekit.target import HOST, load_target, target_names

X86 = host().model_copy(update={"architecture": "x86_64", "features": ("avx2", "fma"), "system": "Linux", "board": ""})
OTHER = "the target is aarch64 and this machine is x86_64"
ROOT = '{"schema": "edgekit.root/1", "size_bytes": 1, "contents": ["a"], "files": {}, "links": {}}'


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PC with AVX2 that can emulate; its cache, in which nothing is set up."""
    for place in ("edgekit.devices", "edgekit.devices.means"):
        monkeypatch.setattr(f"{place}.host", lambda: X86)
    monkeypatch.setattr("edgekit.devices.why_not", lambda kind: None)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    return tmp_path


def set_up(kind: str) -> None:
    from edgekit.devices.emulation.kinds import kind_of

    folder = Cache().root / PLACE / root_name(kind_of(kind))
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(ROOT)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("x86-64", Means("latency")),
        ("x86-64-amx", Means("nothing", (), True, "this machine's processor lacks avx512_vnni, amx_tile, amx_int8")),
        ("arm64", Means("instructions", ("cortex-a53", "cortex-a76"), False, OTHER)),
        ("raspberry-pi-4", Means("instructions", ("cortex-a72",), False, OTHER)),
        ("armv7", Means("instructions", ("cortex-a7",), False, OTHER.replace("aarch64", "armv7l"))),
    ],
)
def test_what_a_pc_can_measure(name: str, means: Means) -> None:
    assert find_means(load_target(name)) == means


@pytest.mark.usefixtures("here")
def test_what_is_set_up_is_known() -> None:
    set_up("arm64")
    assert find_means(load_target("ios-arm64")).set_up
    assert not find_means(load_target("armv7")).set_up


@pytest.mark.usefixtures("here")
def test_where_nothing_can_be_emulated_both_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.devices.why_not", lambda kind: "gcc is not here")
    assert find_means(load_target("arm64")) == Means("nothing", (), True, OTHER, "gcc is not here")


@pytest.mark.usefixtures("here")
def test_every_shipped_target_can_be_measured_or_says_why_not() -> None:
    for name in target_names():
        if name != HOST:
            found = find_means(load_target(name))
            assert (found.measures == "latency") == (found.not_timed_because == "")
            assert (found.measures == "instructions") == bool(found.processors)
