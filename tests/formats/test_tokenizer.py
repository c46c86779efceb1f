from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from vocabularies import CORPUS, FAMILIES, MAKERS, OTHERS

from edgekit.errors import ModelError
from edgekit.formats.tokenizer import TokenizerFile, read_tokenizer, visit_named, write_tokenizer


def renumbered(found: TokenizerFile, gone: set[int]) -> dict[int, int]:
    """The new number of every token but some."""
    kept = [number for number in sorted(found.ids.values()) if number not in gone]
    return {number: place for place, number in enumerate(kept)}


def long_pieces(found: TokenizerFile, count: int = 20) -> set[int]:
    """Numbers of the longest pieces, which no other needs."""
    return {found.ids[piece] for piece in sorted(found.pieces, key=lambda piece: (-len(piece), piece))[:count]}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_read_is_what_tokenizers_has(tokenizers: Any, name: str) -> None:
    from tokenizers import Tokenizer

    found, loaded = read_tokenizer(tokenizers[name]), Tokenizer.from_file(str(tokenizers[name] / "tokenizer.json"))
    assert found.ids == loaded.get_vocab(with_added_tokens=True)
    assert found.kind == {"w": "WordPiece", "b": "BPE", "u": "Unigram"}["b" if name == "words" else name[0]]
    assert found.writes_bytes == (name == "unigram with bytes")
    assert found.spell(CORPUS) == {n for text in CORPUS for n in loaded.encode(text, add_special_tokens=False).ids}
    added = set(loaded.get_added_tokens_decoder())
    assert set(found.pieces.values()) == set(found.ids.values()) - added
    assert added <= found.named


@pytest.mark.parametrize("name", MAKERS)
def test_taking_nothing_out_changes_nothing(tokenizers: Any, name: str) -> None:
    found = read_tokenizer(tokenizers[name])
    assert found.with_tokens(renumbered(found, set())) == found


@pytest.mark.parametrize("name", MAKERS)
def test_tokens_that_are_taken_out_are_written_with_others(tokenizers: Any, name: str) -> None:
    from tokenizers import Tokenizer

    found = read_tokenizer(tokenizers[name])
    gone = long_pieces(found)
    new = renumbered(found, gone)
    cut = found.with_tokens(new)
    assert sorted(cut.ids.values()) == list(range(len(found.ids) - 20))
    assert {token: new[number] for token, number in found.ids.items() if number not in gone} == cut.ids
    before, after = (Tokenizer.from_str(json.dumps(one.state)) for one in (found, cut))
    changed = 0
    for text in OTHERS:
        one, other = before.encode(text), after.encode(text)
        assert before.decode(one.ids) == after.decode(other.ids)
        if gone & set(one.ids):
            changed += 1
            assert len(other.ids) > len(one.ids)
        else:
            assert [new[number] for number in one.ids] == other.ids
    assert changed > 5


def test_every_place_that_names_a_number_follows(tokenizers: Any) -> None:
    found = read_tokenizer(tokenizers["wordpiece"])
    assert [found.ids[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")] == [0, 21, 22, 23]
    cut = found.with_tokens(renumbered(found, set(range(1, 11)))).state
    added = [(token["content"], token["id"]) for token in cut["added_tokens"]]
    assert added == [("[PAD]", 0), ("[UNK]", 11), ("[CLS]", 12), ("[SEP]", 13), ("[MASK]", 14)]
    template = {name: token["ids"] for name, token in cut["post_processor"]["special_tokens"].items()}
    assert template == {"[CLS]": [12], "[SEP]": [13]}
    assert cut["padding"]["pad_id"] == 0


def test_post_processors_in_a_sequence_follow() -> None:
    from tokenizers import Tokenizer, models, processors

    vocabulary = {token: number for number, token in enumerate(["x", "##x", "xx", "[UNK]", "<s>", "</s>"])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    bert = processors.BertProcessing(("</s>", 5), ("<s>", 4))
    made.post_processor = processors.Sequence([processors.ByteLevel(), bert])
    made.add_special_tokens(["[UNK]", "<s>", "</s>"])
    found = TokenizerFile(json.loads(made.to_str()), made.get_vocab())
    assert found.named == {3, 4, 5}
    cut = found.with_tokens({0: 0, 1: 1, 3: 2, 4: 3, 5: 4})
    _, inner = cut.state["post_processor"]["processors"]
    assert (inner["sep"], inner["cls"]) == (["</s>", 4], ["<s>", 3])
    assert Tokenizer.from_str(json.dumps(cut.state)).encode("xx").tokens == ["<s>", "x", "##x", "</s>"]


@pytest.mark.parametrize("name", FAMILIES)
def test_written_files_agree_with_each_other(tokenizers: Any, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(tokenizers[name], source)
    found = read_tokenizer(source)
    last = max(found.named)
    added = {"added_tokens_decoder": {str(last): {"content": "x"}, "0": {"content": "y"}}, "eos_token_id": last}
    config = source / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | added))
    (source / "added_tokens.json").write_text(json.dumps({"x": last}))
    (source / "spiece.model").write_bytes(b"SentencePiece's")
    new = renumbered(found, long_pieces(found))
    folder = tmp_path / "cut"
    folder.mkdir()
    assert write_tokenizer(source, folder, found, new) == ("spiece.model",)
    cut = read_tokenizer(folder)
    assert cut == found.with_tokens(new)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["added_tokens_decoder"] == {str(new[last]): {"content": "x"}, "0": {"content": "y"}}
    assert settings["eos_token_id"] == new[last]
    assert settings["tokenizer_class"] == FAMILIES[name][0]
    assert json.loads((folder / "added_tokens.json").read_text()) == {"x": new[last]}
    if name == "wordpiece":
        lines = (folder / "vocab.txt").read_text().splitlines()
        assert {token: number for number, token in enumerate(lines)} == cut.ids
    if name == "bytes":
        assert json.loads((folder / "vocab.json").read_text()) == cut.model["vocab"]
        assert (folder / "merges.txt").read_text().startswith("#version")
        merges = [line.split(" ") for line in (folder / "merges.txt").read_text().splitlines()[1:]]
        assert merges == cut.model["merges"]


def test_named_numbers_of_a_configuration_follow() -> None:
    values: dict[str, Any] = {"pad_token_id": 4, "eos_token_id": [2, 4], "bos_token_id": None, "layers": 4}
    visit_named(values, {4: 1, 2: 0}.__getitem__)
    assert values == {"pad_token_id": 1, "eos_token_id": [0, 1], "bos_token_id": None, "layers": 4}


def test_gaps_that_tokenizers_does_not_keep_are_an_error(tokenizers: Any) -> None:
    found = read_tokenizer(tokenizers["bytes"])
    new = {number: number for number in found.ids.values()} | {found.ids["<mask>"]: 900}
    with pytest.raises(ModelError, match="cannot be numbered anew without gaps") as caught:
        found.with_tokens(new)
    assert caught.value.id == "model.unsuitable-tokenizer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the model folder has no tokenizer.json"),
        ("{}", "tokenizer.json cannot be read"),
        ("words", "the tokenizer is of the kind WordLevel\ntokens can be taken out of WordPiece, BPE, Unigram"),
    ],
)
def test_a_tokenizer_that_cannot_be_cut_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text == "words":
        from tiny import tokenizer

        tokenizer().save_pretrained(tmp_path)
    elif text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        read_tokenizer(tmp_path)
    assert str(caught.value).startswith(message)
    assert caught.value.id == "model.unsuitable-tokenizer"
