from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny import (
    ARCHITECTURES,
    HEADS,
    HIDDEN,
    LAYERS,
    NEURONS,
    NO_THINNING,
    THINS,
    batches,
    build,
    logits,
    save,
    task_for,
)

from edgekit.errors import ArtifactError, ModelError
from edgekit.formats.encoder import ANATOMIES, encoder_layers, layer_list
from edgekit.formats.plans import read_plan
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay, whole_plan
from edgekit.formats.torch import load_model, save_weights
from edgekit.tasks.base import Task

WIDTH = HIDDEN // HEADS
# What stays, with other numbers of heads and neurons in each layer.
KEPT = {0: ((0, 2, 3), range(0, 40)), 1: ((1,), range(16, 64)), 2: ((0, 3), (0, 5, 9, 20, 21, 22, 60, 63))}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    return {name: task_for(save(build(name), tmp_path_factory.mktemp(name))) for name in ARCHITECTURES}


def plan_of(model: Any, layers: tuple[int, ...] = (0, 1, 2)) -> EncoderPlan:
    return EncoderPlan(
        architecture=type(model).__name__,
        layers=tuple(LayerPlan(index=i, heads=KEPT[i][0], neurons=tuple(KEPT[i][1])) for i in layers),
    )


def mask(model: Any, plan: EncoderPlan) -> None:
    """Zero what the plan takes away, and leave every matrix its size."""
    for cut in plan.layers:
        layer = encoder_layers(model)[cut.index]
        for head in set(range(HEADS)) - set(cut.heads):
            layer.o.weight.data[:, head * WIDTH : (head + 1) * WIDTH] = 0
        layer.down.weight.data[:, sorted(set(range(NEURONS)) - set(cut.neurons))] = 0


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_cutting_equals_masking(tasks: dict[str, Task], family: str, attention: str) -> None:
    task = tasks[family]
    model, masked = task.load_model(), task.load_model()
    for each in (model, masked):
        each.set_attn_implementation(attention)  # type: ignore[operator]
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    plan = plan_of(model)
    mask(masked, plan)
    cut = logits(task, replay(model, plan), batch)
    np.testing.assert_allclose(cut, logits(task, masked, batch), atol=2e-5)
    assert np.abs(cut - before).max() > 1e-2


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_matrices_have_the_plans_sizes(tasks: dict[str, Task], family: str) -> None:
    model = replay(tasks[family].load_model(), plan_of(tasks[family].load_model()))
    for layer, (heads, neurons) in zip(encoder_layers(model), KEPT.values(), strict=True):
        assert (layer.heads, layer.neurons) == (len(heads), len(neurons))
        assert tuple(layer.q.weight.shape) == tuple(layer.v.weight.shape) == (len(heads) * WIDTH, HIDDEN)
        assert tuple(layer.o.weight.shape) == (HIDDEN, len(heads) * WIDTH)
        assert tuple(layer.down.weight.shape) == (HIDDEN, len(neurons))
        assert layer.q.bias is not None
        assert layer.q.bias.shape == (len(heads) * WIDTH,)
        assert layer.up.out_features == layer.down.in_features == len(neurons)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_layers_are_taken_out(tasks: dict[str, Task], family: str) -> None:
    task = tasks[family]
    model = task.load_model()
    whole = whole_plan(model)
    kept = layer_list(model)[1]
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    after = logits(task, replay(model, EncoderPlan(architecture=whole.architecture, layers=(whole.layers[1],))), batch)
    assert list(layer_list(model)) == [kept]
    assert after.shape == before.shape
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_plan_that_keeps_everything_changes_nothing(tasks: dict[str, Task], family: str) -> None:
    task = tasks[family]
    model = task.load_model()
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    np.testing.assert_array_equal(logits(task, replay(model, whole_plan(model)), batch), before)


def test_of_two_shares_of_tokens_the_smaller_one_holds() -> None:
    layers = tuple(LayerPlan(index=index, heads=(0,), neurons=(0,)) for index in range(4))
    first = EncoderPlan(architecture="x", layers=layers, tokens=(0.9, 0.5, 0.3))
    fewer = EncoderPlan(architecture="x", layers=(layers[0], layers[2], layers[3]))
    assert first.then(fewer).tokens == (0.9, 0.3)
    assert first.then(fewer.model_copy(update={"tokens": (0.8, 0.6)})).tokens == (0.8, 0.3)
    assert fewer.then(EncoderPlan(architecture="x", layers=layers[:3], tokens=(0.7, 0.6))).tokens == (0.7, 0.6)
    assert first.then(EncoderPlan(architecture="x", layers=layers[3:])).tokens is None


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        ((0.5,), "1 shares of tokens for 3 layers"),
        ((0.5, 0.6), "the shares of tokens rise"),
        ((0.5, 0.0), "greater than 0"),
    ],
)
def test_shares_of_tokens_that_cannot_be_are_no_plan(tokens: tuple[float, ...], why: str) -> None:
    layers = tuple(LayerPlan(index=index, heads=(0,), neurons=(0,)) for index in range(3))
    with pytest.raises(ValidationError, match=why):
        EncoderPlan(architecture="x", layers=layers, tokens=tokens)


@pytest.mark.skipif(not THINS, reason=NO_THINNING)
@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_a_model_that_leaves_tokens_out_is_saved_and_loaded(
    tasks: dict[str, Task], family: str, tmp_path: Path
) -> None:
    task = tasks[family]
    model = task.load_model()
    plan = plan_of(model).model_copy(update={"tokens": (0.7, 0.4)})
    save_weights(replay(model, plan), tmp_path, plan)
    (tmp_path / "config.json").write_bytes((task.folder / "config.json").read_bytes())
    (batch,) = batches(task, 8)
    loaded, read = load_model(task.at(tmp_path))
    assert read == plan
    np.testing.assert_array_equal(logits(task, loaded, batch), logits(task, model, batch))
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["tokens"] == [0.7, 0.4]
    save_weights(model, tmp_path, plan_of(model))
    assert "tokens" not in json.loads((tmp_path / "plan.json").read_text())


def test_two_plans_after_one_another_are_one_plan(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    once, twice = task.load_model(), task.load_model()
    first = plan_of(once, (0, 2))
    later = EncoderPlan(
        architecture=first.architecture,
        layers=(LayerPlan(index=1, heads=(1,), neurons=(0, 2, 7)),),
    )
    both = first.then(later)
    assert both.layers == (LayerPlan(index=2, heads=(3,), neurons=(0, 9, 63)),)
    (batch,) = batches(task, 8)
    np.testing.assert_array_equal(
        logits(task, replay(once, both), batch), logits(task, replay(replay(twice, first), later), batch)
    )
    whole = whole_plan(task.load_model())
    assert whole.then(first) == first


@pytest.mark.parametrize(("kept", "expected"), [((0, 1, 2), (1, 2, 3)), ((0, 2), (2, 3)), ((1,), (3,)), ((2,), (3,))])
def test_a_layer_that_stays_stands_for_those_up_to_the_next(
    tasks: dict[str, Task], kept: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert plan_of(tasks["bert"].load_model(), kept).stands_for(LAYERS) == expected


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LayerPlan(index=3, heads=(0,), neurons=(0,)), "the plan keeps layer 3\nthe model has 3 layers"),
        (
            LayerPlan(index=0, heads=(4,), neurons=(0,)),
            "the plan keeps head 4 and neuron 0 of layer 0\nthe layer has 4 heads and 64 neurons",
        ),
        (LayerPlan(index=1, heads=(0,), neurons=(64,)), "the plan keeps head 0 and neuron 64 of layer 1"),
    ],
)
def test_a_plan_that_names_what_is_not_there_is_an_error(
    tasks: dict[str, Task], layer: LayerPlan, message: str
) -> None:
    model = tasks["bert"].load_model()
    with pytest.raises(ModelError) as caught:
        replay(model, EncoderPlan(architecture=type(model).__name__, layers=(layer,)))
    assert str(caught.value).startswith(message)


def test_a_plan_for_another_architecture_is_an_error(tasks: dict[str, Task]) -> None:
    plan = plan_of(tasks["bert"].load_model())
    with pytest.raises(ModelError, match="the plan is for BertForSequenceClassification\nthe model is ViTFor"):
        replay(tasks["vit"].load_model(), plan)


def test_an_architecture_that_is_not_in_the_table_is_an_error() -> None:
    from torch import nn

    with pytest.raises(ModelError, match="does not know where 'Linear' keeps its heads and neurons") as caught:
        encoder_layers(nn.Linear(1, 1))
    assert "distilbert" in caught.value.why
    assert caught.value.hint == "Use a recipe without pruning: --recipe quantize."


def test_every_anatomy_is_tried_by_these_tests() -> None:
    tried = {ANATOMIES[name] for name in ARCHITECTURES}
    assert set(ANATOMIES.values()) == tried


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{",
        '{"schema": "edgekit.plan/2", "architecture": "x", "layers": []}',
        '{"architecture": "x", "layers": []}',
        '{"architecture": "x", "layers": [{"index": 0, "heads": [], "neurons": [1]}]}',
        '{"architecture": "x", "layers": [{"index": -1, "heads": [0], "neurons": [1]}]}',
        '{"architecture": "x", "layers": [{"index": 0, "heads": [-1], "neurons": [1]}]}',
        '{"architecture": "x", "layers": [{"index": 0, "heads": [1, 1], "neurons": [1]}]}',
    ],
)
def test_a_plan_that_is_not_valid_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ArtifactError, match="is no valid plan"):
        read_plan(tmp_path)


def test_a_folder_without_plan_was_not_pruned(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None


def store(task: Task, folder: Path, model: Any, plan: EncoderPlan) -> Task:
    """A pruned model's folder."""
    from edgekit.stages.base import copy_companions

    save_weights(model, folder, plan)
    copy_companions(task.folder, folder)
    return type(task)(folder, task.options)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_saved_plan_is_loaded_again(tasks: dict[str, Task], tmp_path: Path, family: str) -> None:
    task = tasks[family]
    model = task.load_model()
    plan = plan_of(model, (0, 2))
    replay(model, plan)
    pruned = store(task, tmp_path, model, plan)
    loaded, found = load_model(pruned)
    assert found == plan
    (batch,) = batches(task, 8)
    np.testing.assert_array_equal(logits(task, loaded, batch), logits(task, model, batch))
    assert not loaded.training
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}


FRESH = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
import edgekit
for folder in sys.argv[1:]:
    model = edgekit.load_pruned(folder)
    with np.load(f"{folder}.npz") as stored, torch.no_grad():
        inputs = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "logits"}
        difference = float((model(**inputs).logits - torch.from_numpy(stored["logits"])).abs().max())
    print(difference, sum(p.numel() for p in model.parameters()))
"""


def test_a_fresh_process_gives_equal_outputs(tasks: dict[str, Task], tmp_path: Path) -> None:
    from tiny import manifest

    from edgekit.artifact import write_artifact
    from edgekit.formats.torch import torch_components

    folders, counts = [], []
    for family in ("bert", "vit"):
        task = tasks[family]
        model = task.load_model()
        plan = plan_of(model, (0, 2))
        replay(model, plan)
        folder = tmp_path / family
        store(task, folder, model, plan)
        write_artifact(folder, manifest(format="torch", task=task.name, components=torch_components()))
        (batch,) = batches(task, 8)
        del batch["labels"]
        np.savez(f"{folder}.npz", **batch, logits=logits(task, model, batch))
        folders.append(str(folder))
        counts.append(sum(p.numel() for p in model.parameters()))
        assert counts[-1] < sum(p.numel() for p in task.load_model().parameters())
    done = subprocess.run([sys.executable, "-c", FRESH, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [["0.0", str(count)] for count in counts]


def test_weights_that_do_not_fit_the_plan_are_an_error(tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["bert"]
    model = task.load_model()
    pruned = store(task, tmp_path, model, plan_of(model))  # the weights of the whole model
    with pytest.raises(ModelError, match="do not fit its plan"):
        load_model(pruned)


def test_broken_weights_are_an_error(tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["bert"]
    model = task.load_model()
    pruned = store(task, tmp_path, replay(model, plan_of(model)), plan_of(model))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="do not fit its plan"):
        load_model(pruned)
