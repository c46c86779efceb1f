"""Pruning of the hidden size: which columns of the stream stay, one choice for all layers.

A column is read at several places: by queries, keys and values of a layer, by its feed-forward block, by the head. Its
importance is that of its absence at all of them at once. One gate for the column, a factor of 1 on what is read of it
at every place, gives that to first order: its gradient is the sum over the places. (Xia et al. 2022, CoFi, section
3.1, learn such a mask, shared by all layers; here it is judged as heads and neurons are, see ``importance.py``.)

    taylor     mean over samples of |dL/dgate|
    fisher     mean over samples of (dL/dgate)^2
    magnitude  root mean square of what is read of a column, times the norm of the weights that read it, as a multiple
               of the place's mean (Sun et al. 2024, A Simple and Effective Pruning Approach for LLMs, eq. 1), summed
               over places. Without samples it is as weights.
    weights    the norm of the weights that read a column, times that of those that write it, each matrix as a multiple
               of its mean

What a norm computes changes with the columns: its mean and its variance are those of the columns that stay, so that
what is left answers otherwise even where little of importance went. Distillation makes good for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.formats.encoder import original_width, stream_width
from edgekit.formats.stream import Stream, stream_of
from edgekit.formats.torch import hooked
from edgekit.pruning import Importance
from edgekit.pruning.encoders.importance import check_importance, labelled, of_mean
from edgekit.tasks.base import LABELS, MASK, Array, Batch, Task

if TYPE_CHECKING:
    import torch
    from torch import nn


def columns_left(model: nn.Module, asked: float, multiple: int) -> int:
    """How many columns of the stream stay: a multiple, and never more than there are.

    Args:
        model: the encoder as it is.
        asked: a number of columns, or below 1 (and 1.0) a share of those that the original has.
        multiple: that the target's kernels like.

    Raises:
        UsageError: the original has fewer.
    """
    original, now = original_width(model), stream_width(model)
    wanted = asked if isinstance(asked, int) else asked * original
    if wanted > original:
        raise UsageError(
            f"prune.hidden={asked} was given, and the model has a hidden size of {original}",
            id="usage.settings-conflict",
            why=f"allowed: up to {original} columns, rounded to a multiple of {multiple}, or a share from 0 to 1.0",
        )
    return min(now, max(multiple, round(wanted / multiple) * multiple))


def most_important_columns(scores: Array, count: int) -> tuple[int, ...]:
    """The ``count`` columns that matter most, ascending."""
    import numpy as np

    return tuple(sorted(np.argsort(-scores, kind="stable")[:count].tolist()))


def score_columns(model: nn.Module, kind: Importance, task: Task, batches: Iterable[Batch]) -> Array:
    """The importance of every column of the stream: [hidden size], higher matters more.

    Args:
        model: a transformers encoder with a head.
        kind: how.
        task: its loss is the one that counts.
        batches: as for ``score_importance``.

    Raises:
        ModelError: it is not known where the model reads and writes its stream.
    """
    check_importance(kind)
    stream = stream_of(model)
    if kind == "weights":
        return _by_weights(stream)
    if kind == "magnitude":
        measured = _by_activations(model, stream, task, batches)
        return _by_weights(stream) if measured is None else measured
    return _by_gradients(model, stream, kind, task, batches)


def _by_weights(stream: Stream) -> Array:
    import torch

    writing = [of_mean(writer.weight.detach().flatten(1).square().sum(1)) for writer in stream.writers]
    writing += [of_mean(table.weight.detach().square().sum(0)) for table in stream.tables]
    reading = [of_mean(_weights_squared(part)) for part in stream.readers]
    found: Array = (torch.stack(writing).sum(0) * torch.stack(reading).sum(0)).sqrt().numpy()
    return found


def _by_activations(model: nn.Module, stream: Stream, task: Task, batches: Iterable[Batch]) -> Array | None:
    """None where there are no samples."""
    import torch

    sums = [torch.zeros(stream.width) for _ in stream.readers]
    for batch in batches:
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        with torch.no_grad():
            read = _reads(model, stream, task, tensors)
        for total, states in zip(sums, read, strict=True):
            total.add_(states.square().sum(0))
    if not any(float(total.sum()) for total in sums):
        return None
    places = [total * _weights_squared(part) for total, part in zip(sums, stream.readers, strict=True)]
    found: Array = torch.stack([of_mean(place.sqrt()) for place in places]).sum(0).numpy()
    return found


def _by_gradients(model: nn.Module, stream: Stream, kind: Importance, task: Task, batches: Iterable[Batch]) -> Array:
    import torch

    total, seen = torch.zeros(stream.width), 0
    for batch in batches:
        tensors = {name: torch.from_numpy(values) for name, values in labelled(batch, kind).items()}
        size = len(tensors[LABELS])
        gate = torch.ones(size, stream.width, requires_grad=True)

        def close(_: nn.Module, args: tuple[torch.Tensor, ...], gate: torch.Tensor = gate) -> tuple[Any, ...]:
            return (args[0] * (gate[:, None] if args[0].ndim > gate.ndim else gate), *args[1:])

        readers = [matrix for part in stream.readers for matrix in part]
        with hooked(matrix.register_forward_pre_hook(close) for matrix in readers), torch.enable_grad():
            loss = task.loss(task.call(model, tensors).logits, tensors[LABELS]) * size  # a sum: samples keep apart
            (gradient,) = torch.autograd.grad(loss, [gate])
        total += (gradient.abs() if kind == "taylor" else gradient.square()).sum(0)
        seen += size
    found: Array = (total / max(seen, 1)).numpy()
    return found


def _reads(model: nn.Module, stream: Stream, task: Task, tensors: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
    """What is read of the stream at each place in a batch, of real tokens: [tokens, hidden size]."""
    seen: list[torch.Tensor] = []

    def keep(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(args[0].detach())

    with hooked(part[0].register_forward_pre_hook(keep) for part in stream.readers):
        task.call(model, tensors)
    for states in seen:
        yield real_tokens(states, tensors)


def real_tokens(states: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """States of a batch's real tokens [tokens, columns], of all its tokens or of one a sample."""
    whole = states.ndim == 2 or MASK not in tensors  # of one token a sample, or of tokens that are all real
    return states.flatten(0, -2) if whole else states[tensors[MASK].bool()]


def _weights_squared(part: tuple[nn.Linear, ...]) -> torch.Tensor:
    """Of each input, the squared length of the weights that read it in all matrices of a place."""
    import torch

    return torch.stack([matrix.weight.detach().square().sum(0) for matrix in part]).sum(0)
