"""Small tokenizers of each kind, trained on made words, and the folders of models that read with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

SYLLABLES = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "an", "er", "ou")]
PUNCTUATION = ",.!?-'"
UNSEEN = ["ünïcode ☃ 漢字", "a\tb", "😀😀!", "<s> [CLS] <0x41>", " two  spaces ", "zzz qqq 123"]


def texts(count: int, *, seed: int, words: int = 400) -> list[str]:
    """Sentences of words of one to four syllables, some much more frequent than others."""
    random = np.random.default_rng([seed, words])
    known = ["".join(random.choice(SYLLABLES, random.integers(1, 5))) for _ in range(words)]
    return [
        " ".join(known[int(words * random.random() ** 3)] + random.choice(["", "", "", *PUNCTUATION]) for _ in range(8))
        for _ in range(count)
    ]


LEARNED = texts(400, seed=0)  # what the tokenizers were trained on
CORPUS = texts(40, seed=1, words=40)  # of which some tokens are used
OTHERS = [*texts(40, seed=2), *LEARNED[:40], *UNSEEN]


def wordpiece() -> Any:
    """As BERT has it: tokens that hardly anything uses stand between the padding and the other special tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=True)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(
        LEARNED, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    )
    pieces = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)[len(special) :]
    order = [special[0], *pieces[-20:], *special[1:], *pieces[:-20]]
    found = Tokenizer(models.WordPiece({token: number for number, token in enumerate(order)}, unk_token="[UNK]"))
    found.add_special_tokens(special)
    found.normalizer, found.pre_tokenizer = trained.normalizer, trained.pre_tokenizer
    found.decoder = decoders.WordPiece()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, order.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    found.enable_padding(pad_id=0, pad_token="[PAD]")
    return found


def bytes_bpe() -> Any:
    """As RoBERTa has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator(LEARNED, trainer)
    found.add_special_tokens([AddedToken("<mask>", lstrip=True)])  # behind the model's own tokens
    found.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return found


def words_bpe() -> Any:
    """Of characters, with a mark at a word's end, as the first GPT has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<pad>", "<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    found.train_from_iterator(LEARNED, trainer)
    return found


def unigram(*, byte_fallback: bool = False) -> Any:
    """As XLM-RoBERTa has it; with ``byte_fallback`` as newer models have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    found = Tokenizer(models.Unigram())
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    found.train_from_iterator(LEARNED, trainer)
    found.decoder = decoders.Metaspace()
    if byte_fallback:
        pieces = [tuple(piece) for piece in json.loads(found.to_str())["model"]["vocab"]]
        pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
        found.model = models.Unigram(pieces, unk_id=3, byte_fallback=True)
        found.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return found


MAKERS: dict[str, Any] = {
    "wordpiece": wordpiece,
    "bytes": bytes_bpe,
    "words": words_bpe,
    "unigram": unigram,
    "unigram with bytes": lambda: unigram(byte_fallback=True),
}


# Of each kind the class of transformers that reads it, the special tokens, and the model that goes with it.
FAMILIES: dict[str, tuple[str, dict[str, str], str]] = {
    "wordpiece": (
        "BertTokenizer",
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "bert",
    ),
    "bytes": (
        "RobertaTokenizer",
        {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"},
        "roberta",
    ),
    "unigram": (
        "XLMRobertaTokenizer",
        {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"},
        "roberta",
    ),
}


class Tokenizers:
    """A folder with the tokenizer of a name, trained once; those of ``FAMILIES`` as transformers saves them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, name: str) -> Path:
        folder = self.root / name.replace(" ", "-")
        if not folder.is_dir():
            folder.mkdir()
            found = MAKERS[name]()
            if name in FAMILIES:
                _save(found, name, folder)
            else:
                found.save(str(folder / "tokenizer.json"))
        return folder

    def model(self, name: str, folder: Path, **changes: Any) -> Path:
        """A folder with a tiny classifier beside its tokenizer."""
        from tiny import build

        family, size = FAMILIES[name][2], len(MAKERS[name]().get_vocab())
        padding = 0 if family == "bert" else 1
        places = {"vocab_size": size, "pad_token_id": padding, "max_position_embeddings": 80}
        build(family, layers=1, **(places | changes)).save_pretrained(folder)
        for file in self[name].iterdir():
            shutil.copyfile(file, folder / file.name)
        return folder


def _save(found: Any, name: str, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    cls, special, family = FAMILIES[name]
    names = ["input_ids", "token_type_ids", "attention_mask"] if family == "bert" else ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=found, model_max_length=64, model_input_names=names, **special
    ).save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": cls}))
    if name != "unigram":  # SentencePiece's file is no text
        found.model.save(str(folder))
