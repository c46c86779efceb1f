from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from zoo import example, make, task_of

from edgekit.pruning.channels.recalibration import recalibrate
from edgekit.tasks.base import Batch, Task

pytestmark = pytest.mark.usefixtures("torch_alone")


@pytest.fixture(scope="module")
def task() -> Task:
    return task_of(lambda: make("perceptron"), "1x12")


def batches(count: int, key: str = "features", shape: tuple[int, ...] = (12,)) -> list[Batch]:
    random = np.random.default_rng(4)
    return [{key: random.normal(2.0, 3.0, (8, *shape)).astype(np.float32)} for _ in range(count)]


def test_statistics_are_the_mean_over_the_batches(task: Task) -> None:
    model: Any = make("perceptron")
    samples = batches(5)
    assert recalibrate(model, task, samples) == 1
    with torch.no_grad():
        seen = [model.layers[0](torch.from_numpy(batch["features"])) for batch in samples]
    norm = model.layers[1]
    torch.testing.assert_close(norm.running_mean, torch.stack([each.mean(0) for each in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([each.var(0) for each in seen]).mean(0))
    assert int(norm.num_batches_tracked) == 5


def test_nothing_but_statistics_changes(task: Task) -> None:
    model = make("residual")
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    norms[0].momentum = 0.3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert recalibrate(model, task, batches(2, "images", (3, 16, 16))) == len(norms) == 4
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    assert len(changed) == 3 * len(norms)
    assert [norm.momentum for norm in norms] == [0.3, 0.1, 0.1, 0.1]
    assert not any(layer.training for layer in model.modules())


def test_a_module_without_statistics_is_left_alone(task: Task) -> None:
    model = nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    assert recalibrate(model, task, iter(batches(1))) == 0
    assert recalibrate(make("tagger"), task, iter([example("tagger")])) == 0  # type: ignore[list-item]  # not read
