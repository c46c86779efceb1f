"""A tokenizer's files: which token has which number, and how they are written again with fewer tokens.

``tokenizer.json`` is what is read and what decides; other files beside it that name numbers follow it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgekit.artifact import write_text
from edgekit.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
KINDS = ("WordPiece", "BPE", "Unigram")
# SentencePiece's own files: they repeat what tokenizer.json says, and nothing here writes them.
SENTENCEPIECE = ".model"
# How a configuration's keys end that hold the number of a token.
NAMES_TOKEN = "_token_id"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
Renumber = Callable[[int], int]


@dataclass(frozen=True)
class TokenizerFile:
    """``tokenizer.json`` as the library ``tokenizers`` understands it.

    Attributes:
        state: its content.
        ids: every token's number, added tokens included.
    """

    state: dict[str, Any]
    ids: dict[str, int]

    @property
    def kind(self) -> str:
        """``WordPiece``, ``BPE`` or ``Unigram``."""
        return str(self.model["type"])

    @property
    def model(self) -> dict[str, Any]:
        """The vocabulary and what goes with it."""
        return cast("dict[str, Any]", self.state["model"])

    @cached_property
    def pieces(self) -> dict[str, int]:
        """The tokens that the model itself makes of a text: all but those that were added to it."""
        added = {str(token["content"]) for token in self.state["added_tokens"]}
        return {token: number for token, number in self.ids.items() if token not in added}

    @cached_property
    def named(self) -> frozenset[int]:
        """Numbers that something in the file names: added tokens, the post-processor, padding."""
        return frozenset(visited(_visit, self.state))

    @property
    def unknown(self) -> str | None:
        """The token of what cannot be written with others."""
        if self.kind == "Unigram":
            number = self.model["unk_id"]
            return None if number is None else str(self.model["vocab"][number][0])
        return cast("str | None", self.model["unk_token"])

    @property
    def writes_bytes(self) -> bool:
        """Whether a character without a token of its own is written as its bytes."""
        return bool(self.model.get("byte_fallback")) and sum(bool(BYTE.fullmatch(token)) for token in self.ids) == 256

    def spell(self, texts: Iterable[str]) -> set[int]:
        """Numbers of the tokens of some texts, with nothing around them."""
        tokenizer = _load(json.dumps(self.state))
        tokenizer.no_truncation()
        return {number for text in texts for number in tokenizer.encode(text, add_special_tokens=False).ids}

    def product(self, one: str, other: str) -> str:
        """What a merge of BPE makes of two tokens."""
        prefix = self.model.get("continuing_subword_prefix") or ""
        return one + other[len(prefix) :]

    def with_tokens(self, new: Mapping[int, int]) -> TokenizerFile:
        """The same tokenizer with some of its tokens.

        Args:
            new: the new number of every token that stays, in the old order and without gaps.

        Raises:
            ModelError: ``tokenizers`` numbers them in another way.
        """
        state = copy.deepcopy(self.state)
        _visit(state, new.__getitem__)
        _cut_model(self, state["model"], new)
        written = json.dumps(state, ensure_ascii=False)
        ids = {token: new[number] for token, number in self.ids.items() if number in new}
        if _load(written).get_vocab(with_added_tokens=True) != ids:
            raise ModelError(
                "the tokenizer's tokens cannot be numbered anew without gaps",
                id="model.unsuitable-tokenizer",
                why="tokenizers gives the added tokens other numbers than tokenizer.json says",
            )
        return TokenizerFile(state, ids)


def read_tokenizer(folder: Path) -> TokenizerFile:
    """The tokenizer of a model folder.

    Raises:
        ModelError: there is no ``tokenizer.json``, it cannot be read, or its model writes no word in pieces.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        raise ModelError(
            f"the model folder has no {TOKENIZER}",
            id="model.unsuitable-tokenizer",
            why="tokens can be taken out of that file only",
            hint="Write it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    try:
        loaded = _load(file.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"{TOKENIZER} cannot be read", id="model.unsuitable-tokenizer", why=str(error)) from error
    found = TokenizerFile(json.loads(loaded.to_str()), loaded.get_vocab(with_added_tokens=True))
    if found.kind not in KINDS:
        raise ModelError(
            f"the tokenizer is of the kind {found.kind}",
            id="model.unsuitable-tokenizer",
            why=f"tokens can be taken out of {', '.join(KINDS)}: these write a word that they do not know in pieces",
        )
    return found


def write_tokenizer(source: Path, folder: Path, found: TokenizerFile, new: Mapping[int, int]) -> tuple[str, ...]:
    """Write a folder's tokenizer with fewer tokens into another folder, and every file beside it that names numbers.

    Args:
        source: the folder that ``found`` was read from.
        folder: where the files go.
        found: the tokenizer.
        new: the new number of every token that stays.

    Returns:
        Names of files of ``source`` that do not fit the new tokenizer and have no counterpart in ``folder``.
    """
    cut = found.with_tokens(new)
    write_text(folder / TOKENIZER, json.dumps(cut.state, ensure_ascii=False, separators=(",", ":")) + "\n")
    for name, change in _BESIDE.items():
        if (source / name).is_file():
            write_text(folder / name, change((source / name).read_text(encoding="utf-8"), cut, new))
    return tuple(sorted(path.name for path in source.glob(f"*{SENTENCEPIECE}")))


def visited(visit: Callable[[dict[str, Any], Renumber], None], values: dict[str, Any]) -> set[int]:
    """The numbers that a visit comes by, with nothing changed."""
    seen: set[int] = set()

    def note(number: int) -> int:
        seen.add(number)
        return number

    visit(values, note)
    return seen


def visit_named(values: dict[str, Any], change: Renumber) -> None:
    """Renumber in place what a configuration names under ``..._token_id``: a number, or a list of them."""
    for key, value in values.items():
        if key.endswith(NAMES_TOKEN) and isinstance(value, int):
            values[key] = change(value)
        elif key.endswith(NAMES_TOKEN) and isinstance(value, list):
            values[key] = [change(number) for number in value]


def _load(text: str) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(text)


def _visit(state: dict[str, Any], change: Renumber) -> None:
    """Renumber in place what ``tokenizer.json`` names outside its model."""
    for token in state["added_tokens"]:
        token["id"] = change(token["id"])
    if state["padding"] is not None:
        state["padding"]["pad_id"] = change(state["padding"]["pad_id"])
    _visit_processor(state["post_processor"] or {}, change)


def _visit_processor(processor: dict[str, Any], change: Renumber) -> None:
    """Those of a post-processor: BERT's and RoBERTa's ``[token, number]``, a template's lists, a sequence's parts."""
    for part in processor.get("processors", ()):
        _visit_processor(part, change)
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = change(processor[name][1])
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [change(number) for number in token["ids"]]


def _cut_model(found: TokenizerFile, model: dict[str, Any], new: Mapping[int, int]) -> None:
    """Take tokens out of a model's vocabulary in place, and the merges that make them."""
    if found.kind == "Unigram":
        model["vocab"] = [piece for number, piece in enumerate(model["vocab"]) if number in new]
        model["unk_id"] = None if model["unk_id"] is None else new[model["unk_id"]]
        return
    kept = sorted((new[number], token) for token, number in model["vocab"].items() if number in new)
    model["vocab"] = {token: number for number, token in kept}
    if found.kind == "BPE":
        model["merges"] = [pair for pair in model["merges"] if found.product(*pair) in model["vocab"]]


def _lines(text: str, cut: TokenizerFile, new: Mapping[int, int]) -> str:
    """``vocab.txt``: a token a line, by number."""
    del cut
    lines = text.removesuffix("\n").split("\n")
    return "".join(f"{line}\n" for number, line in enumerate(lines) if number in new)


def _merges(text: str, cut: TokenizerFile, new: Mapping[int, int]) -> str:
    """``merges.txt``: perhaps a line with the version, then two tokens a line."""
    del new
    version = [text.partition("\n")[0]] if text.startswith("#version") else []
    return "".join(f"{line}\n" for line in (*version, *(" ".join(pair) for pair in cut.model["merges"])))


def _table(text: str, cut: TokenizerFile, new: Mapping[int, int]) -> str:
    """``vocab.json`` and ``added_tokens.json``: token to number."""
    del cut
    kept = {token: new[number] for token, number in json.loads(text).items() if number in new}
    return json.dumps(kept, ensure_ascii=False) + "\n"


def _settings(text: str, cut: TokenizerFile, new: Mapping[int, int]) -> str:
    """``tokenizer_config.json``: added tokens by number, and what it names."""
    del cut
    values = json.loads(text)
    if "added_tokens_decoder" in values:
        added = values["added_tokens_decoder"].items()
        values["added_tokens_decoder"] = {str(new[int(number)]): token for number, token in added if int(number) in new}
    visit_named(values, lambda number: new.get(number, number))
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


_BESIDE: dict[str, Callable[[str, TokenizerFile, Mapping[int, int]], str]] = {
    "vocab.txt": _lines,
    "vocab.json": _table,
    "merges.txt": _merges,
    "added_tokens.json": _table,
    "tokenizer_config.json": _settings,
}
