from __future__ import annotations

import pytest

from edgekit.devices.emulation.kinds import KINDS, kind_of
from edgekit.devices.emulation.profiles import CORES, PROFILES, profile_of
from edgekit.errors import UnknownNameError

# Part and variant of qemu's identification registers; with others, onnxruntime picks kernels that are not there.
REGISTERS = {
    "cortex-a53": ("0xd03", "0x0"),
    "cortex-a72": ("0xd08", "0x0"),
    "cortex-a76": ("0xd0b", "0x4"),
    "i8mm": ("0xd49", "0x0"),
    "cortex-a7": ("0xc07", "0x0"),
}


def facts(text: str) -> list[dict[str, str]]:
    """The fields of each processor of a ``/proc/cpuinfo``."""
    return [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in text.strip().split("\n\n")
    ]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_says_what_it_is_and_where_that_is_from(name: str) -> None:
    profile = profile_of(name)
    assert profile.name == name
    assert profile.label == f"{name}, emulated"
    assert profile.kind in KINDS
    assert profile.source
    assert profile.means


@pytest.mark.parametrize("name", PROFILES)
def test_the_processors_are_numbered_and_alike(name: str) -> None:
    cores = facts(profile_of(name).cpuinfo)
    assert [core.pop("processor") for core in cores] == [str(number) for number in range(CORES)]
    assert all(core == cores[0] for core in cores)


@pytest.mark.parametrize("name", REGISTERS)
def test_part_and_variant_are_those_of_the_emulated_register(name: str) -> None:
    core = facts(profile_of(name).cpuinfo)[0]
    assert (core["CPU part"], core["CPU variant"]) == REGISTERS[name]
    assert core["CPU implementer"] == "0x41"


def test_every_arm_profile_is_checked() -> None:
    assert {name for name, profile in PROFILES.items() if profile.kind != "x86-64"} == set(REGISTERS)


def test_only_profiles_with_dot_products_say_so() -> None:
    for profile in PROFILES.values():
        features = dict(profile.system).get("Features", "").split()
        assert ("asimddp" in features) == ("sdot" in profile.kernels)
        assert ("i8mm" in features) == ("smmla" in profile.kernels)


def test_the_matrix_profile_has_neither_sve_nor_sme() -> None:
    assert profile_of("i8mm").cpu == "max,sve=off,sme=off"


def test_unknown_names_list_those_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match="no profile of an emulated processor 'cortex-a67'") as raised:
        profile_of("cortex-a67")
    assert "'cortex-a76'" in raised.value.hint
    assert raised.value.id == "unknown-name.emulation"
    with pytest.raises(UnknownNameError, match="allowed: arm64, armhf, x86-64"):
        kind_of("riscv")


def test_a_kinds_digest_tells_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: kind_of(name).digest for name in KINDS}
    assert len(set(before.values())) == len(KINDS)
    assert before == {name: kind_of(name).digest for name in KINDS}
    monkeypatch.setattr(
        "edgekit.devices.emulation.kinds.version_of", lambda name: "9.9" if name == "onnxruntime" else None
    )
    after = {name: kind_of(name).digest for name in KINDS}
    assert [name for name in KINDS if before[name] != after[name]] == ["arm64"]
    assert "onnxruntime==9.9" in kind_of("arm64").wheels
