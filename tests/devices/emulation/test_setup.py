from __future__ import annotations

from pathlib import Path

import pytest
from fake_programs import Programs

from edgekit.cache import Cache
from edgekit.devices.emulation import root as roots
from edgekit.devices.emulation.kinds import KINDS
from edgekit.devices.emulation.profiles import PROFILES
from edgekit.devices.emulation.setup import kinds_for, remove, set_up, setup_names
from edgekit.errors import UnknownNameError
from edgekit.target import load_target, target_names


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs()
    monkeypatch.setattr("subprocess.run", made)
    monkeypatch.setattr(roots, "why_not", lambda kind: None)
    return made


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("arm64", ("arm64",)),
        ("armv7", ("armhf",)),
        ("armhf", ("armhf",)),
        ("x86-64", ("x86-64",)),
        ("cortex-a53", ("arm64",)),
        ("cortex-a7", ("armhf",)),
        ("haswell", ("x86-64",)),
        ("arm64-dotprod", ("arm64",)),
    ],
)
def test_a_name_is_a_kind_a_processor_or_a_target(name: str, kinds: tuple[str, ...]) -> None:
    assert kinds_for(name) == kinds
    assert name in setup_names()


@pytest.mark.parametrize("name", [name for name in target_names() if name != "host"])
def test_the_processors_of_every_shipped_target_exist(name: str) -> None:
    assert set(load_target(name).profiles) <= set(PROFILES)


def test_an_unknown_name_is_refused_before_anything_is_made(tmp_path: Path, programs: Programs) -> None:
    with pytest.raises(UnknownNameError, match="there is no target or processor to set up 'arm65'") as raised:
        set_up(["arm64", "arm65"], Cache(tmp_path))
    assert "'arm64'" in raised.value.hint
    assert programs.asked == []


def test_each_kind_is_made_once_and_then_verified(tmp_path: Path, programs: Programs) -> None:
    cache = Cache(tmp_path)
    first = set_up(["arm64", "cortex-a76", "haswell"], cache).emulators
    assert [(one.kind, one.state) for one in first] == [("arm64", "made"), ("x86-64", "made")]
    assert first[0].profiles == ("cortex-a53", "cortex-a72", "cortex-a76", "i8mm")
    assert first[0].size_bytes > 0
    programs.asked.clear()
    assert [one.state for one in set_up(["arm64"], cache).emulators] == ["sound"]
    assert programs.asked == []
    (Path(first[0].path) / "host" / "qemu").write_text("damaged")
    assert [one.state for one in set_up(["arm64"], cache).emulators] == ["made again"]
    assert [one.state for one in set_up(["arm64"], cache).emulators] == ["sound"]


def test_removing_says_what_each_freed(tmp_path: Path, programs: Programs) -> None:
    cache = Cache(tmp_path)
    (made,) = set_up(["x86-64"], cache).emulators
    freed = remove(["haswell", "armv7"], cache).freed_bytes
    assert list(freed) == ["x86-64", "armhf"]
    assert freed["x86-64"] > made.size_bytes  # the manifest goes too
    assert freed["armhf"] == 0


def test_every_kind_has_a_profile() -> None:
    assert {profile.kind for profile in PROFILES.values()} == set(KINDS)
