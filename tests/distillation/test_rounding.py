from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from distillation.test_trainer import SCHEDULE, WEIGHTS, Notes, assert_same, lesson_of, run, weights_of
from graphs import random_array, with_weights
from tiny import build, save, task_for

from edgekit.distillation.rounding import (
    FEWEST_ELEMENTS,
    Rounding,
    mostly_convolutions,
    round_inputs,
    round_weights,
    round_while_learning,
    rounded_layers,
)
from edgekit.errors import UsageError
from edgekit.formats.graph import constant
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.int4 import PRODUCT_BLOCK
from edgekit.quantization import blocks, schemes
from edgekit.stages.base import Goal
from edgekit.stages.distill import DISTILL, DistillSettings, check, layer_map, rounding_for
from edgekit.target import load_target
from edgekit.tasks.base import Task

EIGHT, FOUR = Rounding(), Rounding(bits=4)
LAST = replace(SCHEDULE, rounded=0.5, rounding=FOUR)  # of 20 steps
DYNAMIC = schemes.Scheme(
    method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
)
# A table of words and a product, both large enough to be quantized.
TEXT = """g (int64[n] i) => (float[n, 40] y) {
  x = Gather <axis = 0> (table, i)
  y = MatMul (x, w)
}"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> Task:
    return task_for(save(build("bert"), tmp_path_factory.mktemp("rounded")))


def quantized(folder: Path, scheme: schemes.Scheme, **weights: Any) -> dict[str, Any]:
    """Weights as the stage quantize writes them, by name, as floats."""
    onnx.save(with_weights(TEXT, **weights), folder / "float.onnx")
    model = load_graph(folder / "float.onnx")
    names = [node.name for node in schemes.weighted_nodes(model, embeddings=True)]
    save_graph(model, folder / "float.onnx")
    schemes.quantize_graph(folder / "float.onnx", folder / "int8.onnx", scheme, names, None)
    held = {name: constant(value) for name, value in load_graph(folder / "int8.onnx").graph.initializers.items()}
    found = {}
    for name in weights:
        steps, scale, zero = (held[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point"))
        found[name] = (steps.astype(np.float32) - zero.astype(np.float32)) * scale
    return found


def in_int4(rows: Any) -> Any:
    """Rows as ``MatMulNBits`` reads them."""
    inner = rows.shape[1]
    values, scales = blocks.quantize_blocks(np.pad(rows, ((0, 0), (0, -inner % PRODUCT_BLOCK))), PRODUCT_BLOCK)
    steps = np.stack([values & 15, values >> 4], axis=-1).reshape(len(rows), -1).astype(np.float32) - 8
    return (steps * np.repeat(scales, PRODUCT_BLOCK, axis=1))[:, :inner]


def test_what_is_rounded_is_what_quantize_quantizes() -> None:
    assert FEWEST_ELEMENTS == schemes.FEWEST_ELEMENTS


@pytest.mark.parametrize(
    "changes",
    [{}, {"reduce_range": True}, {"weights": "u8"}, {"per_channel": False}],
    ids=["u8s8", "7 bits", "u8u8", "one scale"],
)
def test_weights_of_8_bits_are_those_that_the_quantizer_writes(
    changes: dict[str, Any], tmp_path: Path, torch_alone: Any
) -> None:
    scheme = DYNAMIC.model_copy(update=changes)
    rounding = Rounding(
        activations=scheme.activations,
        weights=scheme.weights,
        last=64 if scheme.reduce_range else 127,
        per_channel=scheme.per_channel,
    )
    weights = random_array(64, 40, seed=1) * np.linspace(0.1, 3, 40, dtype=np.float32)
    table = random_array(50, 64)
    written = quantized(tmp_path, scheme, w=weights, table=table)
    rounded = round_weights(torch_alone.from_numpy(weights.T.copy()), rounding).numpy().T
    np.testing.assert_allclose(rounded, written["w"], rtol=1e-5, atol=1e-6)
    words = torch_alone.nn.Embedding(50, 64)
    words.load_state_dict({"weight": torch_alone.from_numpy(table)})
    round_while_learning(words, rounding)
    np.testing.assert_allclose(words(torch_alone.arange(50)).detach().numpy(), written["table"], rtol=1e-5, atol=1e-6)


def test_weights_of_4_bits_are_those_that_the_quantizer_writes(torch_alone: Any) -> None:
    weights = random_array(40, 100)
    rounded = round_weights(torch_alone.from_numpy(weights), FOUR).numpy()
    np.testing.assert_allclose(rounded, in_int4(weights), rtol=1e-5, atol=1e-6)
    assert 0.02 < np.linalg.norm(rounded - weights) / np.linalg.norm(weights) < 0.12


def test_zeros_stay_zeros(torch_alone: Any) -> None:
    zeros = torch_alone.zeros(3, 70)
    for rounding in (EIGHT, FOUR, Rounding(activations="s8", weights="u8", static=True)):
        for rounded in (round_weights(zeros, rounding), round_inputs(zeros, rounding)):
            assert torch_alone.equal(rounded, zeros)


def test_inputs_have_256_steps_and_a_zero(torch_alone: Any) -> None:
    values = torch_alone.linspace(-1.0, 3.0, 2001).view(1, -1)
    rounded = round_inputs(values, EIGHT)
    assert len(rounded.unique()) == 256
    assert 0.0 in rounded
    assert float((rounded - values).abs().max()) <= 4 / 255 * 0.51 + 4 / 255 / 2  # zero is moved to a step
    signed = round_inputs(values, Rounding(activations="s8"))
    assert len(signed.unique()) == 127 + 1 + 42  # as far as 3, and a third of that to the other side


def test_each_sample_has_its_scale_or_all_have_one(torch_alone: Any) -> None:
    values = torch_alone.rand(2, 3, 64, generator=torch_alone.Generator().manual_seed(0))
    values[1] *= 100
    own = round_inputs(values, EIGHT)
    assert torch_alone.equal(own[:1], round_inputs(values[:1], EIGHT))
    one = round_inputs(values, Rounding(static=True))
    assert float((one - values)[0].abs().mean()) > 20 * float((own - values)[0].abs().mean())
    torch_alone.testing.assert_close(one[1], own[1], rtol=0, atol=1e-3)
    four = round_inputs(values, FOUR)  # a block has its own scale
    assert float((four - values).abs().amax() / values.abs().amax()) < 0.5 / 127 + 1e-6


def test_layers_learn_with_rounded_numbers_and_straight_gradients(torch_alone: Any) -> None:
    torch = torch_alone
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 4))
    values = torch.randn(8, 64)
    plain = model(values)
    end = round_while_learning(model, FOUR)
    assert rounded_layers(model, FOUR) == [model[0]]  # the other is too small
    rounded = round_inputs(values, FOUR)
    expected = model[1](torch.nn.functional.linear(rounded, round_weights(model[0].weight, FOUR), model[0].bias))
    torch.testing.assert_close(model(values), expected)
    (model[0](values) * 2).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, 2 * rounded.sum(0).expand(32, 64))
    end()
    assert torch.equal(model(values), plain)


def test_convolutions_are_rounded_where_the_scheme_takes_them(torch_alone: Any) -> None:
    torch = torch_alone
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(64, 4))
    assert mostly_convolutions(model)
    assert not mostly_convolutions(torch.nn.Sequential(torch.nn.Linear(64, 32), *model))
    static = Rounding(static=True, convolutions=True)
    assert rounded_layers(model, static) == [model[0]]
    assert rounded_layers(model, EIGHT) == []
    values = torch.randn(2, 8, 2, 2)
    layer = model[0]
    expected = torch.nn.functional.conv2d(
        round_inputs(values, static), round_weights(layer.weight, static), layer.bias, padding=1
    )
    end = round_while_learning(model, static)
    torch.testing.assert_close(layer(values), expected)
    end()
    assert not torch.allclose(layer(values), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "settings", "convolutional", "rounding"),
    [
        ("x86-64-vnni", {}, False, Rounding()),
        ("x86-64", {}, False, Rounding(last=64)),
        ("x86-64-vnni", {"quantize_scheme": "s8s8"}, False, Rounding(activations="s8", static=True)),
        ("arm64", {}, True, Rounding(static=True, convolutions=True)),
        ("arm64", {"quantize_bits": 4}, False, Rounding(bits=4)),
    ],
)
def test_the_target_says_how_is_rounded(
    target: str, settings: dict[str, Any], convolutional: bool, rounding: Rounding
) -> None:
    asked = DistillSettings(quantize_last=0.5, **settings)
    assert rounding_for(asked, load_target(target), convolutional=convolutional) == rounding


def test_the_targets_integers_are_in_the_key_only_where_they_are_learned() -> None:
    assert DISTILL.also_uses(DistillSettings()) == ()
    assert DISTILL.also_uses(DistillSettings(quantize_last=0.1)) == ("int8",)


@pytest.mark.parametrize(
    ("target", "format_", "settings", "told"),
    [
        ("tensorrt", "onnx", {"quantize_bits": 4}, "distill.quantize_bits=4 cannot go with the target 'tensorrt'"),
        ("arm64", "tflite", {"quantize_bits": 4}, "distill.quantize_bits=4 cannot go with the format tflite"),
        ("x86-64-vnni", "onnx", {"quantize_scheme": "s8s8", "quantize_bits": 8}, ""),
    ],
)
def test_integers_that_the_target_does_not_take_are_refused(
    target: str, format_: Any, settings: dict[str, Any], told: str
) -> None:
    goal = Goal(load_target(target), format_, "onnxruntime")
    check(DistillSettings(**settings), goal)  # without such steps, nothing is asked for
    if told:
        with pytest.raises(UsageError, match=told):
            check(DistillSettings(quantize_last=0.5, **settings), goal)


@pytest.mark.parametrize(
    ("target", "format_", "settings", "told"),
    [
        ("cuda", "onnx", {}, "distill.embeddings=int4 cannot go with the target 'cuda'"),
        ("arm64", "tflite", {}, "distill.embeddings=int4 cannot go with the format tflite"),
        ("arm64", "onnx", {"freeze_embeddings": False}, "cannot go with distill.freeze_embeddings=false"),
    ],
)
def test_a_table_in_int4_that_nothing_reads_or_that_learns_is_refused(
    target: str, format_: Any, settings: dict[str, Any], told: str
) -> None:
    goal = Goal(load_target(target), format_, "onnxruntime")
    with pytest.raises(UsageError, match=told):
        check(DistillSettings(embeddings="int4", **settings), goal)


def test_the_last_steps_are_rounded(task: Task, tmp_path: Path) -> None:
    lesson = lesson_of(task)
    figures = run(lesson, tmp_path, LAST)
    assert (figures["planned_steps"], figures["rounded_from"]) == (20, 10)
    assert figures["best_step"] > 10
    assert [step for step, _ in figures["selection_losses"]] == [4, 8, 12, 16, 20]
    for layer in lesson.student.modules():
        assert "forward" not in vars(layer)
    # the same steps before, others behind: what was learned is not what is learned without rounding
    plain = lesson_of(task)
    losses = run(plain, tmp_path / "plain", SCHEDULE)["selection_losses"]
    assert losses[:2] == figures["selection_losses"][:2]
    assert losses[2:] != figures["selection_losses"][2:]


def test_a_share_too_small_for_a_step_is_one_step(task: Task, tmp_path: Path) -> None:
    assert run(lesson_of(task), tmp_path, replace(LAST, rounded=1e-6))["best_step"] == 20
    assert "rounded_from" not in run(lesson_of(task), tmp_path / "other", replace(LAST, rounded=0.0))


def test_weights_are_rounded_in_float32_where_products_are_in_bfloat16(task: Task, tmp_path: Path) -> None:
    figures = run(lesson_of(task), tmp_path, replace(LAST, precision="bf16"))
    assert figures["best_step"] > 10
    losses = dict(figures["selection_losses"])
    assert losses[20] < losses[4]


def test_training_does_not_end_early_before_weights_were_rounded(task: Task, tmp_path: Path) -> None:
    hasty = replace(LAST, evaluate_every=1, patience=1, learning_rate=0.3, rounded=0.25)
    figures = run(lesson_of(task), tmp_path, hasty)
    assert figures["best_step"] > figures["rounded_from"] == 15


@pytest.mark.parametrize("at", [8, 12])
def test_a_killed_run_goes_on_to_the_same_student(task: Task, tmp_path: Path, at: int) -> None:
    whole = lesson_of(task)
    expected = run(whole, tmp_path / "whole", LAST)
    with pytest.raises(KeyboardInterrupt):
        run(lesson_of(task), tmp_path / "killed", LAST, notes=Notes(("distill.checkpoint", at)))
    resumed, notes = lesson_of(task), Notes()
    assert run(resumed, tmp_path / "killed", LAST, notes=notes) == expected
    assert notes.events[0] == ("distill.start", at)
    assert_same(weights_of(resumed.student), weights_of(whole.student))


def test_int4_loses_less_where_it_was_learned(task: Task, tmp_path: Path) -> None:
    whole = layer_map(task.load_model(), task.load_model(), None)
    weights = replace(WEIGHTS, task=0.0)
    lesson, other = (lesson_of(task, student=task.load_model(), layers=whole, weights=weights) for _ in range(2))
    round_while_learning(lesson.student, FOUR)
    before = apart(lesson)  # of a student that is as good as its teacher
    run(other, tmp_path, replace(LAST, epochs=4.0, rounded=1.0, learning_rate=3e-4))
    round_while_learning(other.student, FOUR)
    assert apart(other) < 0.5 * before


def apart(lesson: Any) -> float:
    """Mean squared difference of the logits of student and teacher on the selection split."""
    import torch

    batch = lesson.selection.batch(range(len(lesson.selection)))
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    with torch.no_grad():
        student, teacher = (lesson.task.call(one, tensors).logits for one in (lesson.student, lesson.teacher))
    return float(((student - teacher) ** 2).mean())
