from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle.made_tokenizers import MADE
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers

from edgekit.bundle import probes
from edgekit.bundle.normalizer import compile_normalizer
from edgekit.bundle.reference.normalizer import Normalizer
from edgekit.bundle.reference.tokenizer import Tokenizer
from edgekit.bundle.tokenizer import compile_tokenizer, write_program
from edgekit.bundle.unicode import class_ranges
from edgekit.errors import ModelError


@pytest.mark.parametrize("name", MADE)
def test_a_program_gives_the_librarys_ids(name: str, tmp_path: Path) -> None:
    library = MADE[name]()
    write_program(compile_tokenizer(library, 64, 0), tmp_path / "compiled.json")
    compiled = Tokenizer.load(tmp_path / "compiled.json")
    library.enable_truncation(64)
    for text, pair in [(text, None) for text in probes.texts(200)[120:]]:
        expected = library.encode(text)
        assert compiled.encode(text, pair) == (expected.ids, expected.type_ids), text


@pytest.mark.parametrize("lengths", [(3, 3), (30, 3), (3, 30), (30, 30), (0, 30), (7, 8)])
def test_pairs_are_cut_as_the_library_cuts_them(lengths: tuple[int, int]) -> None:
    library = MADE["wordpiece"]()
    compiled = Tokenizer(compile_tokenizer(library, 16, 0))
    library.enable_truncation(16)
    one, other = (" ".join(["film"] * length) for length in lengths)
    expected = library.encode(one, other)
    assert compiled.encode(one, other) == (expected.ids, expected.type_ids)
    assert len(expected.ids) <= 16


@pytest.mark.parametrize("kind", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "BertNormalizer"])
def test_normalizers_are_tables_of_the_library(kind: str) -> None:
    library = getattr(normalizers, kind)()
    described = json.loads(_with(library).to_str())["normalizer"]
    compiled = Normalizer(compile_normalizer(described))
    for text in probes.texts(150):
        assert compiled(text) == library.normalize_str(text)


def _with(normalizer: object) -> Library:
    made = Library(models.WordLevel({"a": 0}, unk_token="a"))
    made.normalizer = normalizer
    return made


def test_sets_of_characters_are_the_librarys() -> None:
    space = class_ranges("space")
    assert space[:3] == [[9, 13], [32, 32], [133, 133]]
    assert [0x3000, 0x3000] in space
    assert class_ranges("letter")[0] == [65, 90]
    assert class_ranges("punctuation")[0] == [33, 47]
    assert [0x4E00, 0x9FFF] in [[max(first, 0x4E00), min(last, 0x9FFF)] for first, last in class_ranges("word")]


def test_a_part_without_a_program_is_refused() -> None:
    library = MADE["wordpiece"]()
    library.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("-")
    with pytest.raises(ModelError, match="pre-tokenizer 'CharDelimiterSplit'") as caught:
        compile_tokenizer(library, 64, 0)
    assert caught.value.id == "model.not-bundled"


def test_a_normalizer_without_a_program_is_refused() -> None:
    library = MADE["wordpiece"]()
    from tokenizers import Regex

    library.normalizer = normalizers.Replace(Regex("a+"), "b")
    with pytest.raises(ModelError, match="normalizer 'Replace'"):
        compile_tokenizer(library, 64, 0)


def test_a_program_that_gives_other_ids_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.bundle.tokenizer.class_ranges", lambda name: [[32, 32]])
    with pytest.raises(ModelError, match="gives other ids than the library tokenizers"):
        compile_tokenizer(MADE["wordpiece"](), 64, 0)


def test_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this reads 'edgekit\.tokenizer/1'"):
        Tokenizer({"schema": "edgekit.tokenizer/2"})


def test_a_tokenizer_is_afterwards_as_it_was() -> None:
    library = MADE["wordpiece"]()
    library.enable_truncation(12, stride=2)
    library.enable_padding(length=20, pad_token="[PAD]")
    before = library.to_str()
    compile_tokenizer(library, 64, 0)
    assert library.to_str() == before


def test_neighbours_of_a_character_that_is_not_known_merge_where_there_is_no_unknown_token() -> None:
    library = MADE["bpe without unknown"]()
    assert library.encode("axbxc").ids == [4]
    assert Tokenizer(compile_tokenizer(library, 64, 0)).encode("axbxc") == ([4], [0])


def test_of_equal_ways_the_librarys_is_taken() -> None:
    library = MADE["tied unigram"]()
    copy = Library.from_str(library.to_str())
    assert copy.encode("a" * 101).ids != library.encode("a" * 101).ids  # what the comparison with a copy would find
    assert Tokenizer(compile_tokenizer(library, 512, 0)).encode("a" * 101)[0] == library.encode("a" * 101).ids


def test_of_the_words_of_a_long_text_only_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.bundle.reference.tokenizer.MOST_WORDS", 5)
    library = MADE["wordpiece"]()
    compiled = Tokenizer(compile_tokenizer(library, 512, 0))
    text = "one two three four five six seven eight nine ten"
    assert compiled.encode(text)[0] == library.encode(text).ids
    assert 0 < len(compiled._words) <= 5
