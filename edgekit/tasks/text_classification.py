"""Text classification: one sentence or a pair, by transformers' sequence classifiers and their own tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from edgekit.artifact import WHOLE
from edgekit.errors import ModelError, UsageError, retelling
from edgekit.tasks.base import Batch, ComponentSpec, Examples, Workload
from edgekit.tasks.classification import Classification

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# Position 0 and 1 of RoBERTa's table are never used by a token: its positions start behind the padding index.
OFFSET_POSITIONS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2}
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class TextClassification(Classification):
    """Sentences in, logits out."""

    name = "text-classification"
    columns = {
        "text": ("text", "sentence", "sentence1", "premise", "question1", "question", "content", "review"),
        "pair": ("sentence2", "hypothesis", "question2", "text_pair", "pair"),
        "label": ("label", "labels", "target", "class", "score"),
    }

    @staticmethod
    def auto_class() -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        if not any((self.folder / name).is_file() for name in TOKENIZER_FILES):
            # transformers would make one up that knows no word
            raise ModelError(
                "the model folder has no usable tokenizer",
                id="model.no-preprocessor",
                why=f"it holds none of {', '.join(TOKENIZER_FILES)}",
                hint="Save it beside the model: tokenizer.save_pretrained(FOLDER).",
            )
        with retelling(_no_tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise ModelError("the model's tokenizer has no fast version (tokenizer.json)", id="model.no-preprocessor")
        gives, longest = tokenizer.model_input_names, tokenizer.model_max_length
        if "input_ids" not in gives:
            raise _no_tokenizer(f"it gives {gives}, and no input_ids")
        if isinstance(longest, bool) or not isinstance(longest, (int, float)) or not longest >= 1:
            raise _no_tokenizer(f"its model_max_length is {longest!r}; allowed: a number from 1")
        return tokenizer

    @property
    def max_length(self) -> int:
        """Longest text in tokens: the user's, else what tokenizer and position table allow."""
        positions = self.config.max_position_embeddings - OFFSET_POSITIONS.get(self.config.model_type, 0)
        allowed = int(min(self.tokenizer.model_max_length, positions))
        if self.options.max_length is not None and self.options.max_length > allowed:
            raise UsageError(
                f"--max-length {self.options.max_length} is more than the model takes",
                id="usage.workload",
                why=f"allowed: 1 to {allowed}",
            )
        return self.options.max_length or allowed

    @property
    def input_names(self) -> tuple[str, ...]:
        """Inputs in the tokenizer's order: ids, mask, and segments where the model has them."""
        known = ("input_ids", "attention_mask", "token_type_ids")
        return tuple(dict.fromkeys(name for name in self.tokenizer.model_input_names if name in known))

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return {"kind": "tokenizer", "max_length": self.max_length}

    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        import torch

        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.config.vocab_size, (2, 16), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 10:] = 0
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        example = {name: values[name] for name in self.input_names}
        axes = {name: {0: "batch", 1: "sequence"} for name in example}
        return {
            WHOLE: ComponentSpec(
                _export_module(model), example, axes, ("logits",), limits={"sequence": self.max_length}
            )
        }

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Examples:
        pair = list(rows["pair"]) if "pair" in rows else None
        tokenizer, longest = self.tokenizer, self.max_length
        with retelling(_no_tokenizer):
            encoded = tokenizer(list(rows["text"]), pair, truncation=True, max_length=longest)
        return TextExamples(self, {name: encoded[name] for name in self.input_names}, rows.get("label"))

    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        import numpy as np

        if workload.image is not None:
            raise UsageError(
                f"--image {workload.image} was given", id="usage.workload", why=f"the task {self.name!r} reads texts"
            )
        if workload.tokens > self.max_length:
            raise UsageError(
                f"--tokens {workload.tokens} is more than the model takes",
                id="usage.workload",
                why=f"allowed: 1 to {self.max_length}",
            )
        shape = (workload.batch, workload.tokens)
        ids = np.random.default_rng(0).integers(0, self.config.vocab_size, shape, dtype=np.int64)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return {WHOLE: {name: values[name] for name in self.input_names}}

    def read_input(self, text: str) -> dict[str, Any]:
        first, tab, second = text.partition("\t")
        return {"text": first, "pair": second} if tab else {"text": text}


def _no_tokenizer(why: str) -> ModelError:
    return ModelError(
        "the model folder has no usable tokenizer",
        id="model.no-preprocessor",
        why=why,
        hint="Save it beside the model: tokenizer.save_pretrained(FOLDER).",
    )


@dataclass(frozen=True)
class TextExamples:
    """Tokenized texts: for each input a list of unpadded rows."""

    task: TextClassification
    rows: Mapping[str, Sequence[Sequence[int]]]
    labels: Sequence[Any] | None

    def __len__(self) -> int:
        return len(self.rows["input_ids"])

    def length(self, index: int) -> int:
        return len(self.rows["input_ids"][index])

    def batch(self, indices: Sequence[int]) -> Batch:
        """Rows padded to the longest of them, int64 [batch, tokens]."""
        import numpy as np

        widest = max(self.length(index) for index in indices)
        fill = {"input_ids": self.task.tokenizer.pad_token_id or 0}
        batch: Batch = {}
        for name, rows in self.rows.items():
            padded = np.full((len(indices), widest), fill.get(name, 0), dtype=np.int64)
            for position, index in enumerate(indices):
                padded[position, : len(rows[index])] = rows[index]
            batch[name] = padded
        labels = None if self.labels is None else [self.labels[index] for index in indices]
        return batch | self.task.label_array(labels)


def _export_module(model: torch.nn.Module) -> torch.nn.Module:
    """The classifier with its mask spelled out, so that the graph holds one broadcast and no index arithmetic.

    The models of transformers 4 make that broadcast themselves, and take no mask but [batch, tokens].
    """
    import torch

    spelled_out = not hasattr(model, "get_extended_attention_mask")  # a method of transformers 4

    class SequenceClassifier(torch.nn.Module):
        def __init__(self, classifier: torch.nn.Module) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> torch.Tensor:
            mask = attention_mask
            if spelled_out:
                mask = attention_mask[:, None, None, :].bool().expand(-1, -1, input_ids.shape[1], -1)
            extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            logits: torch.Tensor = self.classifier(input_ids=input_ids, attention_mask=mask, **extra).logits
            return logits

    return SequenceClassifier(model).eval()
