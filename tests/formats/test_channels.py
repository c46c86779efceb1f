from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from zoo import example, make, task_of

from edgekit.errors import ModelError
from edgekit.formats.channels import ChannelPlan, LayerChannels, cut_channels, layer_pruner
from edgekit.formats.plans import read_plan, save_plan
from edgekit.formats.torch import load_model, save_weights

pytestmark = pytest.mark.usefixtures("torch_alone")
Kept = tuple[int, ...]


def plan(*layers: tuple[str, Kept | None, Kept | None], architecture: str = "Sequential") -> ChannelPlan:
    """A plan of (layer, outputs, inputs)."""
    cuts = tuple(LayerChannels(layer=name, outputs=outputs, inputs=inputs) for name, outputs, inputs in layers)
    return ChannelPlan(architecture=architecture, layers=cuts)


def cut(layer: nn.Module, outputs: Kept | None = None, inputs: Kept | None = None) -> Any:
    """A layer after it was cut alone."""
    model = nn.Sequential(copy.deepcopy(layer))
    return cut_channels(model, plan(("0", outputs, inputs)))[0]  # type: ignore[index]


def perceptron() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)
    ).eval()


FIRST = plan(
    ("0", (0, 2, 3, 5, 7), None),
    ("1", (0, 2, 3, 5, 7), None),
    ("3", (1, 2, 3, 5), (0, 2, 3, 5, 7)),
    ("5", None, (1, 2, 3, 5)),
)


@pytest.mark.parametrize(
    ("layer", "columns"),
    [
        (nn.Conv2d(4, 6, 3), lambda weight, out, read: weight[out][:, read]),
        (nn.Conv1d(4, 6, 3), lambda weight, out, read: weight[out][:, read]),
        (nn.ConvTranspose2d(4, 6, 3), lambda weight, out, read: weight[read][:, out]),
        (nn.Linear(4, 6), lambda weight, out, read: weight[out][:, read]),
    ],
)
def test_a_layer_keeps_the_rows_and_columns_of_the_plan(layer: Any, columns: Callable[..., torch.Tensor]) -> None:
    found = cut(layer, outputs=(0, 3, 4), inputs=(1, 3))
    assert torch.equal(found.weight, columns(layer.weight, [0, 3, 4], [1, 3]))
    assert torch.equal(found.bias, layer.bias[[0, 3, 4]])
    linear = isinstance(layer, nn.Linear)
    sizes = (found.out_features, found.in_features) if linear else (found.out_channels, found.in_channels)
    assert sizes == (3, 2)
    only = cut(layer, inputs=(1, 3))
    assert torch.equal(only.bias, layer.bias)
    assert torch.equal(only.weight, columns(layer.weight, list(range(6)), [1, 3]))


def test_a_batch_norm_keeps_its_statistics() -> None:
    layer = nn.BatchNorm2d(5)
    for index, values in enumerate((layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var)):
        values.copy_(torch.arange(5.0) + 10 * index)  # type: ignore[union-attr]  # tensors, since it tracks and scales
    found = cut(layer, outputs=(1, 4))
    parts = (found.weight, found.bias, found.running_mean, found.running_var)
    assert [part.tolist() for part in parts] == [[1, 4], [11, 14], [21, 24], [31, 34]]
    assert found.num_features == 2


def test_a_depthwise_convolution_keeps_filters_and_groups() -> None:
    layer = nn.Conv2d(5, 5, 3, groups=5)
    found = cut(layer, outputs=(0, 2, 3))
    assert torch.equal(found.weight, layer.weight[[0, 2, 3]])
    assert (found.groups, found.in_channels, found.out_channels) == (3, 3, 3)


def test_a_grouped_convolution_keeps_the_same_places_of_each_group() -> None:
    layer = nn.Conv2d(6, 8, 1, groups=2)
    found = cut(layer, outputs=(1, 2, 5, 6), inputs=(0, 2, 3, 5))
    assert torch.equal(found.weight, layer.weight[[1, 2, 5, 6]][:, [0, 2]])
    x = torch.randn(2, 6, 3, 3)
    silent = copy.deepcopy(layer)
    silent.weight.data[:, 1] = 0
    torch.testing.assert_close(found(x[:, [0, 2, 3, 5]]), silent(x)[:, [1, 2, 5, 6]])


def test_an_activation_with_many_weights_keeps_some() -> None:
    layer = nn.PReLU(4)
    layer.weight.data = torch.arange(4.0)
    assert cut(layer, outputs=(1, 3)).weight.tolist() == [1.0, 3.0]


def test_a_plan_of_nothing_changes_nothing() -> None:
    model, whole = perceptron(), perceptron()
    cut_channels(model, plan())
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_plan_comes_back_from_disk(tmp_path: Path) -> None:
    save_plan(FIRST, tmp_path)
    found = read_plan(tmp_path)
    assert found == FIRST
    assert isinstance(found, ChannelPlan)
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["schema"] == "edgekit.plan/1"
    assert written["kind"] == "channels"
    assert written["layers"][3] == {"layer": "5", "outputs": None, "inputs": [1, 2, 3, 5]}
    assert ChannelPlan.model_validate_json(FIRST.model_dump_json(by_alias=True)) == FIRST


def test_two_plans_after_one_another_are_one() -> None:
    later = plan(("0", (0, 4), None), ("1", (0, 4), None), ("3", None, (0, 4)))
    both = FIRST.then(later)
    assert both == plan(
        ("0", (0, 7), None), ("1", (0, 7), None), ("3", (1, 2, 3, 5), (0, 7)), ("5", None, (1, 2, 3, 5))
    )
    once, twice = perceptron(), perceptron()
    cut_channels(once, both)
    cut_channels(cut_channels(twice, FIRST), later)
    assert once.state_dict().keys() == twice.state_dict().keys()
    assert all(torch.equal(value, twice.state_dict()[name]) for name, value in once.state_dict().items())
    assert tuple(once[3].weight.shape) == (4, 2)  # type: ignore[index]  # a Sequential


def test_a_later_plan_may_cut_what_the_earlier_left_whole() -> None:
    earlier, later = (
        plan(("3", (0, 2, 4), None), ("5", None, (0, 2, 4))),
        plan(("0", (1, 2), None), ("1", (1, 2), None), ("3", None, (1, 2))),
    )
    assert earlier.then(later) == plan(
        ("3", (0, 2, 4), (1, 2)), ("5", None, (0, 2, 4)), ("0", (1, 2), None), ("1", (1, 2), None)
    )
    assert plan().then(later) == later
    assert later.then(plan()) == later


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (plan(architecture="ResNet20"), "the plan is for ResNet20\nthe module is Sequential"),
        (plan(("9", (0,), None)), "the plan cuts the layer '9'\nthe module has no layer of that name"),
        (plan(("2", (0,), None)), "the plan cuts the layer '2'\na ReLU cannot be cut"),
        (plan(("6", (0,), None)), "the plan cuts the layer '6'\na PReLU cannot be cut"),
        (plan(("0", (0, 8), None)), "the plan keeps channel 8 of '0'\nthe layer has 8 channels"),
        (plan(("0", None, (2, 3))), "the plan keeps channel 3 of '0'\nthe layer has 3 channels"),
    ],
)
def test_a_plan_that_does_not_fit_is_an_error(wrong: ChannelPlan, message: str) -> None:
    model = nn.Sequential(*perceptron(), nn.PReLU())  # type: ignore[misc]  # a Sequential
    with pytest.raises(ModelError) as caught:
        cut_channels(model, wrong)
    assert str(caught.value) == message


def test_a_layer_without_channels_cannot_be_cut() -> None:
    assert layer_pruner(nn.Linear(2, 3), "x").get_in_channels(nn.Linear(2, 3)) == 2
    with pytest.raises(ModelError, match=r"^the plan cuts the layer 'x'\na GRU cannot be cut$"):
        layer_pruner(nn.GRU(2, 3), "x")


@pytest.mark.parametrize("kept", [(), (1, 1), (2, 1), (-1, 0)])
@pytest.mark.parametrize("side", ["outputs", "inputs"])
def test_what_stays_ascends(side: str, kept: Kept) -> None:
    with pytest.raises(ValidationError):
        LayerChannels.model_validate({"layer": "0", side: kept})


def test_a_pruned_module_is_loaded_again(tmp_path: Path) -> None:
    task = task_of(lambda: make("grouped"), "1x3x16x16")
    model = task.load_model()
    places = tuple(range(0, 32, 8)), tuple(sorted((*range(0, 32, 8), *range(3, 32, 8))))
    thin = plan(
        ("stem.0", places[1], None),
        ("stem.1", places[1], None),
        ("grouped.0", places[0], places[1]),
        ("grouped.1", places[0], None),
        ("point.0", None, places[0]),
        architecture="Grouped",
    )
    cut_channels(model, thin)
    save_weights(model, tmp_path, thin)
    (tmp_path / "module.json").write_bytes((task.folder / "module.json").read_bytes())
    loaded, found = load_model(task.at(tmp_path))
    assert found == thin
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(**example("grouped")), model(**example("grouped")))
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "module.json", "plan.json"}
    save_plan(plan(architecture="Grouped"), tmp_path)
    with pytest.raises(ModelError, match="do not fit its plan"):
        load_model(task.at(tmp_path))
