"""Small tokenizers of every family, trained on the sentences that bundles are checked with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edgekit.bundle import probes

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wordpiece() -> Tokenizer:
    """BERT's, uncased."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(probes.texts(200), trainers.WordPieceTrainer(vocab_size=3000, special_tokens=SPECIALS))
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def cased_wordpiece() -> Tokenizer:
    """BERT's, cased: accents and capitals stay."""
    made = wordpiece()
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    return made


def byte_bpe() -> Tokenizer:
    """RoBERTa's: bytes, no unknown, a mask that takes the space before it."""
    from tokenizers import AddedToken

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=ROBERTA[:4], initial_alphabet=alphabet)
    made.train_from_iterator(probes.texts(200), trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


def composed_bpe() -> Tokenizer:
    """Characters after normal form C, with marks for the middle of a word, unknown ones fused."""
    made = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True, continuing_subword_prefix="##"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIALS, continuing_subword_prefix="##", limit_alphabet=300
    )
    made.train_from_iterator(probes.texts(120), trainer)
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def unigram() -> Tokenizer:
    """T5's and XLM-R's, after normal form KC."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=ROBERTA, unk_token="<unk>")
    made.train_from_iterator(probes.texts(40), trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def tied_unigram() -> Tokenizer:
    """One whose ways through a run of one letter are equal but for the last bits of their sums.

    A copy of it through JSON finds another way: the library reads -1.6487858571160139 as -1.648785857116014.
    """
    scores = {"<unk>": 0.0, "a": -3.431112437400917, "aa": -4.624730409075763, "aaa": -1.6487858571160139}
    return Tokenizer(models.Unigram(list(scores.items()), unk_id=0))


def bpe_without_unknown() -> Tokenizer:
    """Characters without an unknown token: one that is not known leaves nothing, and its neighbours are merged."""
    vocabulary = {one: number for number, one in enumerate(["a", "b", "c", "ab", "abc"])}
    return Tokenizer(models.BPE(vocabulary, [("a", "b"), ("ab", "c")]))


def sentencepiece() -> Tokenizer:
    """One that SentencePiece trained, with its own map of characters, as transformers converts it."""
    library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    with TemporaryDirectory() as scratch:
        text = Path(scratch) / "text.txt"
        text.write_text("\n".join(" ".join(one.split()) for one in probes.texts(40) if "\0" not in one), "utf-8")
        prefix = str(Path(scratch) / "model")
        library.SentencePieceTrainer.train(
            input=str(text), model_prefix=prefix, vocab_size=700, minloglevel=2, hard_vocab_limit=False, num_threads=1
        )
        processor = library.SentencePieceProcessor(f"{prefix}.model")
        content = Path(f"{prefix}.model").read_bytes()
    pieces = [(processor.id_to_piece(index), processor.get_score(index)) for index in range(len(processor))]
    made = Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id()))
    made.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(charsmap_of(content)),
            normalizers.Replace(__import__("tokenizers").Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", processor.eos_id())])
    return made


def charsmap_of(model: bytes) -> bytes:
    """The map of characters in a SentencePiece model: field 2 of field 3 of its protobuf (NormalizerSpec)."""
    return field(field(model, 3), 2)


def field(message: bytes, wanted: int) -> bytes:
    """The first bytes of a number in a protobuf message."""
    place = 0
    while place < len(message):
        tag, place = varint(message, place)
        kind, number = tag & 7, tag >> 3
        if kind == 2:
            length, place = varint(message, place)
            if number == wanted:
                return message[place : place + length]
            place += length
        elif kind == 0:
            _, place = varint(message, place)
        else:
            place += {1: 8, 5: 4}[kind]
    raise AssertionError(f"no field {wanted}")


def varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


MADE: dict[str, Callable[[], Any]] = {
    "wordpiece": wordpiece,
    "cased wordpiece": cased_wordpiece,
    "byte bpe": byte_bpe,
    "composed bpe": composed_bpe,
    "unigram": unigram,
    "tied unigram": tied_unigram,
    "bpe without unknown": bpe_without_unknown,
    "sentencepiece": sentencepiece,
}
