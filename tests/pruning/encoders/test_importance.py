from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny import ARCHITECTURES, HEADS, LAYERS, NEURONS, batches, build, logits, save, task_for

from edgekit.errors import DataError
from edgekit.formats.encoder import encoder_layers
from edgekit.pruning.encoders.importance import _gated, _Gates, score_importance
from edgekit.tasks.base import Task

KINDS = ("magnitude", "taylor", "fisher")


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    return {name: task_for(save(build(name), tmp_path_factory.mktemp(name))) for name in ARCHITECTURES}


def kill_head(layer: Any, head: int) -> None:
    width = layer.head_width
    layer.o.weight.data[:, head * width : (head + 1) * width] = 0


def kill_layer(layer: Any) -> None:
    """Nothing is added to the residual stream, and what normalises it behind finds it normal."""
    for matrix in (layer.o, layer.down):
        matrix.weight.data.zero_()
        matrix.bias.data.zero_()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_scores_have_the_shape_of_the_model(tasks: dict[str, Task], family: str, kind: Any) -> None:
    task = tasks[family]
    found = score_importance(task.load_model(), kind, task, batches(task, 16))
    assert found.layers.shape == (LAYERS,)
    assert [head.shape for head in found.heads] == [(HEADS,)] * LAYERS
    assert [neuron.shape for neuron in found.neurons] == [(NEURONS,)] * LAYERS
    assert all((values > 0).all() for values in (found.layers, *found.heads))
    assert all(np.isfinite(values).all() for values in found.neurons)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_dead_heads_and_neurons_rank_last(tasks: dict[str, Task], family: str, kind: Any) -> None:
    task = tasks[family]
    model = task.load_model()
    layers = encoder_layers(model)
    kill_head(layers[0], 2)
    kill_head(layers[1], 0)
    layers[2].down.weight.data[:, [5, 60]] = 0  # nothing reads them
    layers[1].up.weight.data[7] = 0  # they give nothing
    layers[1].up.bias.data[7] = 0
    found = score_importance(model, kind, task, batches(task, 32))
    heads, neurons = np.concatenate(found.heads), np.concatenate(found.neurons)
    assert set(np.argsort(heads)[:2]) == {2, HEADS}
    assert heads[2] == heads[HEADS] == 0
    dead = {NEURONS + 7, 2 * NEURONS + 5, 2 * NEURONS + 60}
    assert dead <= set(np.flatnonzero(neurons == 0))
    alive = np.delete(neurons, list(dead))
    assert np.mean(alive > 0) > 0.8  # a neuron of the last layer may be silent on 32 samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", range(LAYERS))
@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_a_dead_layer_ranks_last(tasks: dict[str, Task], family: str, dead: int, kind: Any) -> None:
    task = tasks[family]
    model = task.load_model()
    kill_layer(encoder_layers(model)[dead])
    if family != "vit":  # what comes in is normalised already, so that normalising it again changes nothing
        import torch

        for name, parameter in model.named_parameters():
            if "layernorm" in name.lower() or "layer_norm" in name.lower():
                torch.nn.init.constant_(parameter, float(name.endswith("weight")))
    found = score_importance(model, kind, task, batches(task, 32))
    assert found.layers.argmin() == dead
    assert found.layers[dead] < 1e-3 * np.delete(found.layers, dead).min()


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_taylor_is_the_mean_of_absolute_gradients_and_fisher_of_their_squares(
    tasks: dict[str, Task], family: str
) -> None:
    import torch

    task = tasks[family]
    model = task.load_model()
    samples = batches(task, 6, size=1)
    layer = encoder_layers(model)[1]
    gradients = []
    for batch in samples:
        gate = torch.ones(HEADS, requires_grad=True)

        def scale(_: Any, args: Any, gate: Any = gate) -> Any:
            return ((args[0].unflatten(-1, (HEADS, layer.head_width)) * gate[:, None]).flatten(-2), *args[1:])

        handle = layer.o.register_forward_pre_hook(scale)
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        loss = torch.nn.functional.cross_entropy(task.call(model, tensors).logits, tensors["labels"])
        handle.remove()
        gradients.append(torch.autograd.grad(loss, gate)[0].numpy())
    for kind, expected in (("taylor", np.abs(gradients).mean(0)), ("fisher", np.square(gradients).mean(0))):
        found = score_importance(model, kind, task, batches(task, 6, size=3))  # type: ignore[arg-type]
        np.testing.assert_allclose(found.heads[1], expected, rtol=2e-3, atol=1e-7)


def test_weights_are_plain_magnitude_and_read_no_sample(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    model = task.load_model()
    plain = score_importance(model, "weights", task, batches(task, 6))
    np.testing.assert_array_equal(plain.layers, score_importance(model, "magnitude", task, ()).layers)
    layer = encoder_layers(model)[1]
    up, down = layer.up.weight.detach().numpy(), layer.down.weight.detach().numpy()
    norms = np.linalg.norm(up, axis=1) * np.linalg.norm(down, axis=0)
    np.testing.assert_allclose(plain.neurons[1], norms / norms.mean(), rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_magnitude_is_what_a_part_adds_to_a_token_against_its_layer(tasks: dict[str, Task], family: str) -> None:
    import torch

    task = tasks[family]
    model = task.load_model()
    samples = batches(task, 6, size=3)
    layer = encoder_layers(model)[1]
    found = score_importance(model, "magnitude", task, samples)
    read: dict[str, list[Any]] = {"o": [], "down": []}
    handles = [
        getattr(layer, name).register_forward_pre_hook(lambda _, args, place=place: place.append(args[0]))
        for name, place in read.items()
    ]
    for batch in samples:
        with torch.no_grad():
            task.call(model, {name: torch.from_numpy(values) for name, values in batch.items()})
    for handle in handles:
        handle.remove()
    masks = [batch.get("attention_mask", np.ones(read["o"][0].shape[:2])) > 0 for batch in samples]
    mixed, activated = (
        np.concatenate([states.numpy()[mask] for states, mask in zip(read[name], masks, strict=True)])
        for name in ("o", "down")
    )
    o, down, width = layer.o.weight.detach().numpy(), layer.down.weight.detach().numpy(), layer.head_width
    parts = [slice(head * width, (head + 1) * width) for head in range(HEADS)]
    heads = np.sqrt([np.square(mixed[:, part] @ o[:, part].T).sum(1).mean() for part in parts])
    neurons = np.sqrt([np.square(np.outer(activated[:, i], down[:, i])).sum(1).mean() for i in range(NEURONS)])
    np.testing.assert_allclose(found.heads[1], heads / heads.mean(), rtol=1e-4)
    np.testing.assert_allclose(found.neurons[1], neurons / neurons.mean(), rtol=1e-4)
    assert found.layers[1] == pytest.approx(heads.sum() + neurons.sum(), rel=1e-4)


def test_magnitude_without_samples_is_the_product_of_both_sides(tasks: dict[str, Task]) -> None:
    model = tasks["bert"].load_model()
    layer = encoder_layers(model)[0]
    found = score_importance(model, "magnitude", tasks["bert"], iter(()))
    width = layer.head_width
    v, o = layer.v.weight.detach().numpy(), layer.o.weight.detach().numpy()
    parts = [slice(head * width, (head + 1) * width) for head in range(HEADS)]
    heads = np.array([np.linalg.norm(v[part]) * np.linalg.norm(o[:, part]) for part in parts])
    up, down = layer.up.weight.detach().numpy(), layer.down.weight.detach().numpy()
    neurons = np.linalg.norm(up, axis=1) * np.linalg.norm(down, axis=0)
    np.testing.assert_allclose(found.heads[0], heads / heads.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.neurons[0], neurons / neurons.mean(), rtol=1e-5)
    assert found.layers[0] == pytest.approx(heads.sum() + neurons.sum(), rel=1e-5)


def test_magnitude_needs_no_labels(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    (batch,) = batches(task, 4)
    labelled = score_importance(task.load_model(), "magnitude", task, [batch])
    del batch["labels"]
    found = score_importance(task.load_model(), "magnitude", task, [batch])
    np.testing.assert_array_equal(found.layers, labelled.layers)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_open_gates_change_nothing_and_are_gone_afterwards(tasks: dict[str, Task], family: str) -> None:
    import torch

    task = tasks[family]
    model = task.load_model()
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    layers = encoder_layers(model)
    gates = [_Gates(*(torch.ones(8, width) for width in (1, HEADS, NEURONS))) for _ in layers]
    with _gated(layers, gates):
        np.testing.assert_allclose(logits(task, model, batch), before, atol=1e-5)
        gates[0].heads[:, 1] = 0
        closed = logits(task, model, batch)
    assert np.abs(closed - before).max() > 1e-4
    np.testing.assert_array_equal(logits(task, model, batch), before)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_closed_gate_of_a_layer_is_the_model_without_it(tasks: dict[str, Task], family: str) -> None:
    import torch

    from edgekit.formats.surgery import EncoderPlan, replay, whole_plan

    task = tasks[family]
    model = task.load_model()
    (batch,) = batches(task, 8)
    layers = encoder_layers(model)
    gates = [_Gates(*(torch.ones(8, width) for width in (1, HEADS, NEURONS))) for _ in layers]
    gates[1].layer[:] = 0
    with _gated(layers, gates):
        closed = logits(task, model, batch)
    plan = whole_plan(model)
    replay(model, EncoderPlan(architecture=plan.architecture, layers=(plan.layers[0], plan.layers[2])))
    np.testing.assert_allclose(closed, logits(task, model, batch), atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_scores_do_not_depend_on_the_batch_size(tasks: dict[str, Task], size: int) -> None:
    task = tasks["vit"]
    model = task.load_model()
    one = score_importance(model, "taylor", task, batches(task, 16, size=16))
    found = score_importance(model, "taylor", task, batches(task, 16, size=size))
    np.testing.assert_allclose(found.layers, one.layers, rtol=1e-3)
    np.testing.assert_allclose(found.neurons[1], one.neurons[1], rtol=1e-2, atol=1e-7)


def test_the_model_is_left_as_it_was(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    model = task.load_model()
    score_importance(model, "fisher", task, batches(task, 8))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_samples_without_labels_are_an_error_of_the_data(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    (batch,) = batches(task, 4)
    del batch["labels"]
    with pytest.raises(DataError, match="label"):
        score_importance(task.load_model(), "taylor", task, [batch])
