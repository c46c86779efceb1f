"""Compiles a tokenizer of the library tokenizers into the small program that every platform runs.

What depends on Unicode (which characters are letters, what lower case is, what an accent is) differs between languages
and their versions. So it is asked of the library itself, for every code point, and written as tables: the programs that
read them need no Unicode of their own. What cannot be compiled is an error, and the result is compared with the library
on texts of many scripts before it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bounds import MAX_WORDS
from edgekit.bundle import probes
from edgekit.bundle.normalizer import compile_normalizer
from edgekit.bundle.reference.tokenizer import SCHEMA, Tokenizer
from edgekit.bundle.unicode import class_ranges
from edgekit.errors import ModelError, retelling

if TYPE_CHECKING:
    import tokenizers

Program = dict[str, Any]
UNCUT = 1 << 30


def compile_tokenizer(library: tokenizers.Tokenizer, max_length: int, pad: int) -> Program:
    """The program of a tokenizer.

    Args:
        library: as transformers hands it out: ``tokenizer.backend_tokenizer``.
        max_length: longest sequence, special tokens included.
        pad: the id that fills up.

    Raises:
        ModelError: a part of it is of a kind that has no program, or the program gives other ids.
    """
    largest = max(library.get_vocab().values(), default=0)
    if largest >= MAX_WORDS:  # the library would count up to it
        raise unsupported("number of a token", largest)
    described = json.loads(library.to_str())
    program: Program = {
        "schema": SCHEMA,
        "max_length": max_length,
        "pad": pad,
        "added": [_added(entry) for entry in described["added_tokens"]],
        "normalize": compile_normalizer(described["normalizer"]),
        "split": [split for part in _parts(described["pre_tokenizer"], "pretokenizers") for split in _split(part)],
        "model": _model(described["model"]),
        "frame": _frame(described["post_processor"], library),
    }
    for entry in program["added"]:
        if entry["normalized"] and library.normalizer is not None:
            entry["content"] = library.normalizer.normalize_str(entry["content"])
    program["classes"] = {name: class_ranges(name) for name in sorted(_classes(program))}
    _check(library, program)
    return program


@contextmanager
def plain(library: tokenizers.Tokenizer, max_length: int | None) -> Iterator[tokenizers.Tokenizer]:
    """A tokenizer that fills nothing up and cuts at a length, or not at all; afterwards it is as it was.

    It is the tokenizer itself and no copy. A copy goes through JSON, whose numbers the library reads with errors in the
    last bit (serde_json without ``float_roundtrip``), and that bit decides between pieces of equal score in Unigram.
    """
    truncation, padding = library.truncation, library.padding
    library.no_padding()
    library.no_truncation()
    if max_length is not None:
        library.enable_truncation(max_length)
    try:
        yield library
    finally:
        library.no_truncation()
        if truncation is not None:
            library.enable_truncation(**truncation)
        if padding is not None:
            library.enable_padding(**padding)


def write_program(program: Program, file: Path) -> None:
    """Write a program, the same bytes for the same program."""
    file.write_text(json.dumps(program, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def unsupported(what: str, kind: object) -> ModelError:
    """The error for a part of a tokenizer that has no program."""
    return ModelError(
        f"the tokenizer's {what} {kind!r} cannot be put into a bundle",
        id="model.not-bundled",
        why="bundles carry WordPiece, word-level, BPE and Unigram tokenizers with the parts that these usually have",
    )


def _parts(described: dict[str, Any] | None, plural: str) -> list[dict[str, Any]]:
    if described is None:
        return []
    if described["type"] == "Sequence":
        return [part for inner in described[plural] for part in _parts(inner, plural)]
    return [described]


def _added(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("content", "id", "normalized", "single_word", "lstrip", "rstrip")}


def _split(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of one pre-tokenizer."""
    kind = part["type"]
    if kind == "BertPreTokenizer":
        return [{"op": "space"}, {"op": "isolate", "class": "punctuation"}]
    if kind == "WhitespaceSplit":
        return [{"op": "space"}]
    if kind == "Whitespace":
        return [{"op": "runs"}]
    if kind == "Punctuation" and part.get("behavior", "Isolated") == "Isolated":
        return [{"op": "isolate", "class": "punctuation"}]
    if kind == "Digits" and part["individual_digits"]:
        return [{"op": "isolate", "class": "numeric"}]
    if kind == "ByteLevel":
        return [{"op": "gpt2", "prefix_space": part["add_prefix_space"], "pattern": part.get("use_regex", True)}]
    if kind == "Metaspace":
        return [
            {"op": "metaspace", "mark": part["replacement"], "prepend": part["prepend_scheme"], "split": part["split"]}
        ]
    raise unsupported("pre-tokenizer", kind)


def _classes(program: Program) -> set[str]:
    """Names of the sets of characters that a program asks for."""
    used = set()
    for split in program["split"]:
        used |= {
            "space": {"space"},
            "runs": {"space", "word"},
            "isolate": {split.get("class")},
            "gpt2": {"space", "letter", "number"},
            "metaspace": set(),
        }[split["op"]]
    for entry in program["added"]:
        used |= {"word"} if entry["single_word"] else set()
        used |= {"space"} if entry["lstrip"] or entry["rstrip"] else set()
    return used


def _model(model: dict[str, Any]) -> dict[str, Any]:
    kind = model["type"]
    if kind == "WordPiece":
        vocabulary = _ordered(model["vocab"])
        return {
            "type": "wordpiece",
            "vocab": vocabulary,
            "unknown": _unknown(model),
            "prefix": model["continuing_subword_prefix"],
            "longest_word": model["max_input_chars_per_word"],
        }
    if kind == "WordLevel":
        return {"type": "wordlevel", "vocab": _ordered(model["vocab"]), "unknown": _unknown(model)}
    if kind == "BPE":
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        return {
            "type": "bpe",
            "vocab": _ordered(model["vocab"]),
            "merges": merges,
            "unknown": model["vocab"].get(model["unk_token"]),
            "fuse_unknown": model["fuse_unk"],
            "byte_fallback": model["byte_fallback"],
            "prefix": model["continuing_subword_prefix"] or "",
            "suffix": model["end_of_word_suffix"] or "",
            "ignore_merges": model["ignore_merges"],
        }
    if kind == "Unigram" and model["unk_id"] is not None:
        return {
            "type": "unigram",
            "vocab": [piece for piece, _ in model["vocab"]],
            "scores": [score for _, score in model["vocab"]],
            "unknown": model["unk_id"],
            "byte_fallback": model["byte_fallback"],
        }
    raise unsupported("model", kind)


def _unknown(model: dict[str, Any]) -> int:
    """The number of what stands for a word that is not known.

    Raises:
        ModelError: it has none, without which the library reads no such word.
    """
    if model["unk_token"] not in model["vocab"]:
        raise unsupported("unknown token", model["unk_token"])
    return int(model["vocab"][model["unk_token"]])


def _ordered(vocabulary: dict[str, int]) -> list[str | None]:
    pieces: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for piece, number in vocabulary.items():
        pieces[number] = piece
    return pieces


def _frame(described: dict[str, Any] | None, library: tokenizers.Tokenizer) -> dict[str, list[dict[str, Any]]]:
    """What stands around one text and two: ids, or the number of a text, each with its segment."""
    frames = [_frame_of(part) for part in _parts(described, "processors") if part["type"] != "ByteLevel"]
    if len(frames) > 1:
        raise unsupported("post-processor", "Sequence")
    frame = frames[0] if frames else {"single": [_text(0, 0)], "pair": [_text(0, 0), _text(1, 1)]}
    for parts in frame.values():
        for part in parts:
            if "token" in part:
                part["ids"] = [library.token_to_id(part.pop("token"))]
    return frame


def _frame_of(part: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    if part["type"] == "TemplateProcessing":
        special = part["special_tokens"]
        return {side: [_piece(piece, special) for piece in part[side]] for side in ("single", "pair")}
    if part["type"] in ("BertProcessing", "RobertaProcessing"):
        begin, end = ({"ids": [part[name][1]], "segment": 0} for name in ("cls", "sep"))
        single = [begin, _text(0, 0), end]
        if part["type"] == "BertProcessing":
            return {"single": single, "pair": [*single, _text(1, 1), {**end, "segment": 1}]}
        return {"single": single, "pair": [*single, end, _text(1, 0), end]}
    raise unsupported("post-processor", part["type"])


def _piece(piece: dict[str, Any], special: dict[str, Any]) -> dict[str, Any]:
    if "Sequence" in piece:
        return _text("AB".index(piece["Sequence"]["id"]), piece["Sequence"]["type_id"])
    token = piece["SpecialToken"]
    return {"ids": special[token["id"]]["ids"], "segment": token["type_id"]}


def _text(number: int, segment: int) -> dict[str, Any]:
    return {"text": number, "segment": segment}


def _check(library: tokenizers.Tokenizer, program: Program) -> None:
    """Run the program beside the library on texts of many scripts.

    Raises:
        ModelError: it gives other ids, or the library gives none.
    """
    uncut, cut = Tokenizer({**program, "max_length": UNCUT}), Tokenizer(program)
    for text, pair in probes.text_pairs():
        compiled, most = (uncut, None) if pair is None else (cut, cut.max_length)
        with retelling(_reads_nothing), plain(library, most):
            expected = library.encode(text) if pair is None else library.encode(text, pair)
        if compiled.encode(text, pair) != (expected.ids, expected.type_ids):
            raise ModelError(
                "the tokenizer cannot be put into a bundle",
                id="model.not-bundled",
                why=f"its program gives other ids than the library tokenizers for {text[:40]!r}",
                hint="A part of the tokenizer works in an unknown way: report it with its tokenizer.json.",
            )


def _reads_nothing(why: str) -> ModelError:
    return ModelError("the tokenizer reads no text with the library tokenizers", id="model.not-bundled", why=why)
