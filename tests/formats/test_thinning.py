from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflites
import tiny
from tiny import ARCHITECTURES, IMAGE, LAYERS, TEXT

from edgekit.artifact import WHOLE, write_artifact
from edgekit.errors import ModelError
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.formats.thinning import (
    LEAST,
    leaves_tokens_out,
    pass_all,
    thin_out,
    tokens_by_layer,
    tokens_left,
    watch_tokens,
)
from edgekit.optimization import REWRITES
from edgekit.tasks.base import MASK, Batch, Task

SHARES = (0.6, 0.4)
pytestmark = pytest.mark.skipif(not tiny.THINS, reason=tiny.NO_THINNING)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, Task]:
    folder = tmp_path_factory.mktemp("thinning")
    # 65 tokens of an image, so that there is something to leave out
    return {
        name: tiny.task_for(tiny.save(tiny.build(name, **({"patch_size": 1} if name in IMAGE else {})), folder / name))
        for name in ARCHITECTURES
    }


def batch_of(task: Task, samples: int = 6) -> Batch:
    (batch,) = tiny.batches(task, samples)
    return batch


def cut(batch: Batch, rows: slice, tokens: int) -> Batch:
    """Some rows of a batch of texts, and of each so many tokens."""
    return {name: values[rows, :tokens] if values.ndim == 2 else values[rows] for name, values in batch.items()}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_layers_that_leave_nothing_out_answer_as_transformers_does(tasks: dict[str, Task], family: str) -> None:
    task = tasks[family]
    model, batch = task.load_model(), batch_of(task)
    before = tiny.logits(task, model, batch)
    np.testing.assert_allclose(tiny.logits(task, thin_out(model, (1.0, 1.0)), batch), before, atol=1e-6)
    assert leaves_tokens_out(model)
    changed = tiny.logits(task, thin_out(model, SHARES), batch)
    assert np.abs(changed - before).max() > 1e-4
    np.testing.assert_array_equal(tiny.logits(task, pass_all(model), batch), before)
    assert not leaves_tokens_out(model)


@pytest.mark.parametrize("family", TEXT)
def test_a_text_as_short_as_what_stays_in_any_case_is_answered_as_before(tasks: dict[str, Task], family: str) -> None:
    task = tasks[family]
    model, batch = task.load_model(), cut(batch_of(task), slice(None), LEAST)
    before = tiny.logits(task, model, batch)
    np.testing.assert_allclose(tiny.logits(task, thin_out(model, (0.1, 0.1)), batch), before, atol=1e-6)


@pytest.mark.parametrize("family", TEXT)
def test_an_answer_does_not_hang_on_padding(tasks: dict[str, Task], family: str) -> None:
    """Each text alone, without padding, is answered as in a batch with longer ones, and with more padding still."""
    task = tasks[family]
    model, batch = thin_out(task.load_model(), SHARES), batch_of(task)
    together = tiny.logits(task, model, batch)
    lengths = batch[MASK].sum(1)
    assert len(set(lengths)) > 2
    for row, length in enumerate(lengths):
        alone = tiny.logits(task, model, cut(batch, slice(row, row + 1), int(length)))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)
    wider = {name: np.pad(values, ((0, 0), (0, 9))) if values.ndim == 2 else values for name, values in batch.items()}
    np.testing.assert_allclose(tiny.logits(task, model, wider), together, atol=1e-5)


def test_padding_goes_before_any_real_token(tasks: dict[str, Task]) -> None:
    """Padding that draws all attention, if it were read, is never among what stays to be read."""
    import torch

    task = tasks["bert"]
    model, batch = thin_out(task.load_model(), SHARES), batch_of(task, 8)
    batch["input_ids"] = np.where(batch[MASK] == 1, batch["input_ids"], 7)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[7] = 30 * model.bert.embeddings.word_embeddings.weight[2]
    with watch_tokens(model) as handed:
        tiny.logits(task, model, batch)
    assert len(handed) == LAYERS
    lengths = batch[MASK].sum(1)
    for number, layer in enumerate(handed):
        assert layer is not None
        assert layer.real is not None
        for row, length in enumerate(lengths):
            read = layer.places[row][layer.real[row]].tolist()
            assert read[0] == 0  # the first token is the first
            assert len(set(read)) == len(read) == tokens_by_layer(int(length), SHARES)[min(number, LAYERS - 2)]
            assert max(read) < length


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_what_stays_is_what_the_first_token_looks_at_most(tasks: dict[str, Task], family: str) -> None:
    import torch

    task = tasks[family]
    model, batch = task.load_model(), batch_of(task, 3)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    with torch.no_grad():
        maps = task.call(model, tensors, attentions=True).attentions[0]  # [batch, heads, tokens, tokens]
    paid = maps.mean(1)[:, 0]
    paid[:, 0] = 2
    with watch_tokens(thin_out(model, SHARES)) as handed:
        tiny.logits(task, model, batch)
    first = handed[0]
    assert first is not None
    for row in range(3):
        own = paid.shape[1] if MASK not in batch else int(batch[MASK][row].sum())
        expected = paid[row].argsort(descending=True)[: tokens_by_layer(own, SHARES)[0]]
        read = first.places[row] if first.real is None else first.places[row][first.real[row]]
        assert sorted(read.tolist()) == sorted(expected.tolist())


def test_places_are_those_of_the_sample_as_it_was_fed(tasks: dict[str, Task]) -> None:
    task = tasks["vit"]
    model, batch = thin_out(task.load_model(), (1.0, 0.5)), batch_of(task)
    with watch_tokens(model) as handed:
        tiny.logits(task, model, batch)
    assert [None if layer is None else layer.places.shape[1] for layer in handed] == [None, 33, 33]
    with watch_tokens(thin_out(model, SHARES)) as handed:
        tiny.logits(task, model, batch)
    first, second, last = handed
    assert first is not None
    assert second is not None
    assert last is not None
    for row in range(len(batch["pixel_values"])):
        assert set(second.places[row].tolist()) < set(first.places[row].tolist()) < set(range(65))
    assert last.places.tolist() == second.places.tolist()
    with watch_tokens(pass_all(model)) as handed:
        tiny.logits(task, model, batch)
    assert handed == []


def test_a_copy_leaves_out_tokens_by_itself(tasks: dict[str, Task]) -> None:
    task = tasks["bert"]
    model, batch = thin_out(task.load_model(), SHARES), batch_of(task)
    thinned = tiny.logits(task, model, batch)
    other = copy.deepcopy(model)
    for weights in pass_all(model).parameters():
        weights.data.zero_()
    np.testing.assert_array_equal(tiny.logits(task, other, batch), thinned)


@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_the_graph_answers_as_torch_at_every_length_and_with_every_rewrite(
    tasks: dict[str, Task], family: str, tmp_path: Path
) -> None:
    import onnxruntime

    task = tasks[family]
    model, batch = thin_out(task.load_model(), SHARES), batch_of(task)
    file = tiny.export(task, model, tmp_path / "onnx").file()
    graph = load_graph(file)
    applied = {name: rewrite.apply(graph.graph) for name, rewrite in REWRITES.items()}
    assert applied["attention"] == applied["packed"] == LAYERS
    assert applied["first_token"] > 0
    save_graph(graph, tmp_path / "rewritten.onnx")
    lengths = (batch[MASK].shape[1], 1, 3, LEAST + 1, 8) if family in TEXT else (1,)
    for path in (file, tmp_path / "rewritten.onnx"):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in session.get_inputs()]
        for tokens in lengths:
            fed = cut(batch, slice(None), tokens)
            (answer,) = session.run(["logits"], {name: fed[name] for name in names})
            np.testing.assert_allclose(answer, tiny.logits(task, model, fed), atol=1e-5)


@pytest.mark.skipif(not tflites.INSTALLED, reason=tflites.REASON)
def test_a_tflite_file_answers_as_torch(tasks: dict[str, Task], tmp_path: Path) -> None:
    from edgekit.formats import tflite, tflite_export
    from edgekit.runtimes.litert import LiteRTRunner

    task = tasks["distilbert"]
    model, batch = thin_out(task.load_model(), SHARES), batch_of(task, 3)
    spec = task.components(model)[WHOLE]
    tflite_export.export_component(spec, tmp_path / "model.tflite", (16,))
    described = tflite.describe_component(tmp_path / "model.tflite", spec.axes, spec.states)
    manifest = tiny.manifest(format="tflite", task=task.name, components={WHOLE: described})
    runner = LiteRTRunner(write_artifact(tmp_path, manifest))
    np.testing.assert_allclose(task.forward(runner, batch), tiny.logits(task, model, batch), atol=1e-4)


def test_the_share_is_rounded_up_and_some_tokens_always_stay() -> None:
    assert [tokens_left(count, (1, 4)) for count in (1, 2, 4, 5, 16, 17, 128)] == [1, 2, 4, 4, 4, 5, 32]
    assert tokens_left(128, (333, 1000)) == 43
    assert tokens_by_layer(128, (1.0, 0.5, 0.25)) == [128, 64, 32]
    assert tokens_by_layer(10, (0.7, 0.7, 0.1)) == [7, 7, LEAST]
    assert tokens_by_layer(9, ()) == []


def test_an_earlier_transformers_is_refused(tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tasks["bert"].load_model()
    monkeypatch.setattr("edgekit.formats.thinning.version_of", lambda name: "4.57.6")
    with pytest.raises(ModelError) as caught:
        thin_out(model, SHARES)
    assert caught.value.what == "transformers 4.57.6 takes no layers that leave tokens out"
    assert caught.value.why == "prune.tokens needs transformers 5"
    assert not leaves_tokens_out(model)
