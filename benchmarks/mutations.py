"""How a file is damaged at random, by a seeded generator: bits, bytes, numbers, pieces, and what stands in a text."""

from __future__ import annotations

import io
import random
import re
import zipfile

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = ("-1", "0", "1e999", "NaN", "9" * 400, "-9223372036854775809", "0.1", "null", "true", "[]", "{}", '""')
TEXTS = ("\x1b[2J", "\u202e", "\x00", "é", "../../x", "/etc/passwd", "%s%n", "a" * 5000, "[" * 300, "{" * 300, "'")


def mutate(content: bytes, draw: random.Random, *, text: bool) -> bytes:
    """A file that differs: one to four changes of bits, bytes, numbers, pieces, or what stands in a text."""
    changed = bytearray(content)
    if not text and draw.random() < 0.5:  # a small file falls apart under more
        draw.choice((_flip_one, _number))(changed, draw)
        return bytes(changed)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        changes = (_flip, _replace, _number, _cut, _repeat, _insert, _shorten)
        change = draw.choice((_value, _text, _cut, _repeat, _flip) if text and draw.random() < 0.8 else changes)
        change(changed, draw)
    return bytes(changed)


def mutate_inside(content: bytes, draw: random.Random) -> bytes:
    """An archive one of whose entries differs, with a right sum."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        chosen = draw.choice(source.namelist())
        for name in source.namelist():
            entry = source.read(name)
            if name == chosen:  # its header has the most to say
                head = mutate(entry[:128], draw, text=draw.random() < 0.5)
                entry = head + entry[128:] if draw.random() < 0.7 else mutate(entry, draw, text=False)
            archive.writestr(name, entry)
    return stream.getvalue()


def _place(content: bytearray, draw: random.Random, size: int = 1) -> int:
    return draw.randrange(max(1, len(content) - size + 1)) if content else 0


def _flip_one(content: bytearray, draw: random.Random) -> None:
    if content:
        content[_place(content, draw)] ^= 1 << draw.randrange(8)


def _flip(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        _flip_one(content, draw)


def _replace(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at : at + draw.randint(1, 16)] = draw.randbytes(draw.randint(1, 16))


def _number(content: bytearray, draw: random.Random) -> None:
    size = draw.choice((1, 2, 4, 8))
    at = _place(content, draw, size)
    value = draw.choice(INTERESTING) % 2 ** (8 * size)
    content[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _cut(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    del content[at : at + draw.choice((1, 4, 16, 64, 256))]


def _repeat(content: bytearray, draw: random.Random) -> None:
    at, other = _place(content, draw), _place(content, draw)
    content[other:other] = content[at : at + draw.choice((4, 16, 64, 256))] * draw.choice((1, 2, 50))


def _insert(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at:at] = draw.choice((b"\0", b"\xff", draw.randbytes(1))) * draw.choice((1, 4, 64, 4096))


def _shorten(content: bytearray, draw: random.Random) -> None:
    del content[_place(content, draw) :]


def _value(content: bytearray, draw: random.Random) -> None:
    """Another value in the place of a number, a word or a text."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?|true|false|null|"[^"\n]*"', bytes(content)))
    if found:
        one = draw.choice(found)
        content[one.start() : one.end()] = draw.choice(NUMBERS).encode()


def _text(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at:at] = draw.choice(TEXTS).encode()
