from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny import ARCHITECTURES, HEADS, HIDDEN, NEURONS, batches, build, logits, repeat_half, save, task_for

from edgekit.errors import ModelError
from edgekit.formats.encoder import encoder_layers, stream_width
from edgekit.formats.plans import read_plan, save_plan
from edgekit.formats.stream import cut_stream, stream_of
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay, whole_plan
from edgekit.formats.torch import load_model, save_weights
from edgekit.tasks.base import Task

KEPT = tuple(column for column in range(HIDDEN) if column % 3)
# Of every family; and where a matrix takes tables of another width to the stream's.
MODELS: dict[str, dict[str, Any]] = {name: {} for name in ARCHITECTURES} | {"electra, embedded": {"embedding_size": 16}}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    return {
        name: task_for(save(build(name.partition(",")[0], **changes), tmp_path_factory.mktemp("model")))
        for name, changes in MODELS.items()
    }


def mask(model: Any) -> None:
    """Nothing reads the other columns, and norms are norms of the kept ones; every matrix stays its size."""
    import torch
    from torch.nn import functional

    stream, kept = stream_of(model), list(KEPT)
    gone = sorted(set(range(HIDDEN)) - set(KEPT))
    for matrix in (matrix for part in stream.readers for matrix in part):
        matrix.weight.data[:, gone] = 0

    def over_kept(norm: Any, args: Any, output: Any) -> Any:
        found = torch.zeros_like(output)
        weight, bias = norm.weight[kept], norm.bias[kept]
        found[..., kept] = functional.layer_norm(args[0][..., kept], (len(kept),), weight, bias, norm.eps)
        return found

    for norm in stream.norms:
        norm.register_forward_hook(over_kept)


@pytest.mark.parametrize("name", MODELS)
def test_cutting_equals_masking(tasks: dict[str, Task], name: str) -> None:
    task = tasks[name]
    model, masked = task.load_model(), task.load_model()
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    mask(masked)
    cut = logits(task, cut_stream(model, KEPT), batch)
    np.testing.assert_allclose(cut, logits(task, masked, batch), atol=2e-5)
    assert np.abs(cut - before).max() > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_what_is_left_of_the_whole_stream_is_the_model(tasks: dict[str, Task], name: str) -> None:
    task = tasks[name]
    model = task.load_model()
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    np.testing.assert_array_equal(logits(task, cut_stream(model, range(HIDDEN)), batch), before)


@pytest.mark.parametrize("name", MODELS)
def test_columns_that_repeat_others_can_go_and_nothing_changes(tasks: dict[str, Task], name: str) -> None:
    """With each column twice, a norm's mean and variance are those of the half: to go is exact."""
    task = tasks[name]
    model = task.load_model()
    repeat_half(model)
    (batch,) = batches(task, 8)
    before = logits(task, model, batch)
    after = logits(task, cut_stream(model, range(HIDDEN // 2)), batch)
    np.testing.assert_allclose(after, before, atol=2e-5)
    assert np.ptp(before) > 1e-2
    assert stream_width(model) == HIDDEN // 2


@pytest.mark.parametrize("name", MODELS)
def test_every_part_of_the_stream_has_the_new_width(tasks: dict[str, Task], name: str) -> None:
    model = tasks[name].load_model()
    before, column = parameters(model), parameters_of_a_column(model)
    cut_stream(model, KEPT)
    assert before - parameters(model) == column * (HIDDEN - len(KEPT))
    stream = stream_of(model)
    assert stream.width == len(KEPT)
    for layer in encoder_layers(model):
        assert tuple(layer.q.weight.shape) == (HIDDEN, len(KEPT))
        assert tuple(layer.o.weight.shape) == (len(KEPT), HIDDEN)
        assert (layer.up.in_features, layer.down.out_features) == (len(KEPT), len(KEPT))
        assert (layer.heads, layer.neurons) == (HEADS, NEURONS)
    assert {table.embedding_dim for table in stream.tables} <= {len(KEPT)}
    assert {norm.normalized_shape for norm in stream.norms} == {(len(KEPT),)}


def parameters(model: Any) -> int:
    return sum(values.numel() for values in model.parameters())


def parameters_of_a_column(model: Any) -> int:
    stream = stream_of(model)
    read: int = sum(matrix.out_features for part in stream.readers for matrix in part)
    written = sum(writer.weight[0].numel() + 1 for writer in stream.writers)
    vectors = sum(getattr(module, name).numel() // HIDDEN for module, name in stream.vectors)
    return read + written + vectors + sum(table.num_embeddings for table in stream.tables) + 2 * len(stream.norms)


def test_a_table_that_does_not_learn_stays_so(tasks: dict[str, Task]) -> None:
    model = tasks["bert"].load_model()
    words, places = stream_of(model).tables[:2]
    words.weight.requires_grad_(False)
    cut_stream(model, KEPT)
    assert (words.weight.requires_grad, places.weight.requires_grad) == (False, True)


def narrow(model: Any, layers: tuple[int, ...] = (0, 2)) -> EncoderPlan:
    return EncoderPlan(
        architecture=type(model).__name__,
        layers=tuple(LayerPlan(index=index, heads=(0, 3), neurons=tuple(range(40))) for index in layers),
        hidden=KEPT,
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_plan_is_loaded_again(tasks: dict[str, Task], tmp_path: Path, name: str) -> None:
    from edgekit.stages.base import copy_companions

    task = tasks[name]
    model = task.load_model()
    plan = narrow(model)
    save_weights(replay(model, plan), tmp_path, plan)
    copy_companions(task.folder, tmp_path)
    loaded, found = load_model(type(task)(tmp_path, task.options))
    assert found == plan
    (batch,) = batches(task, 8)
    np.testing.assert_array_equal(logits(task, loaded, batch), logits(task, model, batch))
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads((task.folder / "config.json").read_text())


def test_two_plans_after_one_another_are_one_plan(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    once, twice = task.load_model(), task.load_model()
    first = narrow(once)
    later = EncoderPlan(
        architecture=first.architecture, layers=(LayerPlan(index=1, heads=(1,), neurons=(0, 7)),), hidden=(0, 2, 5)
    )
    both = first.then(later)
    assert (both.hidden, both.layers[0].index) == ((1, 4, 8), 2)
    (batch,) = batches(task, 8)
    np.testing.assert_array_equal(
        logits(task, replay(once, both), batch), logits(task, replay(replay(twice, first), later), batch)
    )
    whole = whole_plan(task.load_model())
    assert whole.then(first) == first
    assert first.then(whole_plan(replay(task.load_model(), first))) == first


def test_a_plan_of_the_whole_stream_is_written_as_before(tmp_path: Path) -> None:
    layer = LayerPlan(index=1, heads=(0, 2), neurons=(5, 6))
    save_plan(EncoderPlan(architecture="X", layers=(layer,)), tmp_path)
    assert (tmp_path / "plan.json").read_text() == (
        '{"schema":"edgekit.plan/1","kind":"encoder","architecture":"X",'
        '"layers":[{"index":1,"heads":[0,2],"neurons":[5,6]}]}\n'
    )
    plan = EncoderPlan(architecture="X", layers=(layer,), hidden=(0, 3))
    save_plan(plan, tmp_path)
    assert (tmp_path / "plan.json").read_text().endswith('"neurons":[5,6]}],"hidden":[0,3]}\n')
    assert read_plan(tmp_path) == plan


@pytest.mark.parametrize("hidden", [(), (3, 1), (-1, 2), (1, 1)])
def test_columns_that_do_not_ascend_are_no_plan(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=r"do not ascend|at least 1 item"):
        EncoderPlan(architecture="X", layers=(LayerPlan(index=0, heads=(0,), neurons=(0,)),), hidden=hidden)


def test_a_column_that_is_not_there_is_an_error(tasks: dict[str, Task]) -> None:
    model = tasks["vit"].load_model()
    with pytest.raises(ModelError) as caught:
        replay(model, whole_plan(model).model_copy(update={"hidden": (0, HIDDEN)}))
    assert str(caught.value) == f"the plan keeps column {HIDDEN} of the hidden size\nthe model has {HIDDEN} columns"


def with_adapter(model: Any) -> str:
    from torch import nn

    encoder_layers(model)[1].module.adapter = nn.Linear(HIDDEN, 2)
    return "what 'encoder.layer.1.adapter' does to it is not known"


def with_other_norm(model: Any) -> str:
    from torch import nn

    model.bert.embeddings.LayerNorm = nn.LayerNorm((HIDDEN // 2,))
    return "what 'embeddings.LayerNorm' does to it is not known"


def with_other_head(model: Any) -> str:
    from torch import nn

    model.bert.pooler = None
    model.classifier = nn.Sequential(nn.Linear(HIDDEN, 2))
    return "what reads it behind the layers is not known"


@pytest.mark.parametrize("change", [with_adapter, with_other_norm, with_other_head])
def test_a_model_with_a_part_that_is_not_known_is_refused(change: Any) -> None:
    model = build("bert")
    why = change(model)
    with pytest.raises(ModelError, match="the hidden size of BertForSequenceClassification cannot be pruned") as caught:
        cut_stream(model, KEPT)
    assert (caught.value.id, caught.value.why) == ("model.not-prunable", why)
    assert caught.value.hint == "Leave out prune.hidden: layers, heads and neurons can be pruned without it."
    assert stream_width(model) == HIDDEN
