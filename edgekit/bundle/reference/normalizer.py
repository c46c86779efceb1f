"""Text as a tokenizer wants it, by the steps of a bundle's ``compiled.json``; every Unicode fact is in its tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

# Hangul syllables by arithmetic: the Unicode Standard, section 3.12.
SYLLABLES, LEADING, VOWELS, TRAILING = 0xAC00, 0x1100, 0x1161, 0x11A7
VOWEL_COUNT, TRAILING_COUNT = 21, 28
SYLLABLE_COUNT, LEADING_COUNT = 11172, 19
# Letters that syllables are made of: Unicode's HangulSyllableType.txt.
JAMO = (
    ("L", 0x1100, 0x115F),
    ("V", 0x1160, 0x11A7),
    ("T", 0x11A8, 0x11FF),
    ("L", 0xA960, 0xA97C),
    ("V", 0xD7B0, 0xD7C6),
    ("T", 0xD7CB, 0xD7FB),
)
CLUSTER_BYTES = 6  # SentencePiece's map is asked for whole clusters that are shorter than this


class Normalizer:
    """A list of steps, each a text to a text.

    Args:
        steps: of ``compiled.json``.
    """

    def __init__(self, steps: Sequence[dict[str, Any]]) -> None:
        self._steps = [STEPS[step["op"]](step) for step in steps]

    def __call__(self, text: str) -> str:
        for step in self._steps:
            text = step(text)
        return text


class Map:
    """Each character by itself: replaced, surrounded by spaces, a Hangul syllable taken apart, or kept."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._replaced = _Table(step["replace"])
        self._surrounded = _Table([[first, last, ""] for first, last in step["surround"]])
        self._hangul: bool = step["hangul"]

    def __call__(self, text: str) -> str:
        return "".join(map(self._one, text))

    def _one(self, character: str) -> str:
        code = ord(character)
        found = self._replaced.get(code)
        if found is not None:
            return str(found)
        if self._surrounded.get(code) is not None:
            return f" {character} "
        if self._hangul and 0 <= code - SYLLABLES < SYLLABLE_COUNT:
            return taken_apart(code)
        return character


class Reorder:
    """Marks behind a letter in the order of their combining classes, those of one class as they were."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._classes = _Table(step["classes"])

    def __call__(self, text: str) -> str:
        found: list[str] = []
        run: list[tuple[int, str]] = []
        for character in text:
            kind = self._classes.get(ord(character))
            if kind is None:
                found += [one for _, one in sorted(run, key=lambda entry: entry[0])]
                found.append(character)
                run = []
            else:
                run.append((int(kind), character))
        return "".join(found + [one for _, one in sorted(run, key=lambda entry: entry[0])])


class Compose:
    """Letters and the marks behind them joined where there is a character for both; Hangul, too."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._pairs = {(one, other): chr(whole) for one, other, whole in step["pairs"]}
        self._classes = _Table(step["classes"])

    def __call__(self, text: str) -> str:
        found: list[str] = []
        starter, last = -1, -1  # place of the letter that marks are joined to; class of the character before this one
        for character in text:
            kind = int(self._classes.get(ord(character)) or 0)
            if starter >= 0 and (last < 0 or last < kind):
                whole = self._joined(found[starter], character)
                if whole:
                    found[starter] = whole
                    continue
            if kind == 0:
                starter, last = len(found), -1
            else:
                last = kind
            found.append(character)
        return "".join(found)

    def _joined(self, one: str, other: str) -> str:
        pair = ord(one), ord(other)
        leading, vowel = pair[0] - LEADING, pair[1] - VOWELS
        if 0 <= leading < LEADING_COUNT and 0 <= vowel < VOWEL_COUNT:
            return chr(SYLLABLES + (leading * VOWEL_COUNT + vowel) * TRAILING_COUNT)
        syllable, trailing = pair[0] - SYLLABLES, pair[1] - TRAILING
        if 0 <= syllable < SYLLABLE_COUNT and syllable % TRAILING_COUNT == 0 and 0 < trailing < TRAILING_COUNT:
            return chr(pair[0] + trailing)
        return self._pairs.get(pair, "")


class Charsmap:
    """SentencePiece's map of strings, asked for each cluster of characters, then for each character of a long one.

    As the library tokenizers does it: a cluster shorter than six bytes is replaced as a whole by what the map has for
    the shortest entry that it begins with.
    """

    def __init__(self, step: dict[str, Any]) -> None:
        self._map: dict[str, str] = dict(step["map"])
        self._longest = max(map(len, self._map), default=0)
        self._extend, self._prepend, self._control = (
            _Table([[first, last, ""] for first, last in step[name]]) for name in ("extend", "prepend", "control")
        )

    def __call__(self, text: str) -> str:
        found: list[str] = []
        start = 0
        for stop in range(1, len(text) + 1):
            if stop < len(text) and not self._breaks(text, stop):
                continue
            cluster = text[start:stop]
            whole = self._lookup(cluster) if len(cluster.encode()) < CLUSTER_BYTES else None
            if whole is None:
                found += [one if (new := self._lookup(one)) is None else new for one in cluster]
            else:
                found.append(whole)
            start = stop
        return "".join(found)

    def _lookup(self, cluster: str) -> str | None:
        for length in range(1, min(len(cluster), self._longest) + 1):
            if cluster[:length] in self._map:
                return self._map[cluster[:length]]
        return None

    def _breaks(self, text: str, place: int) -> bool:
        """Whether a cluster ends before a place: the rules of Unicode's annex 29 that reach short clusters."""
        before, after = ord(text[place - 1]), ord(text[place])
        if before == 0x0D and after == 0x0A:
            return False
        if self._control.get(before) is not None or self._control.get(after) is not None:
            return True
        return not (
            self._extend.get(after) is not None or self._prepend.get(before) is not None or _hangul_joins(before, after)
        )


class Replace:
    """A string for every place where another one stands."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._old: str = step["old"]
        self._new: str = step["new"]

    def __call__(self, text: str) -> str:
        return text.replace(self._old, self._new)


class Squeeze:
    """One string for each run of ``least`` spaces or more."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._least: int = step["least"]
        self._new: str = step["new"]

    def __call__(self, text: str) -> str:
        found: list[str] = []
        spaces = 0
        for character in [*text, ""]:
            if character == " ":
                spaces += 1
                continue
            found.append(self._new if spaces >= self._least else " " * spaces)
            found.append(character)
            spaces = 0
        return "".join(found)


class Strip:
    """White space at the ends goes."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._space = _Table([[first, last, ""] for first, last in step["space"]])
        self._left: bool = step["left"]
        self._right: bool = step["right"]

    def __call__(self, text: str) -> str:
        start, stop = 0, len(text)
        while self._left and start < stop and self._space.get(ord(text[start])) is not None:
            start += 1
        while self._right and stop > start and self._space.get(ord(text[stop - 1])) is not None:
            stop -= 1
        return text[start:stop]


class Prepend:
    """A string before a text that is not empty."""

    def __init__(self, step: dict[str, Any]) -> None:
        self._text: str = step["text"]

    def __call__(self, text: str) -> str:
        return self._text + text if text else text


STEPS: dict[str, Any] = {
    "map": Map,
    "reorder": Reorder,
    "compose": Compose,
    "charsmap": Charsmap,
    "replace": Replace,
    "squeeze": Squeeze,
    "strip": Strip,
    "prepend": Prepend,
}


class _Table:
    """Values of runs of code points, sorted: ``[first, last, value]``."""

    def __init__(self, entries: Sequence[Sequence[Any]]) -> None:
        self._firsts = [entry[0] for entry in entries]
        self._entries = entries

    def get(self, code: int) -> str | int | None:
        place = bisect_right(self._firsts, code) - 1
        if place < 0 or code > self._entries[place][1]:
            return None
        value: str | int = self._entries[place][2]
        return value


def taken_apart(code: int) -> str:
    """The two or three letters of a Hangul syllable."""
    place = code - SYLLABLES
    trailing = place % TRAILING_COUNT
    leading, vowel = divmod(place // TRAILING_COUNT, VOWEL_COUNT)
    return chr(LEADING + leading) + chr(VOWELS + vowel) + (chr(TRAILING + trailing) if trailing else "")


def _hangul_joins(before: int, after: int) -> bool:
    """Whether two characters belong to one syllable: rules GB6 to GB8."""
    one, other = _hangul_kind(before), _hangul_kind(after)
    return (one, other) in {
        ("L", "L"), ("L", "V"), ("L", "LV"), ("L", "LVT"), ("LV", "V"), ("V", "V"), ("LV", "T"), ("V", "T"),
        ("LVT", "T"), ("T", "T"),
    }  # fmt: skip


def _hangul_kind(code: int) -> str:
    if 0 <= code - SYLLABLES < SYLLABLE_COUNT:
        return "LV" if (code - SYLLABLES) % TRAILING_COUNT == 0 else "LVT"
    return next((kind for kind, first, last in JAMO if first <= code <= last), "")
