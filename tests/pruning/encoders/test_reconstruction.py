from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import tiny

from edgekit.formats.encoder import encoder_layers
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay, whole_plan
from edgekit.pruning.encoders.reconstruction import fit, replay_reconstructed, sum_products
from edgekit.tasks.base import Task


@pytest.fixture
def model(torch_alone: Any) -> Any:
    """A classifier in whose first layer the second head and the second neuron are copies of the first."""
    made = tiny.build("bert", layers=2)
    layer = encoder_layers(made)[0]
    with torch_alone.no_grad():
        for matrix in (layer.q, layer.k, layer.v):
            matrix.weight[8:16], matrix.bias[8:16] = matrix.weight[:8], matrix.bias[:8]
        layer.up.weight[1], layer.up.bias[1] = layer.up.weight[0], layer.up.bias[0]
    return made


@pytest.fixture
def task(tmp_path: Any, model: Any) -> Task:
    return tiny.task_for(tiny.save(model, tmp_path / "model"))


def without_copies(model: Any) -> EncoderPlan:
    whole = whole_plan(model)
    first = LayerPlan(index=0, heads=(0, 2, 3), neurons=(0, *range(2, tiny.NEURONS)))
    return EncoderPlan(architecture=whole.architecture, layers=(first, *whole.layers[1:]))


def test_what_is_left_takes_over_what_a_copy_of_it_did(model: Any, task: Task) -> None:
    *seen, batch = tiny.batches(task, 72)
    whole = tiny.logits(task, model, batch)
    cut = replay(copy.deepcopy(model), without_copies(model))
    replay_reconstructed(model, without_copies(model), sum_products(model, task, seen))
    fitted = tiny.logits(task, model, batch)
    assert fitted.shape == whole.shape
    lost = np.abs(tiny.logits(task, cut, batch) - whole).max()
    assert np.abs(fitted - whole).max() < 0.1 * lost


def test_a_fit_to_everything_changes_nothing(torch_alone: Any) -> None:
    torch = torch_alone
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    rows = torch.cat([torch.randn(50, 5), torch.ones(50, 1)], dim=1).double()
    weight, bias = fit(linear, rows.T @ rows, list(range(5)))
    assert torch.allclose(weight, linear.weight, atol=1e-5)
    assert torch.allclose(bias, linear.bias, atol=1e-5)


def test_the_bias_takes_over_the_mean_of_what_is_gone(torch_alone: Any) -> None:
    torch = torch_alone
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 2)
    rows = torch.randn(4000, 4).double()
    rows[:, 2], rows[:, 3] = 2.0 + 0.01 * rows[:, 2], 1.0
    weight, bias = fit(linear, rows.T @ rows, [0, 1])
    assert weight.shape == (2, 2)
    assert torch.allclose(bias, linear.bias + 2.0 * linear.weight[:, 2], atol=0.05)


def test_of_a_last_layer_that_is_read_at_its_first_token_only_that_counts(model: Any, task: Task) -> None:
    (batch,) = tiny.batches(task, 8)
    first, last = sum_products(model, task, [batch])
    assert task.reads_first_token
    assert (float(first.mixed[-1, -1]), float(last.activated[-1, -1])) == (batch["attention_mask"].sum(), 8)
    assert first.activated.shape == (tiny.NEURONS + 1, tiny.NEURONS + 1)
