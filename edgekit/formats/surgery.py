"""The plan of a pruned encoder, and the surgery that makes a model so: matrices are cut, layers leave the list.

The stream is cut in ``stream.py``; tokens are left out of it in ``thinning.py``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from edgekit.errors import ModelError
from edgekit.formats.encoder import Layer, anatomy_of, encoder_layers, layer_list
from edgekit.formats.stream import cut_stream
from edgekit.formats.thinning import thin_out
from edgekit.settings import Frozen

if TYPE_CHECKING:
    import torch
    from torch import nn


def _check_ascending(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if numbers[0] < 0 or any(one >= other for one, other in pairwise(numbers)):
        raise ValueError("the numbers do not ascend from 0 or more")
    return numbers


class LayerPlan(Frozen):
    """What stays of one layer; every number counts in the original model.

    Attributes:
        index: the layer's place.
        heads: attention heads, ascending.
        neurons: feed-forward neurons, ascending.
    """

    index: int = Field(ge=0)
    heads: tuple[int, ...] = Field(min_length=1)
    neurons: tuple[int, ...] = Field(min_length=1)

    @field_validator("heads", "neurons")
    @classmethod
    def _ascending(cls, kept: tuple[int, ...]) -> tuple[int, ...]:
        return _check_ascending(kept)


class EncoderPlan(Frozen):
    """What stays of a model, layer by layer.

    Attributes:
        architecture: the model's class.
        layers: those that stay.
        hidden: columns of the stream that stay, ascending; None where all do, and not written then.
        tokens: for each layer but the last, the share of a sample's tokens that it hands on, never rising; None where
            all hand on all, and not written then.
    """

    schema_: Literal["edgekit.plan/1"] = Field("edgekit.plan/1", alias="schema")
    kind: Literal["encoder"] = "encoder"
    architecture: str
    layers: tuple[LayerPlan, ...] = Field(min_length=1)
    hidden: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    tokens: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[LayerPlan, ...]) -> tuple[LayerPlan, ...]:
        _check_ascending(tuple(layer.index for layer in layers))
        return layers

    @field_validator("hidden")
    @classmethod
    def _ascending_columns(cls, kept: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return kept if kept is None else _check_ascending(kept)

    @model_validator(mode="after")
    def _falling_shares(self) -> Self:
        if self.tokens is not None:
            if len(self.tokens) != len(self.layers) - 1:
                raise ValueError(
                    f"{len(self.tokens)} shares of tokens for {len(self.layers)} layers: all but the last have one"
                )
            if any(one < other for one, other in pairwise(self.tokens)):
                raise ValueError("the shares of tokens rise")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_whole(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for name in ("hidden", "tokens"):
            if getattr(self, name) is None:
                written.pop(name, None)
        return written

    def then(self, later: EncoderPlan) -> EncoderPlan:
        """The plan of pruning by this one and then, counted in what this one leaves, by ``later``."""
        layers = []
        for cut in later.layers:
            mine = self.layers[cut.index]
            layers.append(
                LayerPlan(
                    index=mine.index,
                    heads=tuple(mine.heads[head] for head in cut.heads),
                    neurons=tuple(mine.neurons[neuron] for neuron in cut.neurons),
                )
            )
        hidden = later.hidden if self.hidden is None else self.hidden
        if self.hidden is not None and later.hidden is not None:
            hidden = tuple(self.hidden[column] for column in later.hidden)
        return EncoderPlan(
            architecture=self.architecture, layers=tuple(layers), hidden=hidden, tokens=self._shares_then(later)
        )

    def _shares_then(self, later: EncoderPlan) -> tuple[float, ...] | None:
        """Shares are of a sample's tokens, whatever was left out before: of two for a layer, the smaller one holds."""
        if self.tokens is None or len(later.layers) == 1:
            return later.tokens
        mine = tuple((*self.tokens, self.tokens[-1])[layer.index] for layer in later.layers[:-1])
        return mine if later.tokens is None else tuple(map(min, mine, later.tokens))

    def stands_for(self, layers: int) -> tuple[int, ...]:
        """For each layer that stays, the number of original layers that are done after it.

        A layer that stays does the work of all up to the next one that stays, the last one up to the end: entry ``i``
        of an original of ``layers`` layers is the index in its hidden states that layer ``i``'s output should equal.
        """
        return (*(layer.index for layer in self.layers[1:]), layers)


def whole_plan(model: nn.Module) -> EncoderPlan:
    """The plan that keeps everything."""
    layers = tuple(
        LayerPlan(index=index, heads=tuple(range(layer.heads)), neurons=tuple(range(layer.neurons)))
        for index, layer in enumerate(encoder_layers(model))
    )
    return EncoderPlan(architecture=type(model).__name__, layers=layers)


def replay(model: nn.Module, plan: EncoderPlan) -> nn.Module:
    """Cut ``model`` in place to what ``plan`` keeps, and return it.

    Raises:
        ModelError: the plan is for another architecture, or names parts that the model does not have.
    """
    if type(model).__name__ != plan.architecture:
        raise ModelError(
            f"the plan is for {plan.architecture}", id="model.plan-mismatch", why=f"the model is {type(model).__name__}"
        )
    layers, listed = encoder_layers(model), layer_list(model)
    for cut in plan.layers:
        if cut.index >= len(layers):
            raise ModelError(
                f"the plan keeps layer {cut.index}", id="model.plan-mismatch", why=f"the model has {len(layers)} layers"
            )
        layer = layers[cut.index]
        if max(cut.heads) >= layer.heads or max(cut.neurons) >= layer.neurons:
            raise ModelError(
                f"the plan keeps head {max(cut.heads)} and neuron {max(cut.neurons)} of layer {cut.index}",
                id="model.plan-mismatch",
                why=f"the layer has {layer.heads} heads and {layer.neurons} neurons",
            )
        _cut_layer(layer, cut)
        attention = layer.module.get_submodule(anatomy_of(model).attention)
        for name in anatomy_of(model).sizes:
            setattr(attention, name, layer.heads if "head" in name and "size" not in name else layer.o.in_features)
    kept = [listed[cut.index] for cut in plan.layers]
    del listed[:]
    listed.extend(kept)
    if plan.hidden is not None:
        cut_stream(model, plan.hidden)
    return model if plan.tokens is None else thin_out(model, plan.tokens)


def _cut_layer(layer: Layer, cut: LayerPlan) -> None:
    import torch

    width = layer.head_width
    columns = torch.tensor([head * width + offset for head in cut.heads for offset in range(width)])
    neurons = torch.tensor(cut.neurons)
    for matrix in (layer.q, layer.k, layer.v):
        keep_outputs(matrix, columns)
    keep_inputs(layer.o, columns)
    keep_outputs(layer.up, neurons)
    keep_inputs(layer.down, neurons)


def keep_outputs(linear: nn.Linear, kept: torch.Tensor) -> None:
    """Keep some output features of a linear layer: weight [out, in] -> [len(kept), in]."""
    from torch import nn

    linear.weight = nn.Parameter(linear.weight.detach()[kept].clone())
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.detach()[kept].clone())
    linear.out_features = len(kept)


def keep_inputs(linear: nn.Linear, kept: torch.Tensor) -> None:
    """Keep some input features of a linear layer: weight [out, in] -> [out, len(kept)]."""
    from torch import nn

    linear.weight = nn.Parameter(linear.weight.detach()[:, kept].clone())
    linear.in_features = len(kept)
