"""Pruning of transformer encoders: layers, tokens, then columns of the stream, heads and neurons, all in one budget."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from edgekit.formats.encoder import encoder_layers, head_width, stream_width
from edgekit.formats.surgery import EncoderPlan, replay, whole_plan
from edgekit.pruning import Aim, Measured
from edgekit.pruning.encoders.cost import CostModel
from edgekit.pruning.encoders.hidden import columns_left, most_important_columns, score_columns
from edgekit.pruning.encoders.importance import Scores, score_importance
from edgekit.pruning.encoders.knapsack import Allowed, choose_numbers, most_important
from edgekit.pruning.encoders.narrowing import replay_narrower, sum_stream
from edgekit.pruning.encoders.reconstruction import replay_reconstructed, sum_products
from edgekit.pruning.encoders.selection import Bounds, choose_layers, choose_widths
from edgekit.pruning.encoders.table import Geometry
from edgekit.pruning.encoders.tokens import shares_of

if TYPE_CHECKING:
    from torch import nn


def prune_encoder(model: nn.Module, aim: Aim) -> tuple[EncoderPlan, dict[str, JsonValue]]:
    """Cut ``model`` in place.

    Returns:
        The plan, counted in the model as it was, and figures for the report.
    """
    whole = _passing(model, aim.handed_before)
    before, hidden = _cost_of(model, aim, whole.tokens), stream_width(model)
    left = hidden if aim.hidden is None else columns_left(model, aim.hidden, aim.multiple)
    plan, scores, figures = whole, None, dict[str, JsonValue]()
    if aim.ratio > 0 or (aim.measured is not None and aim.measured.budget is not None):
        plan = whole.then(_drop_layers(model, aim))
        scores = score_importance(model, aim.importance, aim.task, aim.batches("heads and neurons"))
    if aim.handed is not None:
        plan = plan.then(_passing(model, shares_of(aim.handed, len(plan.layers))))
    if left < hidden:  # heads and neurons were scored before, and pay with what columns leave them of the budget
        plan = plan.then(_drop_columns(model, left, aim))
        figures |= {"hidden": left, "hidden_of": hidden}
    if aim.measured is not None and (scores is not None or left < hidden):
        choose = partial(_choose, model, scores, (whole, hidden), aim, aim.measured)
        chosen = cast("dict[str, JsonValue]", aim.measured.decide(choose))
        figures["predicted"] = {name: value for name, value in chosen.items() if name != "widths"}
        if scores is not None:
            widths = cast("list[tuple[int, int]]", chosen["widths"])
            plan = plan.then(_cut_widths(model, most_important(scores, widths, type(model).__name__), aim))
    elif scores is not None:
        bounds = Bounds(int(before.plan(whole) * (1 - aim.ratio)), aim.multiple, aim.floor)
        cut = choose_widths(scores, _cost_of(model, aim, plan.tokens), bounds, type(model).__name__)
        plan = plan.then(_cut_widths(model, cut, aim))
    if plan.tokens is not None or aim.handed is not None:
        figures |= {"tokens": list(plan.tokens or ())}
    return plan, _describe(whole, plan, before.plan(whole), _cost_of(model, aim, plan.tokens).plan(plan)) | figures


def _passing(model: nn.Module, shares: tuple[float, ...] | None) -> EncoderPlan:
    """The plan that keeps everything but tokens, of which layers hand on these shares."""
    return whole_plan(model).model_copy(update={"tokens": shares})


def _cost_of(model: nn.Module, aim: Aim, shares: tuple[float, ...] | None) -> CostModel:
    """What the parts of a model cost, as wide as it is now, where layers hand on these shares of the tokens."""
    return CostModel.of(
        tokens=aim.tokens,
        hidden=stream_width(model),
        head_width=head_width(model),
        first_token_only=aim.task.reads_first_token,
        shares=shares or (),
    )


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


def _drop_columns(model: nn.Module, left: int, aim: Aim) -> EncoderPlan:
    """Take columns of the stream out of ``model``, until so many are left; what reads them is fitted if asked for."""
    scores = score_columns(model, aim.importance, aim.task, aim.batches("columns"))
    kept = most_important_columns(scores, left)
    plan = whole_plan(model).model_copy(update={"hidden": kept})
    if aim.reconstruct:
        replay_narrower(model, plan, sum_stream(model, kept, aim.task, aim.batches("columns that stay")))
    else:
        replay(model, plan)
    return plan


def _cut_widths(model: nn.Module, plan: EncoderPlan, aim: Aim) -> EncoderPlan:
    """Cut heads and neurons out of ``model`` by a plan; what stays is fitted where that was asked for."""
    if aim.reconstruct:
        replay_reconstructed(model, plan, sum_products(model, aim.task, aim.batches("what stays")))
    else:
        replay(model, plan)
    return plan


def _choose(
    model: nn.Module, scores: Scores | None, before: tuple[EncoderPlan, int], aim: Aim, measured: Measured
) -> JsonValue:
    """How many heads and neurons stay in each layer, with the predicted cost before and after.

    Args:
        model: with the layers and the columns of the stream that stay.
        scores: of its heads and neurons; None where they all stay.
        before: what there was, and its hidden size.
        aim: what they may cost.
        measured: the costs.

    Raises:
        UsageError: the table is of other hidden sizes, or the budget cannot be met.
    """
    whole, hidden = before
    table = measured.table()
    costs, before_cost = table.at(stream_width(model)), table.at(hidden).predict(_widths(whole))
    budget = before_cost * (1 - aim.ratio) if measured.budget is None else measured.budget
    # a sum of squared gradients is an estimate of the loss for either kind (Kwon et al. 2022, section 3.2)
    allowed = Allowed(budget, aim.multiple, aim.floor, one_scale=aim.importance == "fisher")
    widths = _widths(whole_plan(model)) if scores is None else choose_numbers(scores, costs, allowed)
    return {
        "widths": [list(pair) for pair in widths],
        "unit": table.unit,
        "before": round(before_cost, 4),
        "after": round(costs.predict(widths), 4),
        "budget": round(budget, 4),
        "largest_error": table.largest_error,
        "rewrites": list(table.rewrites),
        "table": table.digest,
    }


def _widths(plan: EncoderPlan) -> list[tuple[int, int]]:
    """How many heads and neurons stay in each layer."""
    return [(len(layer.heads), len(layer.neurons)) for layer in plan.layers]


def _describe(before: EncoderPlan, after: EncoderPlan, macs_before: int, macs_after: int) -> dict[str, JsonValue]:
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
        "macs_before": macs_before,
        "macs_after": macs_after,
    }
