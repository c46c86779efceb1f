"""Texts to token ids, by the compiled tokenizer of a bundle (``tokenizer/compiled.json``).

Everything that depends on Unicode is a table in that file, so this is the same short program in every language:

    text -> parts between added tokens -> normalize -> split into words -> pieces of each word -> frame -> truncate

Words and pieces are strings; a byte-level tokenizer writes each byte of UTF-8 as one printable character first.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .normalizer import Normalizer

SCHEMA = "edgekit.tokenizer/1"
UNKNOWN_PENALTY = 10.0  # of an unknown character against the least likely piece: K_UNK_PENALTY of SentencePiece
MOST_WORDS = 10_000  # that are kept with their ids: the capacity of the cache of the library tokenizers
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")  # of GPT-2's pattern, in its order


class Ranges:
    """A set of code points, as sorted pairs of the first and the last of each run."""

    def __init__(self, pairs: Sequence[Sequence[int]]) -> None:
        self._firsts = [first for first, _ in pairs]
        self._lasts = [last for _, last in pairs]

    def __contains__(self, character: str) -> bool:
        code = ord(character)
        place = bisect_right(self._firsts, code) - 1
        return place >= 0 and code <= self._lasts[place]


class Tokenizer:
    """A compiled tokenizer.

    Args:
        program: what ``compiled.json`` holds.
    """

    def __init__(self, program: dict[str, Any]) -> None:
        if program.get("schema") != SCHEMA:
            raise ValueError(f"the tokenizer has the schema {program.get('schema')!r}; this reads {SCHEMA!r}")
        self.pad: int = program["pad"]
        self.max_length: int = program["max_length"]
        self._frame = program["frame"]
        self._splits: list[dict[str, Any]] = program["split"]
        self._classes = {name: Ranges(pairs) for name, pairs in program["classes"].items()}
        self._normalizer = Normalizer(program["normalize"])
        self._added = [_Added(entry) for entry in program["added"]]
        self._model = MODELS[program["model"]["type"]](program["model"])
        self._words: dict[str, list[int]] = {}  # what the model made of words before
        self._bytes = _byte_characters()

    @classmethod
    def load(cls, file: Path) -> Tokenizer:
        """The tokenizer in a file."""
        return cls(json.loads(file.read_text(encoding="utf-8")))

    def encode(self, text: str, pair: str | None = None) -> tuple[list[int], list[int]]:
        """Ids and segments of a text or of two, framed and cut to the longest length."""
        texts = [self.ids(text)] if pair is None else [self.ids(text), self.ids(pair)]
        frame = self._frame["single" if pair is None else "pair"]
        room = max(0, self.max_length - sum(len(part["ids"]) for part in frame if "ids" in part))
        for ids, length in zip(texts, _shares([len(ids) for ids in texts], room), strict=True):
            del ids[length:]
        found: list[int] = []
        segments: list[int] = []
        for part in frame:
            ids = part["ids"] if "ids" in part else texts[part["text"]]
            found += ids
            segments += [part["segment"]] * len(ids)
        return found, segments

    def ids(self, text: str) -> list[int]:
        """Ids of a text, without its frame, uncut."""
        found: list[int] = []
        for place, raw, token in self._parts(text, normalized=False):
            if token is not None:
                found.append(token)
                continue
            for inner_place, part, inner in self._parts(self._normalizer(raw), normalized=True):
                if inner is not None:
                    found.append(inner)
                    continue
                for word in self._split(part, first=place == inner_place == 0):
                    if word not in self._words:
                        if len(self._words) >= MOST_WORDS:
                            self._words.clear()
                        self._words[word] = self._model(word)
                    found += self._words[word]
        return found

    def _parts(self, text: str, *, normalized: bool) -> Iterator[tuple[int, str, int | None]]:
        """Places, texts between added tokens, and the ids of these: everywhere the longest, from left to right."""
        known = [token for token in self._added if token.normalized == normalized]
        done = start = 0
        while known and start < len(text):
            fitting = [token for token in known if text.startswith(token.content, start)]
            if not fitting:
                start += 1
                continue
            token = max(fitting, key=lambda one: len(one.content))
            stop = start + len(token.content)
            if token.single_word and self._joined(text, start, stop):
                start = stop
                continue
            begin = start
            while token.lstrip and begin > done and text[begin - 1] in self._classes["space"]:
                begin -= 1
            while token.rstrip and stop < len(text) and text[stop] in self._classes["space"]:
                stop += 1
            if begin > done:
                yield done, text[done:begin], None
            yield begin, "", token.id
            done = start = stop
        if done < len(text):
            yield done, text[done:], None

    def _joined(self, text: str, start: int, stop: int) -> bool:
        word = self._classes["word"]
        return (start > 0 and text[start - 1] in word) or (stop < len(text) and text[stop] in word)

    def _split(self, text: str, *, first: bool) -> list[str]:
        words = [text]
        for split in self._splits:
            words = [word for part in words for word in self._apply(split, part, first=first) if word]
        return words

    def _apply(self, split: dict[str, Any], text: str, *, first: bool) -> list[str]:
        kind = split["op"]
        if kind == "space":
            return self._runs(text, drop="space")
        if kind == "isolate":
            return self._runs(text, alone=split["class"])
        if kind == "runs":
            return self._runs(text, drop="space", group="word")
        if kind == "metaspace":
            return _metaspace(text, split, first=first)
        if kind == "gpt2":
            text = f" {text}" if split["prefix_space"] and not text.startswith(" ") else text
            words = self._gpt2(text) if split["pattern"] else [text]
            return ["".join(self._bytes[byte] for byte in word.encode()) for word in words]
        raise ValueError(f"the tokenizer splits by {kind!r}, which this does not know")

    def _runs(self, text: str, *, drop: str = "", alone: str = "", group: str = "") -> list[str]:
        """Runs of characters: ``drop`` parts them and goes, ``alone`` stands alone, ``group`` is a run of its own."""
        words: list[str] = []
        last = None
        for character in text:
            if drop and character in self._classes[drop]:
                last = None
                continue
            kind = 2 if alone and character in self._classes[alone] else 1
            kind = 0 if group and character in self._classes[group] else kind
            if kind == last and kind != 2:
                words[-1] += character
            else:
                words.append(character)
            last = kind
        return words

    def _gpt2(self, text: str) -> list[str]:
        """GPT-2's pattern: contractions, then letters, numbers or others with one space before, then spaces."""
        words, start = [], 0
        while start < len(text):
            stop = self._gpt2_end(text, start)
            words.append(text[start:stop])
            start = stop
        return words

    def _gpt2_end(self, text: str, start: int) -> int:
        for contraction in _CONTRACTIONS:
            if text.startswith(contraction, start):
                return start + len(contraction)
        begin = start + (text[start] == " ")
        if begin < len(text) and self._kind(text[begin]) != "space":
            stop = begin
            while stop < len(text) and self._kind(text[stop]) == self._kind(text[begin]):
                stop += 1
            return stop
        stop = start
        while stop < len(text) and self._kind(text[stop]) == "space":
            stop += 1
        return stop - 1 if stop < len(text) and stop - 1 > start else stop

    def _kind(self, character: str) -> str:
        return next((name for name in ("space", "letter", "number") if character in self._classes[name]), "other")


class _Added:
    """A token that is found in the text itself, such as ``[SEP]``."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.content: str = entry["content"]
        self.id: int = entry["id"]
        self.normalized: bool = entry["normalized"]
        self.single_word: bool = entry["single_word"]
        self.lstrip: bool = entry["lstrip"]
        self.rstrip: bool = entry["rstrip"]


class WordPiece:
    """The longest piece that a word begins with, then the longest of the rest; one unknown where that fails."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._vocabulary = _numbered(model["vocab"])
        self._unknown: int = model["unknown"]
        self._prefix: str = model["prefix"]
        self._longest: int = model["longest_word"]

    def __call__(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word) <= self._longest:
            before = self._prefix if start else ""
            stop = len(word)
            while stop > start and before + word[start:stop] not in self._vocabulary:
                stop -= 1
            if stop == start:
                break
            found.append(self._vocabulary[before + word[start:stop]])
            start = stop
        return found if start == len(word) else [self._unknown]


class WordLevel:
    """Whole words."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._vocabulary = _numbered(model["vocab"])
        self._unknown: int = model["unknown"]

    def __call__(self, word: str) -> list[int]:
        return [self._vocabulary.get(word, self._unknown)]


class BPE:
    """Characters, merged pair by pair: the pair that was learned first, and the leftmost of those."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._vocabulary = _numbered(model["vocab"])
        self._ranks = {(one, other): rank for rank, (one, other) in enumerate(model["merges"])}
        self._unknown: int | None = model["unknown"]
        self._fuse: bool = model["fuse_unknown"]
        self._byte_fallback: bool = model["byte_fallback"]
        self._prefix: str = model["prefix"]
        self._suffix: str = model["suffix"]
        self._whole: bool = model["ignore_merges"]

    def __call__(self, word: str) -> list[int]:
        if self._whole and word in self._vocabulary:
            return [self._vocabulary[word]]
        pieces = self._pieces(word)
        while True:
            ranked = [(self._ranks[pair], place) for place, pair in enumerate(pairwise(pieces)) if pair in self._ranks]
            if not ranked:
                break
            _, place = min(ranked)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1].removeprefix(self._prefix)]
        return self._numbers(pieces)

    def _pieces(self, word: str) -> list[str]:
        found: list[str] = []
        unknown = False
        for place, character in enumerate(word):
            piece = (self._prefix if place else "") + character + (self._suffix if place == len(word) - 1 else "")
            known = piece in self._vocabulary
            if not known and self._byte_fallback:
                coded = [f"<0x{byte:02X}>" for byte in piece.encode()]
                if all(name in self._vocabulary for name in coded):
                    found += coded
                    unknown = False
                    continue
            # Without an unknown token such a character leaves nothing, so that its neighbours may merge.
            if known or (self._unknown is not None and not (unknown and self._fuse)):
                found.append(piece)
            unknown = not known
        return found

    def _numbers(self, pieces: list[str]) -> list[int]:
        found = [self._vocabulary.get(piece, self._unknown) for piece in pieces]
        return [number for number in found if number is not None]


class Unigram:
    """The most likely division into pieces (Viterbi); unknown characters side by side are one unknown token."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._vocabulary = _numbered(model["vocab"])
        self._scores: list[float] = model["scores"]
        self._unknown: int = model["unknown"]
        self._byte_fallback: bool = model["byte_fallback"]
        self._longest = max(map(len, self._vocabulary))
        self._unknown_score = min(self._scores) - UNKNOWN_PENALTY

    def __call__(self, word: str) -> list[int]:
        best: list[tuple[float, int, int] | None] = [(0.0, 0, -1)] + [None] * len(word)
        for start in range(len(word)):
            here = best[start]
            assert here is not None  # every place is the end of at least one character
            single = False
            for stop in range(start + 1, min(len(word), start + self._longest) + 1):
                number = self._vocabulary.get(word[start:stop])
                if number is not None:
                    best[stop] = _better(best[stop], (here[0] + self._scores[number], start, number))
                    single = single or stop == start + 1
            if not single:
                best[start + 1] = _better(best[start + 1], (here[0] + self._unknown_score, start, self._unknown))
        return self._numbers(word, best)

    def _numbers(self, word: str, best: list[tuple[float, int, int] | None]) -> list[int]:
        pieces: list[str] = []
        stop, fused = len(word), False
        while stop:
            entry = best[stop]
            assert entry is not None
            _, start, number = entry
            unknown = number == self._unknown
            if unknown and fused:
                pieces[-1] = word[start:stop] + pieces[-1]
            else:
                pieces.append(word[start:stop])
            stop, fused = start, unknown
        return [number for piece in reversed(pieces) for number in self._number(piece)]

    def _number(self, piece: str) -> list[int]:
        if piece in self._vocabulary:
            return [self._vocabulary[piece]]
        coded = [self._vocabulary.get(f"<0x{byte:02X}>") for byte in piece.encode()] if self._byte_fallback else [None]
        known = [number for number in coded if number is not None]
        return known if len(known) == len(coded) else [self._unknown]


MODELS: dict[str, Any] = {"wordpiece": WordPiece, "wordlevel": WordLevel, "bpe": BPE, "unigram": Unigram}


def _numbered(vocabulary: Sequence[str | None]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(vocabulary) if piece is not None}


def _better(old: tuple[float, int, int] | None, new: tuple[float, int, int]) -> tuple[float, int, int]:
    return new if old is None or new[0] > old[0] else old


def _metaspace(text: str, split: dict[str, Any], *, first: bool) -> list[str]:
    """Spaces become a visible mark, which begins a word."""
    mark = split["mark"]
    text = text.replace(" ", mark)
    if not text.startswith(mark) and (split["prepend"] == "always" or (split["prepend"] == "first" and first)):
        text = mark + text
    if not split["split"]:
        return [text]
    head, *rest = text.split(mark)
    return [head, *(mark + word for word in rest)]


def _shares(lengths: list[int], room: int) -> list[int]:
    """How many tokens of each text stay, the longer one cut first: as the library tokenizers cuts them."""
    if len(lengths) == 1:
        return [min(lengths[0], room)]
    if sum(lengths) <= room:
        return lengths
    short, long = sorted(lengths)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return [short, long] if lengths[0] <= lengths[1] else [long, short]


def _byte_characters() -> list[str]:
    """GPT-2's printable character of each byte: itself where it is printable, else one from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
