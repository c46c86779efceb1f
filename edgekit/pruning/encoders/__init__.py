"""Pruning of transformer encoders: layers first, then heads and neurons, all in one budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from edgekit.formats.encoder import encoder_layers, head_width
from edgekit.formats.surgery import EncoderPlan, replay, whole_plan
from edgekit.pruning import Aim
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.importance import score_importance
from edgekit.pruning.encoders.selection import Bounds, choose_layers, choose_widths

if TYPE_CHECKING:
    from torch import nn


def prune_encoder(model: nn.Module, aim: Aim) -> tuple[EncoderPlan, dict[str, JsonValue]]:
    """Cut ``model`` in place.

    Returns:
        The plan, counted in the model as it was, and figures for the report.
    """
    cost = CostModel.of(
        tokens=aim.tokens,
        hidden=encoder_layers(model)[0].q.in_features,
        head_width=head_width(model),
        first_token_only=aim.task.reads_first_token,
    )
    whole = whole_plan(model)
    plan = whole
    if aim.ratio > 0:
        plan = _drop_layers(model, aim)
        plan = plan.then(_drop_widths(model, cost, int(cost.plan(whole) * (1 - aim.ratio)), aim))
    return plan, _describe(whole, plan, cost)


def _drop_layers(model: nn.Module, aim: Aim) -> EncoderPlan:
    """Take the least important layers out of ``model``; the plan says which stay."""
    plan = whole_plan(model)
    keep = max(1, round(len(plan.layers) * aim.layers))
    if keep < len(plan.layers):
        plan = choose_layers(plan, score_importance(model, aim.importance, aim.task, aim.batches("layers")), keep)
        replay(model, plan)
    return plan


def _drop_widths(model: nn.Module, cost: CostModel, budget: int, aim: Aim) -> EncoderPlan:
    """Take heads and neurons out of what is left of ``model`` until it costs at most ``budget``."""
    scores = score_importance(model, aim.importance, aim.task, aim.batches("heads and neurons"))
    plan = choose_widths(scores, cost, Bounds(budget, aim.multiple, aim.floor), type(model).__name__)
    replay(model, plan)
    return plan


def _describe(before: EncoderPlan, after: EncoderPlan, cost: CostModel) -> dict[str, JsonValue]:
    kept: list[JsonValue] = [
        {"layer": layer.index, "heads": len(layer.heads), "neurons": len(layer.neurons)} for layer in after.layers
    ]
    shape = before.layers[0]
    return {
        "before": {"layers": len(before.layers), "heads": len(shape.heads), "neurons": len(shape.neurons)},
        "kept": kept,
        "macs_before": cost.plan(before),
        "macs_after": cost.plan(after),
    }
