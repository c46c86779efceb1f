from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from tiny import HIDDEN

from edgekit.formats.stream import cut_stream, stream_of
from edgekit.formats.surgery import whole_plan
from edgekit.pruning.encoders.narrowing import replay_narrower, sum_stream
from edgekit.tasks.base import Task

HALF = tuple(range(HIDDEN // 2))


def lost(task: Task, whole: Any, *, kept: tuple[int, ...]) -> tuple[float, float]:
    """How far answers to samples that were not seen are from the whole model's: just cut, and fitted."""
    *seen, batch = tiny.batches(task, 136)
    answers = tiny.logits(task, whole, batch)
    cut, fitted = cut_stream(copy.deepcopy(whole), kept), copy.deepcopy(whole)
    plan = whole_plan(fitted).model_copy(update={"hidden": kept})
    replay_narrower(fitted, plan, sum_stream(fitted, kept, task, seen))
    assert [values.shape for values in fitted.parameters()] == [values.shape for values in cut.parameters()]
    one, other = (float(np.abs(tiny.logits(task, model, batch) - answers).max()) for model in (cut, fitted))
    return one, other


@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_columns_that_stay_take_over_what_copies_of_them_told(family: str, tmp_path: Path, torch_alone: Any) -> None:
    whole = tiny.build(family)
    readers = [matrix for part in stream_of(whole).readers for matrix in part]
    weights = [matrix.weight.detach().clone() for matrix in readers]
    tiny.repeat_half(whole)
    for matrix, own in zip(readers, weights, strict=True):  # they are read, too
        matrix.weight.data = own
    task = tiny.task_for(tiny.save(whole, tmp_path / "model"))
    cut, fitted = lost(task, whole, kept=HALF)
    assert cut > 0.05
    assert fitted < 0.2 * cut


def test_norms_are_scaled_to_what_they_gave(tmp_path: Path, torch_alone: Any) -> None:
    """Columns that are always nothing go: the mean and the variance of what is left are others than of all."""
    whole = tiny.build("bert")
    stream = stream_of(whole)
    gone = len(HALF)
    for writer in stream.writers:
        writer.weight.data[gone:], writer.bias.data[gone:] = 0, 0  # type: ignore[union-attr]  # it has one
    for table in stream.tables:
        table.weight.data[:, gone:] = 0
    for norm in stream.norms:
        norm.weight.data[gone:], norm.bias.data[gone:] = 0, 0
    task = tiny.task_for(tiny.save(whole, tmp_path / "model"))
    cut, fitted = lost(task, whole, kept=HALF)
    assert cut > 0.05
    assert fitted < 0.5 * cut


def test_a_fit_to_all_columns_changes_nothing(tmp_path: Path, torch_alone: Any) -> None:
    whole = tiny.build("vit", qkv_bias=False)
    task = tiny.task_for(tiny.save(whole, tmp_path / "model"))
    _, fitted = lost(task, whole, kept=tuple(range(HIDDEN)))
    assert fitted < 1e-4
    assert [part[0].bias is None for part in stream_of(whole).readers[:2]] == [True, False]


def test_padding_is_not_summed_and_of_the_last_neurons_only_the_first_token(tmp_path: Path, torch_alone: Any) -> None:
    whole = tiny.build("bert")
    task = tiny.task_for(tiny.save(whole, tmp_path / "model"))
    (batch,) = tiny.batches(task, 8)
    sums = sum_stream(whole, HALF, task, [batch])
    real = float(batch["attention_mask"].sum())
    assert [float(products[-1, -1]) for products in sums.read] == [*[real] * 5, 8, 8]
    assert [norm[0].tolist() for norm in sums.norms] == [[real] * len(HALF)] * 7
