"""Sets of characters as the library tokenizers knows them, asked of the library itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

Ranges = list[list[int]]
# Code points of each of these runs are alike, unassigned or for private use: the first answers for the others.
ALIKE = ((0x34000, 0xDFFFF), (0xE1000, 0xEFFFF), (0xF0000, 0x10FFFF))
CODE_POINTS = (*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE1000), *(first for first, _ in ALIKE))
BLOCK = 4096  # a splitter takes time that grows faster than its text


@cache
def class_ranges(name: str) -> Ranges:
    r"""First and last code point of each run of a set, sorted.

    Args:
        name: ``space`` (white space), ``punctuation`` (as BERT takes it), ``letter`` and ``number`` (Unicode's L and
            N), ``word`` (``\w`` of a regular expression), ``numeric`` (every kind of number).
    """
    from tokenizers import Regex, pre_tokenizers

    splitters = {
        "space": pre_tokenizers.WhitespaceSplit(),
        "punctuation": pre_tokenizers.Punctuation("removed"),
        "letter": pre_tokenizers.Split(Regex(r"\p{L}"), "removed"),
        "number": pre_tokenizers.Split(Regex(r"\p{N}"), "removed"),
        "word": pre_tokenizers.Whitespace(),
        "numeric": pre_tokenizers.Digits(individual_digits=False),
    }
    member = {"word": "a", "numeric": "1"}.get(name)
    return ranges(_removed(splitters[name]) if member is None else _runs_with(splitters[name], member))


def ranges(codes: Iterable[int]) -> Ranges:
    """Code points as runs; one that answers for others stands for all of them."""
    found: Ranges = []
    for _, run in groupby(enumerate(sorted(codes)), key=lambda entry: entry[1] - entry[0]):
        members = [code for _, code in run]
        found.append([members[0], last_alike(members[-1])])
    return found


def last_alike(code: int) -> int:
    """The last code point that this one answers for; itself where it answers for none."""
    return dict(ALIKE).get(code, code)


@cache
def combining_classes() -> Ranges:
    """First, last and class of each run of characters with a combining class, which never changes once it is given.

    The library may be of an older Unicode than Python, and so not know the newest marks: one that it knows goes before
    the mark of the last class, U+0345.
    """
    from tokenizers.normalizers import NFD

    order = NFD().normalize_str
    marks = [(code, unicodedata.combining(chr(code))) for code in CODE_POINTS if unicodedata.combining(chr(code))]
    marks = [(code, kind) for code, kind in marks if kind >= 240 or order(f"\u0345{chr(code)}")[-1] == "\u0345"]
    found: Ranges = []
    for code, kind in marks:
        if found and found[-1][1] == code - 1 and found[-1][2] == kind:
            found[-1][1] = code
        else:
            found.append([code, code, kind])
    return found


def _blocks() -> Iterator[tuple[int, ...]]:
    for start in range(0, len(CODE_POINTS), BLOCK):
        yield CODE_POINTS[start : start + BLOCK]


def _removed(splitter: PreTokenizer) -> Iterator[int]:
    """What a splitter that throws away the members of a set has thrown away."""
    for block in _blocks():
        kept = {place for _, (start, stop) in splitter.pre_tokenize_str(_text(block)) for place in range(start, stop)}
        yield from (code for place, code in enumerate(block) if place not in kept)


def _runs_with(splitter: PreTokenizer, member: str) -> Iterator[int]:
    """What a splitter into runs of one kind takes for the kind of ``member``."""
    for block in _blocks():
        for piece, (start, stop) in splitter.pre_tokenize_str(_text(block)):
            if len(splitter.pre_tokenize_str(member + piece[0])) == 1:
                yield from block[start:stop]


def _text(block: Iterable[int]) -> str:
    return "".join(map(chr, block))
