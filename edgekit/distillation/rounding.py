"""Fake quantization: layers that learn with what quantization will leave of their weights and inputs.

Weights are rounded as the quantizer rounds them, each channel or each block by its own scale, and inputs to 8 bits by
the scale of the moment, as in Q8BERT (Zafrir et al. 2019, Q8BERT: Quantized 8bit BERT) and, for integers at large,
Jacob et al. 2018 (Quantization and training of neural networks for efficient integer-arithmetic-only inference).
Gradients pass the rounding as if it were not there: the straight-through estimator (Bengio et al. 2013, Estimating or
propagating gradients through stochastic neurons).

What is learned stays in float: it is the quantizer that rounds it, to the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from edgekit.int4 import PRODUCT_BLOCK, scales_of, steps_of

if TYPE_CHECKING:
    import torch
    from torch import nn

Integers = Literal["u8", "s8"]
# The fewest weights of a layer that the stage quantize takes.
FEWEST_ELEMENTS = 1024


@dataclass(frozen=True)
class Rounding:
    """What is rounded, and how.

    Attributes:
        bits: of the weights of layers: 8, or 4 in blocks of a row, where inputs have a scale for each block too.
        activations: u8 has 255 steps between the ends of its values, s8 127 to each side of 0; the same for tables.
        weights: the same for weights of 8 bits.
        last: the step of s8 that the largest weight is: 127, or 64 where only 7 bits are used.
        per_channel: whether each output channel has a scale.
        static: whether inputs have one scale for all samples, and not each sample its own.
        convolutions: whether these are rounded, and not left float.
    """

    bits: Literal[8, 4] = 8
    activations: Integers = "u8"
    weights: Integers = "s8"
    last: int = 127
    per_channel: bool = True
    static: bool = False
    convolutions: bool = False


def rounded_layers(model: nn.Module, rounding: Rounding) -> list[nn.Module]:
    """The layers of a model whose weights are rounded: linear ones, tables, and convolutions where they are."""
    from torch import nn

    kinds = (nn.Linear, nn.Embedding, *((nn.Conv1d, nn.Conv2d, nn.Conv3d) if rounding.convolutions else ()))
    return [layer for layer in model.modules() if isinstance(layer, kinds) and layer.weight.numel() >= FEWEST_ELEMENTS]


def mostly_convolutions(model: nn.Module) -> bool:
    """Whether most of the weights that are multiplied are in convolutions."""
    from torch import nn

    inside = {True: 0, False: 0}
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.weight.numel() >= FEWEST_ELEMENTS:
            inside[not isinstance(layer, nn.Linear)] += layer.weight.numel()
    return inside[True] > inside[False]


def round_while_learning(model: nn.Module, rounding: Rounding) -> Callable[[], None]:
    """Let the layers compute with rounded weights and inputs; returns what ends that."""
    layers = rounded_layers(model, rounding)
    for layer in layers:
        layer.forward = partial(_forward, layer, rounding)

    def end() -> None:
        for layer in layers:
            del layer.forward

    return end


def round_weights(weights: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Weights [out, ...] as the quantizer leaves them."""
    rows = weights.detach().flatten(1)
    if rounding.bits == 4:
        return _in_four_bits(rows).view_as(weights)
    found = rows if rounding.per_channel else rows.reshape(1, -1)
    return on_steps(found, found.aminmax(dim=1, keepdim=True), rounding.weights, rounding.last).view_as(weights)


def round_inputs(values: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Activations [batch, ..., features] in 8 bits.

    Where weights are INT4 that is what ``MatMulNBits`` does to its inputs at accuracy level 4: each block of the last
    dimension to both sides of 0, by its own scale.
    """
    from torch.nn import functional

    values = values.detach().float()
    if rounding.bits == 4:
        inner = values.shape[-1]
        blocks = functional.pad(values, (0, -inner % PRODUCT_BLOCK)).unflatten(-1, (-1, PRODUCT_BLOCK))
        furthest = blocks.abs().amax(dim=-1, keepdim=True)
        return on_steps(blocks, (-furthest, furthest), "s8").flatten(-2)[..., :inner]
    samples = (1, -1) if rounding.static else (len(values), -1)
    flat = values.reshape(samples)
    return on_steps(flat, flat.aminmax(dim=1, keepdim=True), rounding.activations).view_as(values)


def on_steps(
    values: torch.Tensor, ends: tuple[torch.Tensor, torch.Tensor], kind: Integers, last: int = 127
) -> torch.Tensor:
    """Values on the nearest steps of 8-bit integers, of which 0 is one.

    Args:
        values: any.
        ends: the least and the greatest value that integers reach, of shapes that spread over the values.
        kind: u8, or s8 with as many steps to each side.
        last: how many steps of s8 there are to a side.
    """
    import torch

    tiny = torch.finfo(torch.float32).tiny
    low, high = ends[0].clamp_max(0), ends[1].clamp_min(0)
    if kind == "s8":
        scale = (torch.maximum(-low, high) / last).clamp_min(tiny)
        return (values / scale).round().clamp(-last, last) * scale
    scale = ((high - low) / 255).clamp_min(tiny)
    zero = (-low / scale).round()
    return ((values / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def _in_four_bits(rows: torch.Tensor) -> torch.Tensor:
    """Rows [out, in] as INT4 leaves them."""
    import torch
    from torch.nn import functional

    out, inner = rows.shape
    blocks = functional.pad(rows, (0, -inner % PRODUCT_BLOCK)).view(out, -1, PRODUCT_BLOCK)
    furthest = blocks.gather(-1, blocks.abs().argmax(dim=-1, keepdim=True))
    scales = scales_of(blocks, furthest, torch)
    return (steps_of(blocks, scales, torch) * scales).view(out, -1)[:, :inner]


def _forward(layer: nn.Module, rounding: Rounding, values: torch.Tensor) -> torch.Tensor:
    """The layer on rounded numbers; gradients are those of the numbers themselves."""
    from torch import nn
    from torch.nn import functional

    if isinstance(layer, nn.Embedding):  # a table is large, and few of its rows are read
        rows = type(layer).forward(layer, values)
        return _straight(rows, on_steps(rows.detach(), layer.weight.detach().aminmax(), rounding.activations))
    layer = cast("nn.Linear | nn.Conv2d", layer)
    weights = _straight(layer.weight, round_weights(layer.weight, rounding))
    inputs = _straight(values, round_inputs(values, rounding))
    if isinstance(layer, nn.Linear):
        return functional.linear(inputs, weights, layer.bias)
    return cast("torch.Tensor", layer._conv_forward(inputs, weights, layer.bias))


def _straight(values: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """The rounded values, with the gradient of the values."""
    return values + (rounded - values).detach()
