"""Compiles the normalizers of the library tokenizers into steps of tables: ``reference/normalizer.py`` runs them."""

from __future__ import annotations

import base64
import json
import struct
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from edgekit.bounds import MAX_CHARSMAP_PLACES
from edgekit.bundle.reference.normalizer import CLUSTER_BYTES, SYLLABLE_COUNT, SYLLABLES, taken_apart
from edgekit.bundle.unicode import CODE_POINTS, class_ranges, combining_classes, last_alike, ranges
from edgekit.errors import ModelError

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer

Step = dict[str, Any]
# Normalizers that treat each character by itself, but for the order of marks.
ALONE = ("BertNormalizer", "Lowercase", "NFD", "NFKD", "StripAccents", "Nmt")
DECOMPOSED = {"NFC": "NFD", "NFKC": "NFKD"}


def compile_normalizer(described: dict[str, Any] | None) -> list[Step]:
    """The steps of a normalizer, in order.

    Args:
        described: as ``tokenizer.json`` has it.

    Raises:
        ModelError: a part of it is of a kind that has no program.
    """
    steps: list[Step] = []
    alone: list[dict[str, Any]] = []
    for part in _flat(described):
        if part["type"] in ALONE:
            alone.append(part)
            continue
        if part["type"] in DECOMPOSED:
            steps += _mapped((*alone, {"type": DECOMPOSED[part["type"]]}))
            steps.append({"op": "compose", "pairs": _pairs(), "classes": combining_classes()})
        else:
            steps += [*_mapped(tuple(alone)), *_step(part)]
        alone = []
    return steps + _mapped(tuple(alone))


def _flat(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    if described is None:
        return []
    if described["type"] == "Sequence":
        return [part for inner in described["normalizers"] for part in _flat(inner)]
    return [described]


def _step(part: dict[str, Any]) -> list[Step]:
    kind = part["type"]
    if kind == "Prepend":
        return [{"op": "prepend", "text": part["prepend"]}]
    if kind == "Strip":
        space = class_ranges("space")
        return [{"op": "strip", "left": part["strip_left"], "right": part["strip_right"], "space": space}]
    if kind == "Replace" and "String" in part["pattern"]:
        return [{"op": "replace", "old": part["pattern"]["String"], "new": part["content"]}]
    if kind == "Replace" and part["pattern"].get("Regex") == " {2,}":
        return [{"op": "squeeze", "least": 2, "new": part["content"]}]
    if kind == "Precompiled":
        return [_charsmap(part["precompiled_charsmap"])]
    raise ModelError(
        f"the tokenizer's normalizer {kind!r} cannot be put into a bundle",
        id="model.not-bundled",
        why="it has no program that every platform could run",
    )


def _mapped(parts: tuple[dict[str, Any], ...]) -> list[Step]:
    """Normalizers that treat each character by itself, as one table, and the order of the marks that are left."""
    return list(_mapped_by_text(json.dumps(parts))) if parts else []


@cache
def _mapped_by_text(parts: str) -> tuple[Step, ...]:
    described = {"type": "Sequence", "normalizers": json.loads(parts)}
    library = _normalizer(described)
    new = {code: library.normalize_str(chr(code)) for code in CODE_POINTS}
    surrounded = [code for code, text in new.items() if text == f" {chr(code)} "]
    hangul = all(new[SYLLABLES + place] == taken_apart(SYLLABLES + place) for place in range(SYLLABLE_COUNT))
    syllables = range(SYLLABLES, SYLLABLES + SYLLABLE_COUNT) if hangul else range(0)
    known = set(surrounded)
    changed = [
        (code, text) for code, text in new.items() if text != chr(code) and code not in known and code not in syllables
    ]
    step: Step = {"op": "map", "replace": _runs(changed), "surround": ranges(surrounded), "hangul": hangul}
    apart = {"BertNormalizer", "NFD", "NFKD", "StripAccents"} & {part["type"] for part in described["normalizers"]}
    left = {ord(one) for text in new.values() for one in text if unicodedata.combining(one)}
    marks = [entry for entry in combining_classes() if left & set(range(entry[0], entry[1] + 1))] if apart else []
    return (step, {"op": "reorder", "classes": marks}) if marks else (step,)


def _runs(changed: list[tuple[int, str]]) -> list[list[Any]]:
    """First, last and text of each run of code points that become the same text."""
    found: list[list[Any]] = []
    for code, text in changed:
        if found and found[-1][1] == code - 1 and found[-1][2] == text:
            found[-1][1] = last_alike(code)
        else:
            found.append([code, last_alike(code), text])
    return found


def _normalizer(described: dict[str, Any]) -> Normalizer:
    """The library's normalizer of a description."""
    from tokenizers import Tokenizer, models

    whole = json.loads(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str())
    return cast("Normalizer", Tokenizer.from_str(json.dumps(whole | {"normalizer": described})).normalizer)


@cache
def _pairs() -> list[list[int]]:
    """Two characters and the one that they are joined to, for every one that the library joins."""
    from tokenizers.normalizers import NFC

    join = NFC().normalize_str
    found = []
    for code in CODE_POINTS:
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            one, other = (int(part, 16) for part in parts)
            if join(chr(one) + chr(other)) == chr(code):
                found.append([one, other, code])
    return found


def _charsmap(encoded: str) -> Step:
    """SentencePiece's map of strings, and what tells where a cluster of characters ends.

    The library looks for the shortest entry that a short cluster begins with: no other entry is ever found.

    Raises:
        ModelError: it is no such map.
    """
    try:
        short = read_charsmap(base64.b64decode(encoded))
    except (ValueError, IndexError, struct.error) as error:
        raise ModelError(
            "the map of characters of the tokenizer's normalizer cannot be put into a bundle",
            id="model.not-bundled",
            why=f"it is no map that SentencePiece makes: {error}",
        ) from error
    reached = {key: text for key, text in short.items() if not any(key[:n] in short for n in range(1, len(key)))}
    return {"op": "charsmap", "map": sorted(reached.items())} | _clusters()


def read_charsmap(content: bytes) -> dict[str, str]:
    """The short entries of a precompiled map: a trie of bytes (darts-clone), then the strings that its values point to.

    The layout is SentencePiece's ``Normalizer::DecodePrecompiledCharsMap``, that of a unit darts-clone's. Keys share
    their ends in it, so that a small map may have any number of them, or one without an end.

    Raises:
        ValueError: it has more than ``MAX_CHARSMAP_PLACES``, leads back to itself, or is no such map.
        IndexError: it points beyond its end.
        struct.error: it has no size.
    """
    import numpy as np

    (size,) = struct.unpack_from("<I", content)
    units = np.frombuffer(content, "<u4", size // 4, 4).astype(np.int64)
    strings = content[4 + size :]
    steps = np.arange(1, 256)
    found: dict[bytes, str] = {}
    open_ways: list[tuple[tuple[int, ...], bytes]] = [((int(_offset(units[0])),), b"")]
    seen = 0
    while open_ways:
        way, before = open_ways.pop()
        place = way[-1]
        here = place ^ steps
        here = here[here < len(units)]
        for unit in here[units[here] & 0x800000FF == place ^ here].tolist():
            key, seen = before + bytes([place ^ unit]), seen + 1
            if seen > MAX_CHARSMAP_PLACES:
                raise ValueError(f"its short keys have more than {MAX_CHARSMAP_PLACES} bytes")
            below = unit ^ int(_offset(units[unit]))
            if units[unit] >> 8 & 1:
                value = int(units[below]) & 0x7FFFFFFF
                found[key] = strings[value : strings.index(b"\0", value)].decode()
            if below in way:
                raise ValueError("it leads back to itself")
            if len(key) + 1 < CLUSTER_BYTES:
                open_ways.append(((*way, below), key))
    return {key.decode(): text for key, text in found.items()}


def _offset(unit: Any) -> Any:
    """How far the children of a unit lie from it."""
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)


@cache
def _clusters() -> dict[str, list[list[int]]]:
    """Characters that join the one before, that join the one behind, and that join none, by Unicode's annex 29.

    By general category, which is what the annex's table of properties is made of, with its exceptions.
    """
    extend, prepend, control = [], [], []
    for code in CODE_POINTS:
        kind = unicodedata.category(chr(code))
        if code in PREPENDED:
            prepend.append(code)
        elif code in JOINED or (kind in ("Mn", "Me", "Mc") and code not in APART) or 0x1F3FB <= code <= 0x1F3FF:
            extend.append(code)
        elif kind in ("Cc", "Cf", "Zl", "Zp"):
            control.append(code)
    return {"extend": ranges(extend), "prepend": ranges(prepend), "control": ranges(control)}


# Unicode 15, GraphemeBreakProperty.txt: Prepend; Extend and SpacingMark beside the marks; marks that are neither.
PREPENDED = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3}
JOINED = {0x200C, 0x200D, 0xFF9E, 0xFF9F, 0xE33, 0xEB3, *range(0xE0020, 0xE0080)}
APART = {0x102B, 0x102C, 0x1038, *range(0x1062, 0x1065), *range(0x1067, 0x106E), 0x1083, *range(0x1087, 0x108D)}
APART |= {0x108F, *range(0x109A, 0x109D), 0x1A61, 0x1A63, 0x1A64, 0xAA7B, 0xAA7D, 0x11720, 0x11721}
