"""Pruning of the vocabulary: tokens that a corpus does not use go, and a text that needs one is written in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from edgekit.errors import ModelError
from edgekit.formats.tokenizer import TokenizerFile, read_tokenizer, write_tokenizer
from edgekit.formats.vocabulary import (
    VocabularyPlan,
    cut_vocabulary,
    named_rows,
    save_vocabulary,
    vocabulary_size,
    write_config,
)
from edgekit.pruning.vocabulary.selection import fallback_tokens, with_parts
from edgekit.tasks.base import MASK, Examples, ordered_batches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

IDS = "input_ids"
COUNTED_AT_ONCE = 256


def count_tokens(examples: Examples, size: int) -> npt.NDArray[np.int64]:
    """How often each token of a vocabulary is used in samples of texts, [size]; one batch is held at a time."""
    import numpy as np

    counts = np.zeros(size, np.int64)
    for indices in ordered_batches(examples, COUNTED_AT_ONCE):
        batch = examples.batch(indices)
        ids = batch[IDS]
        counts += np.bincount(ids[batch[MASK] == 1] if MASK in batch else ids.ravel(), minlength=size)
    return counts


def choose_tokens(
    found: TokenizerFile, counts: npt.NDArray[np.int64], *, min_count: int, keep: Sequence[str] = ()
) -> set[int]:
    """Numbers of the tokens that stay.

    Args:
        found: the tokenizer.
        counts: how often each token is used, [size].
        min_count: as often a token has to be used to stay.
        keep: words whose tokens stay in any case.

    Returns:
        Tokens that are used often enough, those of ``keep`` at the beginning of a text and within one, what the
        tokenizer names, what a fallback needs, and all that these are merged from.
    """
    used = {int(number) for number in (counts >= min_count).nonzero()[0]} & set(found.ids.values())
    spelled = found.spell([form for word in keep for form in (word, f" {word}")])
    return with_parts(found, used | spelled | found.named | fallback_tokens(found))


def prune_vocabulary(
    model: nn.Module,
    found: TokenizerFile,
    counts: npt.NDArray[np.int64],
    *,
    min_count: int = 1,
    keep: Sequence[str] = (),
) -> tuple[VocabularyPlan, dict[str, JsonValue]]:
    """Cut ``model`` in place.

    Returns:
        The plan, and figures for the report.

    Raises:
        ModelError: the tokenizer has tokens without a row in the model's embedding.
    """
    size, highest = vocabulary_size(model), max(*found.ids.values(), *found.named)
    if highest >= size:
        raise ModelError(
            f"the tokenizer numbers its tokens up to {highest}",
            id="model.unsuitable-tokenizer",
            why=f"the model's embedding has {size} rows",
        )
    kept = choose_tokens(found, counts, min_count=min_count, keep=keep) | named_rows(model)
    plan = VocabularyPlan(size=size, kept=tuple(sorted(kept)))
    cut_vocabulary(model, plan)
    details: dict[str, JsonValue] = {
        "tokenizer": found.kind,
        "tokens_before": size,
        "tokens_after": len(kept),
        "used": int((counts >= min_count).sum()),
        "for_fallback": len(fallback_tokens(found)),
    }
    return plan, details


def write_vocabulary(
    model: nn.Module, source: Path, folder: Path, found: TokenizerFile, plan: VocabularyPlan
) -> tuple[str, ...]:
    """Write tokenizer and configurations of a cut model; names of files of ``source`` that do not fit it any more."""
    write_config(model, source, folder, plan)
    save_vocabulary(plan, folder)
    return write_tokenizer(source, folder, found, plan.new)


def check_tokenizer(folder: Path) -> None:
    """Refuse a folder whose tokenizer cannot be cut, before any work.

    Raises:
        ModelError: says why.
    """
    fallback_tokens(read_tokenizer(folder))
