"""Importance of every unit of channels: how much the loss would feel its absence.

A channel is absent when the weights that read it are zero (``groups.py`` proves it). To first order that costs
``sum of w * dL/dw`` over those weights:

    taylor     mean over batches of |sum w dL/dw|    Molchanov et al. 2019 (Importance Estimation for NN Pruning,
               eq. 8)
    fisher     mean over batches of (sum w dL/dw)^2, the same squared, as there
    magnitude  |weights that write| * |weights that read|, no data; zero when either side is dead (Li et al. 2017,
               Pruning Filters for Efficient ConvNets, section 3.1, for the side that writes)
    weights    the same as magnitude, which looks at nothing else here
    bn_scale   |scale| of the batch norm behind the channel, no data (Liu et al. 2017, Network Slimming, section 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from edgekit.errors import DataError, UsageError
from edgekit.pruning import Aim
from edgekit.pruning.channels.groups import Group, Unit, differentiable, reading_weights
from edgekit.tasks.base import LABELS

if TYPE_CHECKING:
    import torch
    from torch import nn

Scores = dict[Unit, float]


def score_units(model: nn.Module, groups: Sequence[Group], aim: Aim) -> Scores:
    """The importance of every unit that can go; higher matters more."""
    if aim.importance in ("magnitude", "weights"):
        return _relative(groups, {unit: _written(model, unit) * _read(model, unit) for g in groups for unit in g.units})
    if aim.importance == "bn_scale":
        return _relative(groups, {unit: _bn_scale(model, unit) for group in groups for unit in group.units})
    return _by_gradient(model, groups, aim)


def _relative(groups: Sequence[Group], scores: Scores) -> Scores:
    """Scores against their group's mean, since weights of different layers are not of one scale."""
    found: Scores = {}
    for group in groups:
        mean = sum(scores[unit] for unit in group.units) / max(1, len(group.units)) or 1.0
        found |= {unit: scores[unit] / mean for unit in group.units}
    return found


def _read(model: nn.Module, unit: Unit) -> float:
    """Norm of the weights that read a unit."""
    return float(sum(float(part.detach().square().sum()) for part in _readers(model, unit)) ** 0.5)


def _written(model: nn.Module, unit: Unit) -> float:
    """Norm of what writes a unit: the scale and shift of batch norms where there are any, else the filters."""
    layers = {name: model.get_submodule(name) for name, side, _ in unit.atoms if side == "outputs"}
    norms = {name for name, layer in layers.items() if _has_scale(layer)}
    total = 0.0
    for name, side, index in unit.atoms:
        if side != "outputs" or (norms and name not in norms):
            continue
        layer = layers[name]
        parts = [_filter(layer, index)]
        if getattr(layer, "bias", None) is not None:
            parts.append(layer.bias[index])  # type: ignore[index]  # a tensor, where it is not None
        total += sum(float(part.detach().square().sum()) for part in parts)
    return float(total**0.5)


def _filter(layer: nn.Module, index: int) -> torch.Tensor:
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]  # every layer that is cut has one
    return weight[:, index] if getattr(layer, "transposed", False) else weight[index]


def _bn_scale(model: nn.Module, unit: Unit) -> float:
    scales = [
        float(cast("torch.Tensor", layer.weight)[index].detach().abs())
        for name, side, index in unit.atoms
        if side == "outputs"
        for layer in (model.get_submodule(name),)
        if _has_scale(layer)
    ]
    if not scales:
        raise UsageError(
            "importance by bn_scale needs a batch norm behind every channel that can go",
            id="usage.settings-conflict",
            hint="Choose another one: --set prune.importance=taylor.",
        )
    return sum(scales)


def _has_scale(layer: nn.Module) -> bool:
    """Whether a layer is a batch norm with weights of its own."""
    from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

    return isinstance(layer, _BatchNorm) and layer.affine


def _readers(model: nn.Module, unit: Unit) -> list[torch.Tensor]:
    return [
        part
        for name, side, index in sorted(unit.atoms)
        if side == "inputs"
        for part in reading_weights(model.get_submodule(name), [index])
    ]


def _by_gradient(model: nn.Module, groups: Sequence[Group], aim: Aim) -> Scores:
    import torch

    model = differentiable(model)
    units = [unit for group in groups for unit in group.units]
    totals, batches = torch.zeros(len(units), dtype=torch.float64), 0
    readers = sorted({name for unit in units for name, side, _ in unit.atoms if side == "inputs"})
    weights = {name: cast("torch.Tensor", model.get_submodule(name).weight) for name in readers}
    for batch in aim.batches("channels"):
        if LABELS not in batch:
            raise DataError(
                f"importance by {aim.importance} needs labels, and the training data has none", id="data.no-labels"
            )
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        with torch.enable_grad():
            loss = aim.task.loss(aim.task.call(model, tensors).logits, tensors[LABELS])
            gradients = torch.autograd.grad(loss, [weights[name] for name in readers])
        effects = {
            name: _effects(model.get_submodule(name), weights[name].detach() * gradient)
            for name, gradient in zip(readers, gradients, strict=True)
        }
        for place, unit in enumerate(units):
            effect = sum(effects[name][index] for name, side, index in unit.atoms if side == "inputs")
            totals[place] += abs(effect) if aim.importance == "taylor" else effect**2
        batches += 1
    return {unit: float(total) / max(1, batches) for unit, total in zip(units, totals, strict=True)}


def _effects(layer: nn.Module, products: torch.Tensor) -> list[float]:
    """The sum of products over the weights that read each input channel."""
    if getattr(layer, "transposed", False):
        found: list[float] = products.flatten(1).sum(1).tolist()
        return found
    groups = int(getattr(layer, "groups", 1))
    by_group = products.unflatten(0, (groups, -1)).flatten(3) if products.ndim > 2 else products[None, :, :, None]
    summed: list[float] = by_group.sum((1, 3)).flatten().tolist()  # [groups, inputs of one] in the channels' order
    return summed
