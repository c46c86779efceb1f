"""Importance of every attention head, feed-forward neuron and layer: how much the loss would feel its absence.

Take a layer with two heads and three neurons. Each of the five, and the layer itself, gets a gate, a factor of 1 on
what it hands on. The gradient of the loss with respect to a gate says, to first order, what closing it would cost:

    taylor     mean over samples of |dL/dgate|   Michel et al. 2019 (Are Sixteen Heads Really Better than One?, eq. 2);
                                                 Molchanov et al. 2019 (Importance Estimation for NN Pruning)
    fisher     mean over samples of (dL/dgate)^2  Kwon et al. 2022 (A Fast Post-Training Pruning Framework for
                                                 Transformers, section 3.2): the diagonal of the Fisher information
    magnitude  root mean square, over real tokens, of what a head or a neuron hands on to the stream: activation times
               the weights that read it (Sun et al. 2024, A Simple and Effective Pruning Approach for LLMs, eq. 1), as
               a multiple of its layer's mean, so that layers compare (An et al. 2024, FLAP, section 3.2). Needs no
               labels. Without samples it is as weights.
    weights    plain magnitude: the norm of the weights in times that of the weights out, as a multiple of its layer's
               mean, without samples (Han et al. 2015, Learning both Weights and Connections, section 3, for single
               weights). On real encoders that is no better than chance, and serves to compare with
               (docs/decisions/0008-magnitude-looks-at-activations.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.errors import DataError, UsageError
from edgekit.formats.encoder import Layer, encoder_layers
from edgekit.formats.torch import hooked
from edgekit.pruning import Importance
from edgekit.tasks.base import LABELS, MASK, Array, Batch, Task

if TYPE_CHECKING:
    import torch
    from torch import nn

    Values = TypeVar("Values", Array, torch.Tensor)


@dataclass(frozen=True)
class Scores:
    """Higher matters more; scores of one kind compare across layers.

    Attributes:
        layers: [layers].
        heads: for each layer [heads].
        neurons: for each layer [neurons].
    """

    layers: Array
    heads: list[Array]
    neurons: list[Array]


def score_importance(model: nn.Module, kind: Importance, task: Task, batches: Iterable[Batch]) -> Scores:
    """Score every head, neuron and layer.

    Args:
        model: a transformers encoder with a head.
        kind: how.
        task: its loss is the one that counts.
        batches: samples, with labels unless by ``magnitude``, for which there may be none at all; not read by
            ``weights``.
    """
    check_importance(kind)
    if kind in ("magnitude", "weights"):
        return _magnitude(model, task, () if kind == "weights" else batches)
    return _gate_gradients(model, kind, task, batches)


def check_importance(kind: Importance) -> None:
    """See that an encoder has what importance is measured by.

    Raises:
        UsageError: it has not.
    """
    if kind == "bn_scale":
        raise UsageError(
            "importance by bn_scale is for convolutional networks, and an encoder has no batch norm",
            id="usage.settings-conflict",
            hint="Choose another one: --set prune.importance=taylor.",
        )


def labelled(batch: Batch, kind: Importance) -> Batch:
    """The batch, if it has labels.

    Raises:
        DataError: it has none.
    """
    if LABELS not in batch:
        raise DataError(f"importance by {kind} needs labels, and the training data has none", id="data.no-labels")
    return batch


def _magnitude(model: nn.Module, task: Task, batches: Iterable[Batch]) -> Scores:
    import numpy as np

    layers = encoder_layers(model)
    measured = _mean_squares(model, layers, task, batches) or [_weights_alone(layer) for layer in layers]
    heads, neurons = ([parts[kind].clamp(min=0).sqrt().numpy() for parts in measured] for kind in (0, 1))
    totals = np.array([float(head.sum() + neuron.sum()) for head, neuron in zip(heads, neurons, strict=True)])
    return Scores(totals, [of_mean(values) for values in heads], [of_mean(values) for values in neurons])


def of_mean(values: Values) -> Values:
    """Values as multiples of their mean, unless that is 0."""
    found: Values = values / (float(values.mean()) or 1.0)
    return found


def _weights_alone(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares of |weights in| * |weights out|, for each head and each neuron."""
    inward = layer.v.weight.detach().unflatten(0, (layer.heads, layer.head_width)).square().sum((1, 2))
    outward = layer.o.weight.detach().unflatten(1, (layer.heads, layer.head_width)).square().sum((0, 2))
    up, down = layer.up.weight.detach().square().sum(1), layer.down.weight.detach().square().sum(0)
    return inward * outward, up * down


def _mean_squares(
    model: nn.Module, layers: list[Layer], task: Task, batches: Iterable[Batch]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each layer, mean squared length of what each head and each neuron adds to a token; empty without samples."""
    import torch

    sums = [(torch.zeros(layer.heads), torch.zeros(layer.neurons)) for layer in layers]
    readers = []  # by head, the products of the columns of o; by neuron, the squared length of its column of down
    for layer in layers:
        outward = layer.o.weight.detach().unflatten(1, (layer.heads, layer.head_width))
        products = torch.einsum("xhd,xhe->hde", outward, outward)
        readers.append((products, layer.down.weight.detach().square().sum(0)))
    tokens = 0
    for batch in batches:
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        with handed_on(layers) as seen, torch.no_grad():
            task.call(model, tensors)
        for (products, squares), total, (mixed, activated) in zip(readers, sums, seen, strict=True):
            real = tensors[MASK].bool() if MASK in tensors else torch.ones(mixed.shape[:2], dtype=torch.bool)
            states = mixed[real].unflatten(-1, products.shape[:2])
            total[0].add_(torch.einsum("nhd,hde,nhe->h", states, products, states))
            total[1].add_(activated[real].square().sum(0) * squares)
        tokens += int(real.sum())
    return [(heads / tokens, neurons / tokens) for heads, neurons in sums] if tokens else []


@contextlib.contextmanager
def handed_on(layers: list[Layer]) -> Iterator[list[list[torch.Tensor]]]:
    """What ``o`` and ``down`` of each layer read in the calls of the block: [batch, tokens, columns]."""
    seen: list[list[torch.Tensor]] = [[] for _ in layers]

    def keep(place: list[torch.Tensor]) -> Any:
        return lambda _, args: place.append(args[0].detach())

    handles = [
        matrix.register_forward_pre_hook(keep(place))
        for layer, place in zip(layers, seen, strict=True)
        for matrix in (layer.o, layer.down)
    ]
    with hooked(handles):
        yield seen


@dataclass
class _Gates:
    """The gates of one layer for one batch: [batch, 1], [batch, heads], [batch, neurons]."""

    layer: torch.Tensor
    heads: torch.Tensor
    neurons: torch.Tensor


def _gate_gradients(model: nn.Module, kind: Importance, task: Task, batches: Iterable[Batch]) -> Scores:
    import torch

    layers = encoder_layers(model)
    sums = [[torch.zeros(1), torch.zeros(layer.heads), torch.zeros(layer.neurons)] for layer in layers]
    seen = 0
    for batch in batches:
        tensors = {name: torch.from_numpy(values) for name, values in labelled(batch, kind).items()}
        size = len(tensors[LABELS])
        gates = [
            _Gates(*(torch.ones(size, width, requires_grad=True) for width in (1, layer.heads, layer.neurons)))
            for layer in layers
        ]
        with _gated(layers, gates), torch.enable_grad():
            loss = task.loss(task.call(model, tensors).logits, tensors[LABELS]) * size  # a sum: samples keep apart
            flat = [gate for item in gates for gate in (item.layer, item.heads, item.neurons)]
            gradients = torch.autograd.grad(loss, flat)
        for number, total in enumerate(sums):
            for part, gradient in enumerate(gradients[number * 3 : number * 3 + 3]):
                total[part] += (gradient.abs() if kind == "taylor" else gradient.square()).sum(0)
        seen += size
    mean = [[(part / max(seen, 1)).numpy() for part in total] for total in sums]
    import numpy as np

    return Scores(np.concatenate([item[0] for item in mean]), [item[1] for item in mean], [item[2] for item in mean])


@contextlib.contextmanager
def _gated(layers: list[Layer], gates: list[_Gates]) -> Iterator[None]:
    """Multiply what each head, neuron and layer hands on by its gate, for the time of the block."""
    handles: list[Any] = []
    for layer, gate in zip(layers, gates, strict=True):
        handles.append(layer.o.register_forward_pre_hook(_head_gate(gate, layer)))
        handles.append(layer.down.register_forward_pre_hook(_neuron_gate(gate)))
        handles.append(layer.module.register_forward_hook(_layer_gate(gate)))
    with hooked(handles):
        yield


def _head_gate(gate: _Gates, layer: Layer) -> Any:
    def hook(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        states = args[0].unflatten(-1, (layer.heads, layer.head_width)) * gate.heads[:, None, :, None]
        return (states.flatten(-2), *args[1:])

    return hook


def _neuron_gate(gate: _Gates) -> Any:
    def hook(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0] * gate.neurons[:, None, :], *args[1:])

    return hook


def _layer_gate(gate: _Gates) -> Any:
    def hook(_: nn.Module, args: tuple[torch.Tensor, ...], output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        mixed = args[0] + gate.layer[:, :, None] * (states - args[0])
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    return hook
