from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vocabularies import CORPUS, MAKERS, OTHERS

from edgekit.errors import ModelError
from edgekit.formats.tokenizer import TokenizerFile, read_tokenizer
from edgekit.pruning.vocabulary.selection import fallback_tokens, with_parts


def smallest(found: TokenizerFile, used: set[int]) -> tuple[TokenizerFile, dict[int, int]]:
    """The tokenizer with some tokens and what it cannot do without, and the new numbers."""
    kept = with_parts(found, used | found.named | fallback_tokens(found))
    new = {number: place for place, number in enumerate(sorted(kept))}
    return found.with_tokens(new), new


def loaded(found: TokenizerFile) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(found.state))


@pytest.mark.parametrize("name", MAKERS)
def test_texts_whose_tokens_stay_are_written_as_before(tokenizers: Any, name: str) -> None:
    found = read_tokenizer(tokenizers[name])
    cut, new = smallest(found, found.spell(CORPUS))
    assert len(cut.ids) < 0.6 * len(found.ids)
    before, after = loaded(found), loaded(cut)
    for text in CORPUS:
        assert [new[number] for number in before.encode(text).ids] == after.encode(text).ids


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("name", MAKERS)
def test_no_text_becomes_impossible(tokenizers: Any, name: str, used: bool) -> None:
    found = read_tokenizer(tokenizers[name])
    cut, _ = smallest(found, found.spell(CORPUS) if used else set())
    before, after = loaded(found), loaded(cut)
    longer = 0
    for text in OTHERS:
        one, other = before.encode(text), after.encode(text)
        unknown = [
            coded.ids.count(all_.ids[str(all_.unknown)]) if all_.unknown else 0
            for coded, all_ in ((one, found), (other, cut))
        ]
        assert unknown[0] == unknown[1]
        assert before.decode(one.ids, skip_special_tokens=False) == after.decode(other.ids, skip_special_tokens=False)
        longer += len(other.ids) > len(one.ids)
    assert longer > 40


def test_a_byte_level_alphabet_writes_any_text(tokenizers: Any) -> None:
    cut, _ = smallest(read_tokenizer(tokenizers["bytes"]), set())
    assert sum(len(token) == 1 for token in cut.pieces) == 256
    for text in [*OTHERS, "".join(map(chr, range(0x250)))]:
        coded = loaded(cut).encode(text, add_special_tokens=False)
        assert loaded(cut).decode(coded.ids, skip_special_tokens=False) == text.replace(" <s>", "<s>")


def test_a_token_brings_all_that_it_is_merged_from() -> None:
    found = _bpe("ab", ["a b", "ab c", "abc d", "c d", "ab cd"], "cd abc abcd")
    ids = found.ids
    assert fallback_tokens(found) == {ids[token] for token in "abcd"}
    assert with_parts(found, {ids["cd"]}) == {ids["c"], ids["d"], ids["cd"]}
    assert with_parts(found, {ids["abcd"]}) == set(ids.values())  # which two merges make


def test_of_unigram_a_token_of_the_lowest_score_stays(tokenizers: Any) -> None:
    found = read_tokenizer(tokenizers["unigram"])
    lowest = min(score for _, score in found.model["vocab"])
    cut, _ = smallest(found, set())
    assert min(score for _, score in cut.model["vocab"]) == lowest
    assert len(cut.pieces) < 40


@pytest.mark.parametrize(
    ("vocabulary", "missing"),
    [
        ({"[UNK]": 0, "a": 1, "ab": 2}, "##b"),
        ({"[UNK]": 0, "##a": 1, "##b": 2, "##ab": 3, "ab": 4}, "a"),
        ({"[UNK]": 0, "a": 1, "##ab": 2}, "##a, ##b"),
    ],
)
def test_a_wordpiece_without_some_character_is_refused(vocabulary: dict[str, int], missing: str) -> None:
    from tokenizers import Tokenizer, models

    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="the WordPiece tokenizer has characters") as caught:
        fallback_tokens(TokenizerFile(json.loads(made.to_str()), made.get_vocab()))
    assert caught.value.id == "model.unsuitable-tokenizer"
    assert caught.value.why.endswith(f"with {missing}")


def test_a_unigram_without_some_character_is_refused_unless_it_writes_bytes() -> None:
    from tokenizers import Tokenizer, models

    pieces = [("<unk>", 0.0), ("a", -1.0), ("ab", -2.0)]
    made = Tokenizer(models.Unigram(pieces, 0))
    with pytest.raises(ModelError, match="the Unigram tokenizer has characters") as caught:
        fallback_tokens(TokenizerFile(json.loads(made.to_str()), made.get_vocab()))
    assert caught.value.why.endswith("with b")
    spelled = [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    made = Tokenizer(models.Unigram([*pieces, *spelled], 0, byte_fallback=True))
    assert len(fallback_tokens(TokenizerFile(json.loads(made.to_str()), made.get_vocab()))) == 258


@pytest.mark.asset("minilm-sst2")
def test_bert_has_every_character_of_its_tokens(asset: Path) -> None:
    found = read_tokenizer(asset)
    assert (len(found.ids), len(fallback_tokens(found))) == (30522, 2 * 997 + 1)


def _bpe(alphabet: str, merges: list[str], tokens: str) -> TokenizerFile:
    from tokenizers import Tokenizer, models

    names = [*"abcd", alphabet, *tokens.split()]
    pairs = [(merge.split()[0], merge.split()[1]) for merge in merges]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(names)}, pairs))
    return TokenizerFile(json.loads(made.to_str()), made.get_vocab())
