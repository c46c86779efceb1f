"""Reconstruction of a narrower stream: the columns that stay take over, by least squares, what the others told.

Each matrix that reads the stream is fitted, from the columns that stay, to what it gave of all, in the same way as
``reconstruction.py`` fits what is left of heads and neurons. A norm's mean and variance are now those of the columns
that stay; its scale and shift, column by column, are fitted to what it gave before. Everything is fitted to what the
whole model hands on, so that one pass over the samples is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.formats.encoder import encoder_layers
from edgekit.formats.stream import stream_of
from edgekit.formats.surgery import EncoderPlan, replay
from edgekit.formats.torch import hooked
from edgekit.pruning.encoders.hidden import real_tokens
from edgekit.pruning.encoders.reconstruction import RIDGE, fit, products_of
from edgekit.tasks.base import Batch, Task

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class StreamSums:
    """Sums over tokens that a narrower stream is fitted by.

    Attributes:
        columns: of the stream that are to stay.
        read: for each place that reads the stream, of products of what is read, a constant 1 last: [columns + 1,
            columns + 1].
        norms: for each norm, over columns that stay, of a constant 1, of what comes of their own mean and variance, of
            what the norm gives, and of the first's squares and products with the second: [5, columns that stay].
    """

    columns: tuple[int, ...]
    read: list[torch.Tensor]
    norms: list[torch.Tensor]


def sum_stream(model: nn.Module, columns: tuple[int, ...], task: Task, batches: Iterable[Batch]) -> StreamSums:
    """Sums over the real tokens of samples; what the last layer's neurons read counts where the task reads it."""
    import torch
    from torch.nn import functional

    stream, kept, last = stream_of(model), list(columns), encoder_layers(model)[-1].up
    read = [torch.zeros(stream.width + 1, stream.width + 1, dtype=torch.float64) for _ in stream.readers]
    norms = [torch.zeros(5, len(kept), dtype=torch.float64) for _ in stream.norms]
    tensors: dict[str, torch.Tensor] = {}

    def add_read(total: torch.Tensor) -> Any:
        def hook(matrix: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            first = matrix is last and task.reads_first_token
            total.add_(products_of(args[0][:, 0] if first else real_tokens(args[0], tensors)))

        return hook

    def add_norm(total: torch.Tensor) -> Any:
        def hook(norm: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            own = functional.layer_norm(real_tokens(args[0], tensors)[:, kept], (len(kept),), eps=norm.eps)  # type: ignore[arg-type]  # a number
            given = real_tokens(output, tensors)[:, kept]
            sums = [torch.ones_like(own), own, given, own * own, own * given]
            total.add_(torch.stack([one.double().sum(0) for one in sums]))

        return hook

    handles = [
        part[0].register_forward_pre_hook(add_read(sums)) for part, sums in zip(stream.readers, read, strict=True)
    ]
    handles += [norm.register_forward_hook(add_norm(sums)) for norm, sums in zip(stream.norms, norms, strict=True)]
    with hooked(handles), torch.no_grad():
        for batch in batches:
            tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
            task.call(model, tensors)
    return StreamSums(columns, read, norms)


def replay_narrower(model: nn.Module, plan: EncoderPlan, sums: StreamSums) -> None:
    """Cut the stream of ``model`` in place to the columns of ``sums``, and fit what reads and what scales it.

    Args:
        model: an encoder of as many layers, heads and neurons as the plan.
        plan: keeps these columns and everything else.
        sums: of this model.
    """
    import torch

    stream = stream_of(model)
    fitted: list[tuple[nn.Module, tuple[torch.Tensor, torch.Tensor | None]]] = []
    for part, products in zip(stream.readers, sums.read, strict=True):
        fitted += [(matrix, fit(matrix, products, list(sums.columns))) for matrix in part]
    for norm, found in zip(stream.norms, sums.norms, strict=True):
        fitted.append((norm, _fit_norm(norm, found, list(sums.columns))))
    replay(model, plan)
    with torch.no_grad():
        for module, parts in fitted:
            for name, values in zip(("weight", "bias"), parts, strict=True):
                if values is not None:
                    getattr(module, name).copy_(values)


def _fit_norm(norm: nn.LayerNorm, sums: torch.Tensor, kept: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift [kept] of a norm over the columns that stay: a line for each column, by least squares."""
    own, given, squares, products = sums[1:] / sums[0]
    variance = squares - own.square()
    ridge = RIDGE * float(variance.mean())
    scale = (products - own * given + ridge * norm.weight.detach()[kept].double()) / (variance + ridge)
    return scale.float(), (given - scale * own).float()
