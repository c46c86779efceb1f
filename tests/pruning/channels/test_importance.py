from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from zoo import aim, conv, example, make, task_of

from edgekit.errors import DataError, UsageError
from edgekit.pruning.channels.groups import Unit, find_groups, reading_weights, silence
from edgekit.pruning.channels.importance import Scores, score_units
from edgekit.tasks.base import Batch, Task

pytestmark = pytest.mark.usefixtures("torch_alone")
KINDS = ("magnitude", "taylor", "fisher")


def tiny() -> nn.Module:
    """Three features, four hidden, two classes."""
    torch.manual_seed(2)
    return nn.Sequential(OrderedDict(hidden=nn.Linear(3, 4), act=nn.Sigmoid(), head=nn.Linear(4, 2))).eval()


@pytest.fixture(scope="module")
def task() -> Task:
    """A task whose loss is cross-entropy; the batches name the module's argument themselves."""
    return task_of(tiny, "1x3")


def batches(name: str, count: int, *, dtype: Any = np.float32) -> list[Batch]:
    """Inputs of a module of the zoo with random labels, three in a batch."""
    random = np.random.default_rng(5)
    made = []
    for _ in range(count):
        ((key, value),) = example(name).items()
        values = value.numpy()
        if values.dtype.kind == "f":
            values = random.standard_normal(values.shape).astype(dtype)
        places = values.shape[:2] if name == "tagger" else values.shape[:1]
        made.append({key: values, "labels": random.integers(0, 5, places)})
    return made


def scored(name: str, model: nn.Module, kind: Any, task: Task, samples: list[Batch]) -> tuple[Scores, dict[str, Any]]:
    """Scores of every unit, and the units of each root by its channel."""
    groups = find_groups(model, example(name))
    return score_units(model, groups, aim(task, samples, kind)), {group.root: group.units for group in groups}


@pytest.mark.parametrize("kind", KINDS)
def test_dead_channels_rank_last(task: Task, kind: str) -> None:
    model: Any = make("plain")
    second = model.features[2]
    with torch.no_grad():
        second[0].weight[:, 3] = 0  # nothing reads channel 3 of the first
        second[1].weight[7] = second[1].bias[7] = 0  # channel 7 of the second is zero behind its norm
        model.hidden.weight[:, 16 * 5 : 16 * 6] = 0  # nothing reads the 4 x 4 pixels of channel 5 of the third
        model.hidden.weight[11] = model.hidden.bias[11] = 0  # a neuron that gives nothing
    found, units = scored("plain", model, kind, task, batches("plain", 4))
    dead = [
        units["features.0.0"][3],
        units["features.2.0"][7],
        units["features.4.0"][5],
        units["hidden"][11],
    ]
    assert [found[unit] for unit in dead] == [0, 0, 0, 0]
    alive = {root: [found[unit] for unit in found_here if unit not in dead] for root, found_here in units.items()}
    assert {root: len(scores) for root, scores in alive.items()} == {
        "features.0.0": 15,
        "features.2.0": 31,
        "features.4.0": 31,
        "hidden": 63,
        "head": 0,
    }
    lively = {root: np.mean(np.array(scores) > 0) for root, scores in alive.items() if scores}
    assert min(lively["features.0.0"], lively["features.2.0"], lively["features.4.0"]) > 0.8
    assert lively["hidden"] > 0.3  # a neuron may be silent on 12 samples


def test_a_channel_without_scale_ranks_last_by_bn_scale(task: Task) -> None:
    model: Any = make("inception")
    with torch.no_grad():
        model.first[1][1].weight[4] = 0
        model.second[0][1].weight[9] *= -1  # the sign does not matter
    found, units = scored("inception", model, "bn_scale", task, [])
    assert min(found, key=found.__getitem__) == units["first.1.0"][4]
    scales = model.second[0][1].weight.detach().abs()
    expected = (scales / scales.mean()).tolist()
    assert [found[unit] for unit in units["second.0.0"]] == pytest.approx(expected, rel=1e-5)


def test_bn_scale_adds_up_over_the_norms_of_a_sum(task: Task) -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = conv(3, 4), conv(4, 4)
            self.head = nn.Linear(4, 5)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            stream = self.stem(images)
            return self.head((stream + self.inner(stream)).mean((2, 3)))

    model = Summed().eval()
    for block, scales in ((model.stem, (1.0, 2.0, 3.0, 4.0)), (model.inner, (0.5, -1.0, 0.0, 0.5))):
        block[1].weight.data = torch.tensor(scales)
    groups = find_groups(model, {"images": torch.randn(2, 3, 8, 8)})
    found = score_units(model, groups, aim(task, [], "bn_scale"))
    by_channel = {min(unit.on(("stem.0", "outputs"))): score for unit, score in found.items()}
    assert by_channel == pytest.approx({0: 1.5 / 3, 1: 3.0 / 3, 2: 3.0 / 3, 3: 4.5 / 3})


@pytest.mark.parametrize("name", ["plain", "tagger"])
def test_bn_scale_is_refused_where_a_channel_has_no_norm(task: Task, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        scored(name, make(name), "bn_scale", task, [])
    assert caught.value.what == "importance by bn_scale needs a batch norm behind every channel that can go"
    assert caught.value.hint == "Choose another one: --set prune.importance=taylor."


def gated_gradients(model: Any, samples: list[Batch]) -> Any:
    """For each batch, the gradient of the loss by a gate on each hidden channel: [batches, channels]."""
    rows = []
    for batch in samples:
        gate = torch.ones(4, requires_grad=True)
        hidden = model.act(model.hidden(torch.from_numpy(batch["input"]))) * gate
        loss = functional.cross_entropy(model.head(hidden), torch.from_numpy(batch["labels"]))
        rows.append(torch.autograd.grad(loss, gate)[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("kind", ["taylor", "fisher"])
def test_gradients_of_a_tiny_net_are_those_of_gates(task: Task, kind: Any) -> None:
    model, random = tiny(), np.random.default_rng(1)
    samples = [
        {"input": random.standard_normal((6, 3)).astype(np.float32), "labels": random.integers(0, 2, 6)}
        for _ in range(5)
    ]
    groups = find_groups(model, {"input": torch.randn(2, 3)})
    found = score_units(model, groups, aim(task, samples, kind))
    gradients = gated_gradients(model, samples)
    expected = np.abs(gradients).mean(0) if kind == "taylor" else np.square(gradients).mean(0)
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose([found[unit] for unit in groups[0].units], expected, rtol=1e-4)


def test_taylor_of_one_weight_by_hand(task: Task) -> None:
    """Loss of ``x -> a x -> (b a x, 0)``: its derivative by b is ``-(1 - p) a x``, where p is the right class's."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False)).eval()
    model[0].weight.data = torch.tensor([[2.0], [0.5]])
    model[1].weight.data = torch.tensor([[0.3, 0.8], [0.0, 0.0]])
    groups = find_groups(model, {"input": torch.randn(2, 1)})
    sample = {"input": np.array([[1.5]], np.float32), "labels": np.array([0])}
    found = score_units(model, groups, aim(task, [sample], "taylor"))
    logit = 0.3 * 2.0 * 1.5 + 0.8 * 0.5 * 1.5
    wrong = 1 - 1 / (1 + np.exp(-logit))
    assert [found[unit] for unit in groups[0].units] == pytest.approx([0.3 * wrong * 3.0, 0.8 * wrong * 0.75], rel=1e-5)


def shrunk_loss(model: nn.Module, task: Task, batch: Batch, unit: Unit, share: float) -> float:
    """The loss when what reads a unit is smaller by a share."""
    shrunk = copy.deepcopy(model)
    with torch.no_grad():
        for name, side, index in sorted(unit.atoms):
            if side == "inputs":
                for weights in reading_weights(shrunk.get_submodule(name), [index]):
                    weights.mul_(1 - share)
        tensors = {key: torch.from_numpy(values) for key, values in batch.items()}
        return float(task.loss(task.call(shrunk, tensors).logits, tensors["labels"]))


@pytest.mark.parametrize(
    "name", ["plain", "residual", "inception", "separable", "grouped", "upsampled", "squeezed", "signal"]
)
def test_taylor_is_the_first_order_change_of_the_loss(task: Task, name: str) -> None:
    model = make(name).double()
    groups = find_groups(model, {key: value.double() for key, value in example(name).items()})
    (batch,) = batches(name, 1, dtype=np.float64)
    found = score_units(model, groups, aim(task, [batch], "taylor"))
    share = 1e-5
    for group in groups:
        for unit in group.units[1::5]:
            more, less = (shrunk_loss(model, task, batch, unit, each) for each in (share, -share))
            assert found[unit] == pytest.approx(abs(more - less) / (2 * share), rel=1e-3, abs=1e-8)


def test_magnitude_is_what_writes_times_what_reads_against_the_groups_mean(task: Task) -> None:
    model: Any = make("perceptron")
    found, units = scored("perceptron", model, "magnitude", task, [])
    assert scored("perceptron", model, "weights", task, [])[0] == found
    norm, middle, last = model.layers[1], model.layers[3], model.layers[5]
    through_norm = (norm.weight**2 + norm.bias**2).sqrt() * middle.weight.norm(dim=0)
    plain = (middle.weight.norm(dim=1) ** 2 + middle.bias**2).sqrt() * last.weight.norm(dim=0)
    for root, expected in (("layers.0", through_norm), ("layers.3", plain)):
        given = [found[unit] for unit in units[root]]
        assert given == pytest.approx((expected / expected.mean()).tolist(), rel=1e-4)
        assert np.mean(given) == pytest.approx(1.0)


def test_magnitude_of_a_transposed_convolution_is_that_of_its_columns(task: Task) -> None:
    model: Any = make("upsampled")
    found, units = scored("upsampled", model, "magnitude", task, [])
    written = (model.up.weight.square().sum((0, 2, 3)) + model.up.bias**2).sqrt()
    expected = written * model.last[0].weight[:, 16:].square().sum((0, 2, 3)).sqrt()
    assert [found[unit] for unit in units["up"]] == pytest.approx((expected / expected.mean()).tolist(), rel=1e-4)


def test_scores_of_a_dead_group_are_zero(task: Task) -> None:
    model: Any = make("perceptron")
    model.layers[5].weight.data.zero_()
    found, units = scored("perceptron", model, "magnitude", task, [])
    assert {found[unit] for unit in units["layers.3"]} == {0.0}


@pytest.mark.parametrize("kind", ["taylor", "fisher"])
def test_gradients_need_labels(task: Task, kind: str) -> None:
    (batch,) = batches("plain", 1)
    del batch["labels"]
    with pytest.raises(DataError, match=f"^importance by {kind} needs labels, and the training data has none$"):
        scored("plain", make("plain"), kind, task, [batch])


def test_weights_may_be_frozen_and_stay_so(task: Task) -> None:
    model = make("grouped").requires_grad_(False)
    samples = batches("grouped", 2)
    found, _ = scored("grouped", model, "taylor", task, samples)
    free, _ = scored("grouped", make("grouped"), "taylor", task, samples)
    assert found == free
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes that two of ten features tell apart by their angle."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 10, generator=generator)
    return values, (torch.atan2(values[:, 0], values[:, 1]) * 3 / 6.2832 + 1.5).long().clamp(0, 2)


def learner() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(10, 48),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.Linear(48, 48),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.Linear(48, 3),
    )


@pytest.fixture(scope="module")
def trained(torch_alone: Any) -> nn.Module:
    """A small net that has learned its task."""
    model, (values, labels) = learner(), blobs(512, 0)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        functional.cross_entropy(model(values), labels).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("kind", [*KINDS, "bn_scale"])
def test_each_importance_beats_chance_at_the_same_cost(task: Task, trained: nn.Module, kind: Any) -> None:
    values, labels = blobs(512, 0)
    groups = find_groups(trained, {"input": values[:4]})
    assert [len(group.units) for group in groups] == [48, 48, 0]
    rows = [slice(start, start + 32) for start in range(0, 512, 32)]
    samples = [{"input": values[part].numpy(), "labels": labels[part].numpy()} for part in rows]
    found = score_units(trained, groups, aim(task, samples, kind))
    others, expected = blobs(512, 1)

    def loss_without(order: Any) -> float:
        silenced = copy.deepcopy(trained)
        silence(silenced, [unit for group in groups for unit in order(group.units)[:12]])
        with torch.no_grad():
            return float(functional.cross_entropy(silenced(others), expected))

    random = np.random.default_rng(3)
    chance = [loss_without(lambda units: [units[i] for i in random.permutation(len(units))]) for _ in range(9)]
    assert loss_without(lambda units: sorted(units, key=found.__getitem__)) < np.median(chance)
    assert loss_without(lambda units: sorted(units, key=found.__getitem__, reverse=True)) > np.median(chance)
