"""The plan of a module whose channels were pruned, and cutting a fresh module to it.

The plan says for each layer, by its name, which of its inputs and outputs stay. What a layer of each kind looks like
afterwards is torch-pruning's knowledge; nothing has to be traced to load a pruned module.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from edgekit.errors import ModelError
from edgekit.settings import Frozen

if TYPE_CHECKING:
    from torch import nn


class LayerChannels(Frozen):
    """What stays of one layer, ascending, counted in the original module; None where nothing goes.

    Attributes:
        layer: its name, as ``named_modules`` has it.
        outputs: channels that it writes. A layer that hands channels through (batch norm, depthwise convolution) has
            these alone.
        inputs: channels that it reads.
    """

    layer: str
    outputs: tuple[int, ...] | None = Field(None, min_length=1)
    inputs: tuple[int, ...] | None = Field(None, min_length=1)

    @field_validator("outputs", "inputs")
    @classmethod
    def _ascending(cls, kept: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if kept is not None and (kept[0] < 0 or any(one >= other for one, other in pairwise(kept))):
            raise ValueError("the numbers do not ascend from 0 or more")
        return kept


class ChannelPlan(Frozen):
    """What stays of a module, layer by layer; a layer that is not named stays whole."""

    schema_: Literal["edgekit.plan/1"] = Field("edgekit.plan/1", alias="schema")
    kind: Literal["channels"] = "channels"
    architecture: str
    layers: tuple[LayerChannels, ...]

    def then(self, later: ChannelPlan) -> ChannelPlan:
        """The plan of pruning by this one and then, counted in what this one leaves, by ``later``."""
        mine = {cut.layer: cut for cut in self.layers}
        for cut in later.layers:
            first = mine.get(cut.layer, LayerChannels(layer=cut.layer))
            mine[cut.layer] = LayerChannels(
                layer=cut.layer,
                outputs=_compose(first.outputs, cut.outputs),
                inputs=_compose(first.inputs, cut.inputs),
            )
        return ChannelPlan(architecture=self.architecture, layers=tuple(mine.values()))


def _compose(first: tuple[int, ...] | None, then: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if first is None or then is None:
        return first if then is None else then
    return tuple(first[index] for index in then)


def cut_channels(model: nn.Module, plan: ChannelPlan) -> nn.Module:
    """Cut ``model`` in place to what ``plan`` keeps, and return it.

    Raises:
        ModelError: the plan is for another architecture, or names parts that the module does not have.
    """
    if type(model).__name__ != plan.architecture:
        raise ModelError(
            f"the plan is for {plan.architecture}",
            id="model.plan-mismatch",
            why=f"the module is {type(model).__name__}",
        )
    modules = dict(model.named_modules())
    for cut in plan.layers:
        if cut.layer not in modules:
            raise ModelError(
                f"the plan cuts the layer {cut.layer!r}",
                id="model.plan-mismatch",
                why="the module has no layer of that name",
            )
        layer = modules[cut.layer]
        pruner = layer_pruner(layer, cut.layer)
        if cut.outputs is not None:
            pruner.prune_out_channels(layer, _removed(cut.outputs, pruner.get_out_channels(layer), cut.layer))
        if cut.inputs is not None:
            pruner.prune_in_channels(layer, _removed(cut.inputs, pruner.get_in_channels(layer), cut.layer))
    return model


def layer_pruner(layer: nn.Module, name: str) -> Any:
    """What torch-pruning knows of a layer of this kind: how many channels it has, and how to cut them.

    Raises:
        ModelError: it does not know the kind.
    """
    from torch_pruning import ops
    from torch_pruning.pruner.function import PrunerBox

    pruner = PrunerBox.get(ops.module2type(layer))
    if pruner is None or pruner.get_out_channels(layer) is None:
        raise ModelError(
            f"the plan cuts the layer {name!r}", id="model.plan-mismatch", why=f"a {type(layer).__name__} cannot be cut"
        )
    return pruner


def _removed(kept: Iterable[int], channels: int, name: str) -> list[int]:
    stays = set(kept)
    if max(stays) >= channels:
        raise ModelError(
            f"the plan keeps channel {max(stays)} of {name!r}",
            id="model.plan-mismatch",
            why=f"the layer has {channels} channels",
        )
    return sorted(set(range(channels)) - stays)
