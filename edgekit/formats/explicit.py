"""A component for a runtime of fixed shapes: named outputs, and an encoder that computes neither mask nor positions.

Left to themselves, transformers' encoders count positions from the ids and expand the mask by indexing, which becomes
GATHER_ND and CUMSUM, and those some runtimes do not have. Handed an additive mask [batch, 1, 1, tokens] and positions
that are constants, they do neither. Both are handed over where the encoder is called, so that whatever wraps it stays
as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgekit.formats.encoder import is_encoder
from edgekit.tasks.base import MASK, ComponentSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

# Added to the score of a token that is not there; exp(-10000) is 0 in float32, and the number fits float16. BERT's own.
NOT_THERE = -10_000.0
IDS = "input_ids"


def with_named_outputs(spec: ComponentSpec) -> nn.Module:
    """A module that takes the component's inputs by name and returns its outputs by name."""
    import torch

    class Component(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *values: torch.Tensor, **named: torch.Tensor) -> dict[str, torch.Tensor]:
            inputs = dict(zip(spec.example, values, strict=False)) | named
            with explicit_inputs(self.module, inputs):
                found = self.module(**inputs)
            given = found if isinstance(found, (tuple, list)) else (found,)
            return dict(zip(spec.outputs, given, strict=True))

    # torch.export names free dimensions by the parameters of `forward`, and takes no collection of them
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *spec.example)]
    Component.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Component(spec.module).eval()


@contextmanager
def explicit_inputs(module: nn.Module, inputs: dict[str, torch.Tensor]) -> Iterator[None]:
    """While this lasts, a text encoder inside the module is handed its mask and positions; without one nothing changes.

    Args:
        module: holds a model of transformers, or none.
        inputs: ``input_ids`` and ``attention_mask``, [batch, tokens], real tokens first.
    """
    encoder = next((part for part in module.modules() if is_encoder(part) and _takes(part, MASK)), None)
    if encoder is None or not {IDS, MASK} <= inputs.keys():
        yield
        return

    def hand_over(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs | _explicit(encoder, inputs)

    hook = encoder.register_forward_pre_hook(hand_over, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _explicit(encoder: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    import torch

    ids, mask = inputs[IDS], inputs[MASK]
    found = {MASK: (1.0 - mask[:, None, None, :].to(torch.float32)) * NOT_THERE}
    if _takes(encoder, "position_ids"):
        found["position_ids"] = torch.arange(ids.shape[1])[None] + first_position(encoder)
    return found


def first_position(encoder: nn.Module) -> int:
    """The first row of the position table that a token uses: RoBERTa and its kin start behind the padding index."""
    for part in encoder.modules():
        padding = getattr(getattr(part, "position_embeddings", None), "padding_idx", None)
        if padding is not None:
            return int(padding) + 1
    return 0


def _takes(module: nn.Module, name: str) -> bool:
    return name in inspect.signature(module.forward).parameters
