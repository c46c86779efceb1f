"""Reconstruction: what stays takes over, by least squares, what the removed heads and neurons handed on.

Take the matrix ``down`` of a layer. On samples it read activations X [tokens, neurons] and gave X W + b; of the neurons
only K stay. Their weights and the bias become those that come closest to what it gave,

    min over W', b'  of  |X_K W' + b' - (X W + b)|^2 + r |W' - W_K|^2 + r |b' - b|^2,

which needs no more of the samples than X'X. The same for the matrix that mixes the heads. Nothing is trained, and no
label is read. Sources: Kwon et al. 2022 (A Fast Post-Training Pruning Framework for Transformers, section 3.4), who fit
one factor for each head and neuron in this way; whole matrices are fitted in He et al. 2017 (Channel Pruning for
Accelerating Very Deep Neural Networks, section 3.1), and the bias in An et al. 2024 (FLAP, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.formats.encoder import encoder_layers
from edgekit.formats.surgery import EncoderPlan, replay
from edgekit.pruning.encoders.importance import handed_on
from edgekit.tasks.base import MASK, Batch, Task

if TYPE_CHECKING:
    import torch
    from torch import nn

# r, as a share of the mean square of an input: few samples leave weights near where they were (Kwon et al. 2022 damp
# their least squares for the same reason).
RIDGE = 0.01


@dataclass(frozen=True)
class Products:
    """Of one layer, sums over tokens of products of inputs, a constant 1 last: [columns + 1, columns + 1].

    Attributes:
        mixed: what the matrix that mixes the heads reads.
        activated: what ``down`` reads.
    """

    mixed: torch.Tensor
    activated: torch.Tensor


def sum_products(model: nn.Module, task: Task, batches: Iterable[Batch]) -> list[Products]:
    """Sums over the real tokens of samples, for each layer; of the last one over the tokens that the task reads."""
    import torch

    layers = encoder_layers(model)
    sums = [
        Products(
            *(torch.zeros(width + 1, width + 1, dtype=torch.float64) for width in (layer.o.in_features, layer.neurons))
        )
        for layer in layers
    ]
    for batch in batches:
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        with handed_on(layers) as seen, torch.no_grad():
            task.call(model, tensors)
        for index, (total, states) in enumerate(zip(sums, seen, strict=True)):
            read = tensors[MASK].bool() if MASK in tensors else torch.ones(states[0].shape[:2], dtype=torch.bool)
            if task.reads_first_token and index == len(layers) - 1:
                read = read & (torch.arange(read.shape[1]) == 0)
            for place, values in zip((total.mixed, total.activated), states, strict=True):
                place.add_(products_of(values[read]))
    return sums


def products_of(rows: torch.Tensor) -> torch.Tensor:
    """Sums over tokens of products of what each has [tokens, columns] and a constant 1: [columns + 1, columns + 1]."""
    import torch

    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    return (rows.T @ rows).double()


def replay_reconstructed(model: nn.Module, plan: EncoderPlan, sums: list[Products]) -> None:
    """Cut ``model`` in place to what ``plan`` keeps of its layers, and fit what stays.

    Args:
        model: an encoder of as many layers as the plan.
        plan: keeps every layer.
        sums: of this model.
    """
    import torch

    fitted = []
    for layer, cut, products in zip(encoder_layers(model), plan.layers, sums, strict=True):
        columns = [head * layer.head_width + offset for head in cut.heads for offset in range(layer.head_width)]
        fitted.append((fit(layer.o, products.mixed, columns), fit(layer.down, products.activated, list(cut.neurons))))
    replay(model, plan)
    with torch.no_grad():
        for layer, parts in zip(encoder_layers(model), fitted, strict=True):
            for linear, (weight, bias) in zip((layer.o, layer.down), parts, strict=True):
                linear.weight.copy_(weight)
                if bias is not None:
                    linear.bias.copy_(bias)


def fit(linear: nn.Linear, products: torch.Tensor, kept: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight [out, kept] and bias [out] that come closest to the whole matrix; no bias where it has none.

    Args:
        linear: weight [out, in], bias [out].
        products: [in + 1, in + 1].
        kept: inputs that stay.
    """
    import torch

    biased = getattr(linear, "bias", None) is not None
    whole, chosen = linear.weight.detach().double(), list(kept)  # [out, in]
    if biased:  # a column more
        whole, chosen = torch.cat([whole, linear.bias.detach().double()[:, None]], dim=1), [*kept, linear.in_features]
    products = products[: whole.shape[1], : whole.shape[1]]
    inner = products[chosen][:, chosen]
    ridge = RIDGE * float(inner.diagonal().mean())
    target = products[chosen] @ whole.T + ridge * whole[:, chosen].T
    found = torch.linalg.solve(inner + ridge * torch.eye(len(chosen), dtype=torch.float64), target).T.float()
    return (found[:, :-1], found[:, -1]) if biased else (found, None)
