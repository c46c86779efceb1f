"""Which instructions tell a kernel: by the bits of their encoding, so that no disassembler is needed.

A row is a name, a mask and a value on the first four bytes of an instruction, read little-endian. A name may have
several rows: the same operation on vectors and on one element of a vector. ``fmla16`` is ``fmla`` on half floats.

Encodings: Arm Architecture Reference Manual for A-profile (DDI 0487), C7.2 for A64 and F6.1 for A32; Intel 64 and
IA-32 Architectures Software Developer's Manual, volume 2, 2.3 for VEX and the pages of each instruction.
"""

from __future__ import annotations

from typing import NamedTuple


class Opcode(NamedTuple):
    """An instruction belongs to ``name`` when its word is ``value`` under ``mask``."""

    name: str
    mask: int
    value: int


# A64: three vectors have bits 28-24 = 01110, a vector and an element 01111; bit 29 is U, bit 30 (Q) is free.
_THREE, _ELEMENT = 0xBF20FC00, 0xBF00F400
_THREE_BYTES, _ELEMENT_WORD = 0xBFE0FC00, 0xBFC0F400
A64 = (
    Opcode("sdot", _THREE_BYTES, 0x0E809400),
    Opcode("sdot", _ELEMENT_WORD, 0x0F80E000),
    Opcode("udot", _THREE_BYTES, 0x2E809400),
    Opcode("udot", _ELEMENT_WORD, 0x2F80E000),
    Opcode("usdot", _THREE_BYTES, 0x0E809C00),
    Opcode("usdot", _ELEMENT_WORD, 0x0F80F000),
    Opcode("sudot", _ELEMENT_WORD, 0x0F00F000),
    Opcode("smmla", 0xFFE0FC00, 0x4E80A400),
    Opcode("ummla", 0xFFE0FC00, 0x6E80A400),
    Opcode("usmmla", 0xFFE0FC00, 0x4E80AC00),
    Opcode("smlal", _THREE, 0x0E208000),
    Opcode("smlal", _ELEMENT, 0x0F002000),
    Opcode("umlal", _THREE, 0x2E208000),
    Opcode("umlal", _ELEMENT, 0x2F002000),
    Opcode("smull", _THREE, 0x0E20C000),
    Opcode("smull", _ELEMENT, 0x0F00A000),
    Opcode("umull", _THREE, 0x2E20C000),
    Opcode("umull", _ELEMENT, 0x2F00A000),
    Opcode("fmla", 0xBFA0FC00, 0x0E20CC00),
    Opcode("fmla", 0xBF80F400, 0x0F801000),
    Opcode("fmla16", _THREE_BYTES, 0x0E400C00),
    Opcode("fmla16", _ELEMENT_WORD, 0x0F001000),
)
# A32: bit 24 is U; sizes 8 and 16 bit have bit 21 = 0, 32 bit is left to its own rows.
A32 = (
    Opcode("vmlal", 0xFEA00F50, 0xF2800800),
    Opcode("vmlal", 0xFEB00F50, 0xF2900240),
    Opcode("vmull", 0xFEA00F50, 0xF2800C00),
    Opcode("vmull", 0xFEB00F50, 0xF2900A40),
    Opcode("vmla", 0xFFA00F10, 0xF2000D10),
    Opcode("vmla", 0xFEB00F50, 0xF2A00140),
    Opcode("vfma", 0xFFA00F10, 0xF2000C10),
)


def _vex3(opcode: int, table: int, mask: int = 0xFF) -> tuple[int, int]:
    """Mask and value of a three-byte VEX prefix with 66 and an opcode of a table (1: 0F, 2: 0F38)."""
    return mask << 24 | 0x03 << 16 | 0x1F << 8 | 0xFF, (opcode & mask) << 24 | 0x01 << 16 | table << 8 | 0xC4


X86 = (
    Opcode("vpmaddubsw", *_vex3(0x04, 2)),
    Opcode("vpmaddwd", *_vex3(0xF5, 1)),
    Opcode("vpmaddwd", 0x00FF03FF, 0x00F501C5),
    Opcode("vpdpbusd", *_vex3(0x50, 2)),
    # 98, A8 and B8: the three orders of the operands of one fused multiplication and addition
    *(Opcode("vfmadd", *_vex3(opcode, 2)) for opcode in (0x98, 0xA8, 0xB8)),
)
