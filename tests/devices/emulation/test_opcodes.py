from __future__ import annotations

import pytest

from edgekit.devices.emulation.kinds import KINDS
from edgekit.devices.emulation.opcodes import A32, A64, X86, Opcode
from edgekit.devices.emulation.profiles import PROFILES

# Words as an assembler writes them; each was read back by a disassembler.
WORDS = [
    (A64, 0x4E829420, "sdot"),  # sdot v0.4s, v1.16b, v2.16b
    (A64, 0x4F82E020, "sdot"),  # sdot v0.4s, v1.16b, v2.4b[0]
    (A64, 0x6E829420, "udot"),
    (A64, 0x4E829C20, "usdot"),
    (A64, 0x4E82A420, "smmla"),
    (A64, 0x6E82A420, "ummla"),
    (A64, 0x4E82AC20, "usmmla"),
    (A64, 0x0E228020, "smlal"),  # smlal v0.8h, v1.8b, v2.8b
    (A64, 0x6E628020, "umlal"),  # umlal2 v0.4s, v1.8h, v2.8h
    (A64, 0x0E22C020, "smull"),
    (A64, 0x4E22CC20, "fmla"),  # fmla v0.4s, v1.4s, v2.4s
    (A64, 0x4F821020, "fmla"),  # fmla v0.4s, v1.4s, v2.s[0]
    (A64, 0x4E420C20, "fmla16"),  # fmla v0.8h, v1.8h, v2.8h
    (A64, 0x8B020020, None),  # add x0, x1, x2
    (A64, 0x4EA28420, None),  # add v0.4s, v1.4s, v2.4s
    (A32, 0xF2810802, "vmlal"),  # vmlal.s8 q0, d1, d2
    (A32, 0xF2910C02, "vmull"),  # vmull.s16 q0, d1, d2
    (A32, 0xF2020D54, "vmla"),  # vmla.f32 q0, q1, q2
    (A32, 0xF2020C54, "vfma"),
    (A32, 0xE0810002, None),  # add r0, r1, r2
    (X86, 0x0475E2C4, "vpmaddubsw"),  # c4 e2 75 04 ..: vpmaddubsw ymm0, ymm1, ymm2
    (X86, 0xC2F5F5C5, "vpmaddwd"),  # c5 f5 f5 c2: vpmaddwd ymm0, ymm1, ymm2
    (X86, 0xB875E2C4, "vfmadd"),  # c4 e2 75 b8 ..: vfmadd231ps ymm0, ymm1, ymm2
    (X86, 0x5075E2C4, "vpdpbusd"),
    (X86, 0xC2FEF5C5, None),  # vpaddd ymm0, ymm1, ymm2
]


def name_of(table: tuple[Opcode, ...], word: int) -> str | None:
    return next((row.name for row in table if word & row.mask == row.value), None)


@pytest.mark.parametrize(("table", "word", "name"), WORDS)
def test_an_instruction_is_known_by_its_bits(table: tuple[Opcode, ...], word: int, name: str | None) -> None:
    assert name_of(table, word) == name


@pytest.mark.parametrize("table", [A64, A32, X86])
def test_no_row_can_never_match_and_none_hides_another(table: tuple[Opcode, ...]) -> None:
    assert all(row.value & ~row.mask == 0 for row in table)
    for row in table:
        assert name_of(table, row.value) == row.name


@pytest.mark.parametrize("name", PROFILES)
def test_a_profiles_kernels_are_among_those_that_are_counted(name: str) -> None:
    profile = PROFILES[name]
    counted = {row.name for row in KINDS[profile.kind]().opcodes}
    assert set(profile.kernels) <= counted
    assert profile.kernels
