"""Which tokens a tokenizer needs so that every text it could write before can be written with fewer of them.

Each kind of tokenizer falls back to single characters in the end. Two things are then shown of what is kept here. A
text that was written without the unknown token still is: every character of every token is a token by itself, or is
written as bytes. And a text all of whose tokens stay is written as before:

- **WordPiece** takes the longest token that fits. The one it took before is still there, and nothing longer is new.
- **BPE** merges the pair of the lowest rank first. All pairs of a token's own merges stay, with their order, and none
  is new, so that the same one is the lowest at each step.
- **Unigram** takes the path of the highest score. It is still there, and no path is new. What an unknown character
  scores follows from the lowest score in the vocabulary, so that a token of this score stays.

Sources: the models of Hugging Face's tokenizers 0.23; Schuster and Nakajima 2012 (WordPiece), Sennrich et al. 2016
(BPE), Kudo 2018 (Unigram).
"""

from __future__ import annotations

from collections import defaultdict

from edgekit.errors import ModelError
from edgekit.formats.tokenizer import BYTE, TokenizerFile


def fallback_tokens(found: TokenizerFile) -> set[int]:
    """Numbers of the tokens that have to stay whatever a corpus uses.

    Raises:
        ModelError: some character is part of tokens and none itself, so that a text could become impossible.
    """
    tokens = {"WordPiece": _wordpiece, "BPE": _bpe, "Unigram": _unigram}[found.kind](found)
    return {number for token, number in found.ids.items() if token in tokens or token == found.unknown}


def with_parts(found: TokenizerFile, kept: set[int]) -> set[int]:
    """The same tokens and, of BPE, all that each is merged from: without these it could not be made."""
    if found.kind != "BPE":
        return kept
    parts: defaultdict[int, list[int]] = defaultdict(list)
    for one, other in found.model["merges"]:
        parts[found.ids[found.product(one, other)]] += [found.ids[one], found.ids[other]]
    closed, waiting = set(kept), list(kept)
    while waiting:
        fresh = set(parts[waiting.pop()]) - closed
        closed |= fresh
        waiting += fresh
    return closed


def _wordpiece(found: TokenizerFile) -> set[str]:
    """Every character that begins a word, and with the prefix every one that goes on with it."""
    prefix, singles, needed = str(found.model["continuing_subword_prefix"]), set[str](), set[str]()
    for token in found.pieces.keys() - {found.unknown}:
        inside = token.removeprefix(prefix) if len(token) > len(prefix) else token
        first, rest = ("", inside) if inside != token else (token[:1], token[1:])
        spelled = {first, *(prefix + character for character in rest)} - {""}
        needed |= spelled
        if spelled == {token}:
            singles.add(token)
    _refuse(needed - found.ids.keys(), found)
    return singles


def _bpe(found: TokenizerFile) -> set[str]:
    """What is not merged from others: the alphabet, which for a byte-level one is every byte."""
    merged = {found.product(one, other) for one, other in found.model["merges"]}
    return {token for token in found.pieces if token not in merged or len(token) == 1 or BYTE.fullmatch(token)}


def _unigram(found: TokenizerFile) -> set[str]:
    """Single characters, one token of the lowest score, and bytes where unknown characters are written so."""
    lowest, _ = min(found.model["vocab"], key=lambda piece: float(piece[1]))
    kept = {token for token in found.pieces if len(token) == 1} | {str(lowest)}
    if found.writes_bytes:
        return kept | {token for token in found.pieces if BYTE.fullmatch(token)}
    needed = {character for token in found.pieces.keys() - {found.unknown} for character in token}
    _refuse(needed - found.ids.keys(), found)
    return kept


def _refuse(missing: set[str], found: TokenizerFile) -> None:
    if missing:
        raise ModelError(
            f"the {found.kind} tokenizer has characters that are part of tokens and none themselves",
            id="model.unsuitable-tokenizer",
            why=f"without the tokens that hold them, no text could be written with {', '.join(sorted(missing)[:5])}",
        )
