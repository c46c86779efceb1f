from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.formats.flatbuffer import Graph, Model, Operator, Signature, Tensor, load_model
from edgekit.formats.tflite import (
    axes_of,
    batch_notes,
    count_operators,
    describe_component,
    hybrid_layers,
    layer_of,
    precision_of,
    weight_bytes,
)


def tensor(name: str, *shape: int, dtype: str = "float32", buffer: int = 0, size: int = 0) -> Tensor:
    return Tensor(name, dtype, shape, buffer, size)


def tagger(*lengths: int) -> Model:
    """x [1, length] to y [1, length, 3] by weights of eight bits, for each length."""
    graphs = tuple(
        Graph(
            (
                tensor("x", 1, length),
                tensor("w", 3, 4, dtype="int8", buffer=1, size=12),
                tensor("b", 3, buffer=2, size=12),
                tensor(f"{length}/y", 1, length, 3),
            ),
            (Operator("FULLY_CONNECTED", (0, 1, 2), (3,)), Operator("custom.Thing", (3,), (3,))),
            (0,),
            (3,),
        )
        for length in lengths
    )
    entries = {f"of_{length}": Signature(number, {"x": 0}, {"y": 3}) for number, length in enumerate(lengths)}
    return Model(graphs, entries, {}, 100)


def described(model: Model, monkeypatch: pytest.MonkeyPatch, **axes: dict[int, str]) -> Any:
    from pathlib import Path

    monkeypatch.setattr("edgekit.formats.tflite.load_model", lambda file: model)
    return describe_component(Path("t.tflite"), axes or None)


def test_outputs_follow_the_dimensions_of_inputs_over_all_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    found = described(tagger(8, 16), monkeypatch, x={0: "batch", 1: "sequence"})
    assert found.signatures == {"of_8": {"batch": 1, "sequence": 8}, "of_16": {"batch": 1, "sequence": 16}}
    assert found.inputs[0].shape == ("batch", "sequence")
    assert found.outputs[0].shape == ("batch", "sequence", 3)


def test_dimensions_of_an_output_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {0: "batch", 1: "sequence"}
    assert described(tagger(8), monkeypatch, x=axes).outputs[0].shape == ("batch", 8, 3)  # one length does not tell
    assert described(tagger(8), monkeypatch, x=axes, y=axes).outputs[0].shape == ("batch", "sequence", 3)


def test_free_dimensions_of_a_file_without_axes_get_names(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph((tensor("x", -1, -1, 3), tensor("y", -1, 5)), (), (0,), (1,))
    found = described(Model((graph,), {}, {}, 10), monkeypatch)
    assert (found.inputs[0].shape, found.outputs[0].shape) == (("batch", "x_1", 3), ("batch", 5))
    assert found.signatures == {}


def test_axes_of_a_component_describe_it_again(tflites: Any) -> None:
    made = tflites["bert"]
    assert axes_of(made.component) == {
        "input_ids": {0: "batch", 1: "sequence"},
        "token_type_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "sequence"},
        "logits": {0: "batch"},
    }
    assert describe_component(made.file, axes_of(made.component)) == made.component


def test_operators_are_those_of_one_inference_most_frequent_first(tflites: Any) -> None:
    found = count_operators(tflites["bert"].file)
    assert found["FULLY_CONNECTED"] == 6 + 2  # q, k, v, o, up and down of one layer, the pooler and the head
    assert found["EMBEDDING_LOOKUP"] == 2
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert count_operators(tagger(8, 16)) == {"FULLY_CONNECTED": 1, "custom.Thing": 1}


def test_weights_that_graphs_share_count_once() -> None:
    assert weight_bytes(tagger(8, 16)) == {"float32": 12, "int8": 12}
    assert precision_of(tagger(8)) == "int8"  # twelve elements, against three of float32


def test_weights_are_those_of_the_module(tflites: Any) -> None:
    made = tflites["Residual"]
    weights = sum(value.numel() for name, value in made.spec.module.named_parameters() if "weight" in name)
    assert weight_bytes(made.file)["float32"] == pytest.approx(weights * 4, rel=0.02)  # batch norms are folded
    assert made.component.precision == "fp32"


def test_layers_with_small_weights_and_float_activations_are_named(tflites: Any) -> None:
    assert hybrid_layers(tagger(8, 16)) == ["y", "y"]
    assert hybrid_layers(load_model(tflites["bert"].file)) == []


@pytest.mark.parametrize(("name", "expected"), [("tokens_8/a.b", "a.b"), ("a.b", "a.b")])
def test_layer_is_the_tensor_without_its_signature(name: str, expected: str) -> None:
    assert layer_of(name) == expected


def test_example_dtype_is_as_numpy_names_it(tflites: Any) -> None:
    assert np.dtype(tflites["Residual"].component.inputs[0].dtype) == np.float32


@pytest.mark.parametrize(("batch", "calls"), [(1, ""), (4, ": an inference of 4 is 4 calls")])
def test_a_fixed_batch_is_told_with_its_size(monkeypatch: pytest.MonkeyPatch, batch: int, calls: str) -> None:
    fixed = described(tagger(8, 16), monkeypatch, x={0: "batch", 1: "sequence"})
    free = fixed.model_copy(update={"signatures": {}})
    assert batch_notes({"model": fixed, "other": free}, batch) == [
        f"{fixed.files[0]}: the batch is fixed at 1, more samples run one call after another{calls}"
    ]
