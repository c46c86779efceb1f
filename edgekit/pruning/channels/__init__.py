"""Pruning of any module's channels, as far as it can be proven that nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from edgekit.errors import ModelError, UsageError
from edgekit.formats.channels import ChannelPlan, cut_channels
from edgekit.pruning import Aim
from edgekit.pruning.channels.cost import MacCounter
from edgekit.pruning.channels.groups import Group, Unit, channels_of, find_groups, plan_without, removed_channels
from edgekit.pruning.channels.importance import score_units
from edgekit.pruning.channels.selection import choose_units

if TYPE_CHECKING:
    import torch
    from torch import nn


def prune_channels(
    model: nn.Module, example: dict[str, torch.Tensor], aim: Aim
) -> tuple[ChannelPlan, dict[str, JsonValue]]:
    """Cut ``model`` in place.

    Args:
        model: any module.
        example: its inputs, at least two samples.
        aim: what is asked for.

    Returns:
        The plan, counted in the module as it was, and figures for the report.

    Raises:
        UsageError: nothing of the module can be pruned; says why, layer by layer.
    """
    groups, counter = find_groups(model, example), MacCounter.of(model, example)
    gone: set[Unit] = set()
    if aim.ratio > 0:
        if not any(group.units for group in groups):
            raise UsageError(
                f"no channel of {type(model).__name__} can be pruned",
                id="usage.nothing-to-prune",
                why="\n".join(f"{group.root}: {group.refused}" for group in groups)
                or "it has no convolution or linear layer that another one reads",
                hint="Use a recipe without pruning: --recipe quantize.",
            )
        gone = choose_units(groups, score_units(model, groups, aim), counter, aim)
    plan, details = plan_without(model, gone), _describe(model, groups, gone, counter)
    cut_channels(model, plan)
    return plan, details


def _describe(model: nn.Module, groups: Sequence[Group], gone: set[Unit], counter: MacCounter) -> dict[str, JsonValue]:
    removed, kept = removed_channels(gone), []
    for group in groups:
        row: dict[str, JsonValue] = {"layer": group.root or type(model).__name__}
        before = _channels(model, group.root)
        if before is not None:
            row |= {"channels": before - len(removed.get((group.root, "outputs"), ())), "of": before}
        kept.append(row | ({"whole": group.refused} if group.refused else {}))
    return {
        "kept": cast("JsonValue", kept),
        "macs_before": counter.total({}),
        "macs_after": counter.total(removed),
    }


def _channels(model: nn.Module, layer: str) -> int | None:
    """Channels that a layer writes; None for a kind of which that is not known."""
    try:
        return channels_of(model, (layer, "outputs"))
    except ModelError:
        return None
