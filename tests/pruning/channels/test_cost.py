from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from zoo import ZOO, example, make

from edgekit.formats.channels import cut_channels
from edgekit.pruning.channels.cost import LayerMacs, MacCounter
from edgekit.pruning.channels.groups import Unit, find_groups, plan_without, removed_channels

pytestmark = pytest.mark.usefixtures("torch_alone")
# What the zoo costs by its layers' sizes; an LSTM and an embedding are not counted.
KNOWN = {
    "plain": 16 * 16 * 16 * 3 * 9 + 8 * 8 * 32 * 16 * 9 + 4 * 4 * 32 * 32 * 9 + 512 * 64 + 64 * 5,
    "separable": 256 * (16 * 3 * 9 + 16 * 9 + 32 * 16 + 64 * 32 + 64 * 9 + 32 * 64) + 32 * 5,
    "grouped": 256 * (32 * 3 * 9 + 32 * 8 * 9 + 32 * 32) + 32 * 5,
    "perceptron": 12 * 64 + 64 * 48 + 48 * 5,
    "tagger": 10 * (32 * 64 + 64 * 5),
    "upsampled": 256 * 16 * 3 * 9 + 64 * 24 * 16 * 9 + 64 * 24 * 16 * 4 + 256 * 24 * 32 * 9 + 24 * 5,
    "signal": 18 * 16 * 4 * 5 + 8 * 24 * 16 * 3 + 192 * 5,
}


def count(layer: nn.Module, *shape: int) -> MacCounter:
    return MacCounter.of(nn.Sequential(layer).eval(), {"input": torch.randn(3, *shape)})


def torch_macs(model: nn.Module, inputs: dict[str, torch.Tensor]) -> float:
    """torch's own count of one sample."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return counter.get_total_flops() / 2 / len(next(iter(inputs.values())))


@functools.cache
def zoo_units(name: str) -> list[list[Unit]]:
    """The units of each group."""
    return [list(group.units) for group in find_groups(make(name), example(name))]


def some_of(name: str, seed: int) -> list[Unit]:
    generator = torch.Generator().manual_seed(seed)
    return [unit for units in zoo_units(name) for unit in units[1:] if torch.rand((), generator=generator) < 0.6]


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (3, 16, 16), LayerMacs(8 * 8 * 8 * 3 * 9, 8, 3)),
        (nn.Conv2d(3, 8, (1, 5), padding=(0, 2)), (3, 6, 7), LayerMacs(6 * 7 * 8 * 3 * 5, 8, 3)),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), (8, 6, 7), LayerMacs(6 * 7 * 8 * 25, 8, 0)),
        (nn.Conv2d(8, 12, 3, groups=4), (8, 6, 7), LayerMacs(4 * 5 * 12 * 2 * 9, 12, 8)),
        (nn.Conv2d(4, 1, 1), (4, 6, 7), LayerMacs(6 * 7 * 4, 1, 4)),
        (nn.Conv1d(4, 6, 3, dilation=2), (4, 20), LayerMacs(16 * 6 * 4 * 3, 6, 4)),
        (nn.Conv3d(2, 3, 2), (2, 4, 5, 6), LayerMacs(3 * 4 * 5 * 3 * 2 * 8, 3, 2)),
        (nn.ConvTranspose2d(6, 4, 2, 2), (6, 8, 9), LayerMacs(8 * 9 * 6 * 4 * 4, 4, 6)),
        (nn.ConvTranspose2d(6, 4, 3, 2), (6, 8, 9), LayerMacs(8 * 9 * 6 * 4 * 9, 4, 6)),
        (nn.ConvTranspose2d(6, 6, 3, 2, groups=6), (6, 8, 9), LayerMacs(8 * 9 * 6 * 9, 6, 0)),
        (nn.Linear(20, 5), (20,), LayerMacs(100, 5, 20)),
        (nn.Linear(20, 5), (7, 20), LayerMacs(700, 5, 20)),
    ],
)
def test_a_layer_costs_what_its_products_are(layer: nn.Module, shape: tuple[int, ...], expected: LayerMacs) -> None:
    counter = count(layer, *shape)
    assert counter.layers == {"0": expected}
    assert counter.total({}) == expected.macs == torch_macs(layer, {"input": torch.randn(2, *shape)})


@pytest.mark.parametrize("name", KNOWN)
def test_modules_cost_what_their_layers_do(name: str) -> None:
    assert MacCounter.of(make(name), example(name)).total({}) == KNOWN[name]


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"tagger"}))
def test_the_count_is_torchs_before_and_after_cutting(name: str) -> None:
    model, inputs = make(name), example(name)
    counter = MacCounter.of(model, inputs)
    assert counter.total({}) == torch_macs(model, inputs)
    gone = some_of(name, 0)
    cut = cut_channels(copy.deepcopy(model), plan_without(model, gone))
    assert counter.total(removed_channels(gone)) == torch_macs(cut, inputs) < counter.total({})


@pytest.mark.parametrize("name", ZOO)
def test_the_total_without_channels_is_a_fresh_count_of_the_cut_module(name: str) -> None:
    model, inputs = make(name), example(name)
    counter = MacCounter.of(model, inputs)
    for seed in (1, 2, 3):
        gone = some_of(name, seed)
        cut = cut_channels(copy.deepcopy(model), plan_without(model, gone))
        assert counter.total(removed_channels(gone)) == MacCounter.of(cut, inputs).total({})


def test_outputs_and_inputs_that_are_gone_multiply() -> None:
    counter = count(nn.Conv2d(4, 10, 3, padding=1), 4, 5, 5)
    whole = 25 * 10 * 4 * 9
    assert counter.total({("0", "outputs"): {0, 9}}) == whole * 8 // 10
    assert counter.total({("0", "inputs"): {2}}) == whole * 3 // 4
    assert counter.total({("0", "outputs"): {0, 9}, ("0", "inputs"): {2}}) == whole * 8 * 3 // 40
    assert counter.total({("another", "outputs"): {0, 9}}) == whole
    assert counter.saved({("0", "inputs"): {2, 3}}) == whole // 2


def test_a_depthwise_convolution_costs_by_its_outputs_alone() -> None:
    counter = count(nn.Conv2d(8, 8, 3, padding=1, groups=8), 8, 5, 5)
    assert counter.total({("0", "outputs"): {1, 3}, ("0", "inputs"): {1, 3}}) == 25 * 9 * 6


def test_a_layer_that_is_called_twice_costs_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.shared(self.shared(x))

    assert MacCounter.of(Twice(), {"x": torch.randn(2, 6)}).layers == {"shared": LayerMacs(72, 6, 6)}


def test_counting_does_not_depend_on_the_number_of_samples_and_leaves_no_hook() -> None:
    model = make("residual")
    totals = {MacCounter.of(model, example("residual", batch)).total({}) for batch in (2, 3, 5)}
    assert totals == {4567200}
    assert not any(layer._forward_hooks for layer in model.modules())
    with pytest.raises(RuntimeError, match="expected"):
        MacCounter.of(model, {"images": torch.randn(2, 4, 8, 8)})
    assert not any(layer._forward_hooks for layer in model.modules())
