"""What channels cost: multiply-accumulates of one sample, exact for any set of channels that are gone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edgekit.formats.torch import hooked
from edgekit.pruning.channels.groups import Face

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class LayerMacs:
    """A layer's multiply-accumulates, and the channels that they grow with.

    Attributes:
        macs: of one sample.
        outputs, inputs: channels; ``inputs`` is 0 where each output reads its own input alone.
    """

    macs: int
    outputs: int
    inputs: int


@dataclass(frozen=True)
class MacCounter:
    """Multiply-accumulates of convolutions and linear layers, by the layer's name."""

    layers: Mapping[str, LayerMacs]

    @classmethod
    def of(cls, model: nn.Module, example: dict[str, torch.Tensor]) -> MacCounter:
        """Run the module once and count: an output takes a kernel's worth of products for each input it reads."""
        import torch
        from torch_pruning import ops

        counted: dict[str, LayerMacs] = {}
        samples = len(next(iter(example.values())))
        handles = []
        for name, layer in model.named_modules():
            if isinstance(layer, (ops.TORCH_CONV, torch.nn.Linear)):
                handles.append(cast("nn.Module", layer).register_forward_hook(_counting(counted, name, samples)))
        with hooked(handles), torch.no_grad():
            model(**example)
        return cls(counted)

    def total(self, gone: Mapping[Face, set[int]]) -> int:
        """The module's multiply-accumulates without some channels."""
        total = 0.0
        for name, layer in self.layers.items():
            outputs = 1 - len(gone.get((name, "outputs"), ())) / layer.outputs
            inputs = 1 - len(gone.get((name, "inputs"), ())) / layer.inputs if layer.inputs else 1.0
            total += layer.macs * outputs * inputs
        return round(total)

    def saved(self, unit: Mapping[Face, set[int]]) -> int:
        """What a unit saves when it goes first."""
        return self.total({}) - self.total(unit)


def _counting(counted: dict[str, LayerMacs], name: str, samples: int) -> Any:
    def hook(layer: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if hasattr(layer, "kernel_size"):
            places = args[0].numel() // args[0].shape[1] if layer.transposed else output.numel() // output.shape[1]
            depthwise = layer.groups == layer.out_channels > 1
            products = layer.in_channels // layer.groups * layer.out_channels * math.prod(layer.kernel_size)
            found = LayerMacs(places * products // samples, layer.out_channels, 0 if depthwise else layer.in_channels)
        else:
            places = output.numel() // output.shape[-1]
            found = LayerMacs(
                places * layer.in_features * layer.out_features // samples, layer.out_features, layer.in_features
            )
        earlier = counted.get(name)
        macs = found.macs + (earlier.macs if earlier else 0)  # a layer that is called twice counts twice
        counted[name] = LayerMacs(macs, found.outputs, found.inputs)

    return hook
