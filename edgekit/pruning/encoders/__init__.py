"""Pruning of transformer encoders: layers first, then heads and neurons, all in one budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from edgekit.formats.encoder import encoder_layers, head_width, stream_width
from edgekit.formats.surgery import EncoderPlan, replay, whole_plan
from edgekit.pruning import Aim, Measured
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.importance import Scores, score_importance
from edgekit.pruning.encoders.knapsack import Allowed, choose_numbers, most_important
from edgekit.pruning.encoders.reconstruction import replay_reconstructed, sum_products
from edgekit.pruning.encoders.selection import Bounds, choose_layers, choose_widths
from edgekit.pruning.encoders.table import Geometry

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
    plan, predicted = whole, dict[str, JsonValue]()
    if aim.measured is not None and (aim.ratio > 0 or aim.measured.budget is not None):
        plan = _drop_layers(model, aim)
        cut, predicted = _drop_to_budget(model, whole, aim, aim.measured)
        plan = plan.then(cut)
    elif aim.measured is None and aim.ratio > 0:
        plan = _drop_layers(model, aim)
        plan = plan.then(_drop_widths(model, cost, int(cost.plan(whole) * (1 - aim.ratio)), aim))
    return plan, _describe(whole, plan, cost) | predicted


def geometry_of(model: nn.Module, *, first_token_only: bool) -> Geometry:
    """The shape of a model, as a cost table holds it."""
    layers = encoder_layers(model)
    return Geometry(
        architecture=type(model).__name__,
        hidden=stream_width(model),
        head_width=head_width(model),
        heads=max(layer.heads for layer in layers),
        neurons=max(layer.neurons for layer in layers),
        first_token_only=first_token_only,
    )


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
    _cut_widths(model, plan, aim)
    return plan


def _cut_widths(model: nn.Module, plan: EncoderPlan, aim: Aim) -> None:
    """Cut heads and neurons out of ``model``; what stays is fitted where that was asked for."""
    if aim.reconstruct:
        replay_reconstructed(model, plan, sum_products(model, aim.task, aim.batches("what stays")))
    else:
        replay(model, plan)


def _drop_to_budget(
    model: nn.Module, whole: EncoderPlan, aim: Aim, measured: Measured
) -> tuple[EncoderPlan, dict[str, JsonValue]]:
    """Take heads and neurons out of what is left of ``model`` until it costs at most the budget, as measured.

    Returns:
        The plan, and the predicted cost for the report.
    """
    scores = score_importance(model, aim.importance, aim.task, aim.batches("heads and neurons"))
    chosen = cast("dict[str, JsonValue]", measured.decide(lambda: _choose(scores, whole, aim, measured)))
    widths = cast("list[tuple[int, int]]", chosen["widths"])
    plan = most_important(scores, widths, type(model).__name__)
    _cut_widths(model, plan, aim)
    return plan, {"predicted": {name: value for name, value in chosen.items() if name != "widths"}}


def _choose(scores: Scores, whole: EncoderPlan, aim: Aim, measured: Measured) -> JsonValue:
    """How many heads and neurons stay in each layer, with the predicted cost before and after."""
    table = measured.table()
    before = table.predict([(len(layer.heads), len(layer.neurons)) for layer in whole.layers])
    budget = before * (1 - aim.ratio) if measured.budget is None else measured.budget
    # a sum of squared gradients is an estimate of the loss for either kind (Kwon et al. 2022, section 3.2)
    allowed = Allowed(budget, aim.multiple, aim.floor, one_scale=aim.importance == "fisher")
    widths = choose_numbers(scores, table, allowed)
    return {
        "widths": [list(pair) for pair in widths],
        "unit": table.unit,
        "before": round(before, 4),
        "after": round(table.predict(widths), 4),
        "budget": round(budget, 4),
        "largest_error": table.largest_error,
        "rewrites": list(table.rewrites),
        "table": table.digest,
    }


def _describe(before: EncoderPlan, after: EncoderPlan, cost: CostModel) -> dict[str, JsonValue]:
    shape, whole = before.layers[0], {layer.index: layer for layer in before.layers}
    kept: list[JsonValue] = [
        {
            "layer": layer.index,
            "heads": len(layer.heads),
            "neurons": len(layer.neurons),
            "heads_of": len(whole[layer.index].heads),
            "neurons_of": len(whole[layer.index].neurons),
        }
        for layer in after.layers
    ]
    return {
        "before": {"layers": len(before.layers), "heads": len(shape.heads), "neurons": len(shape.neurons)},
        "kept": kept,
        "macs_before": cost.plan(before),
        "macs_after": cost.plan(after),
    }
