from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import parse, proto, random_array, with_weights
from tiny import Exported

from edgekit.artifact import State
from edgekit.errors import ModelError
from edgekit.inspection.graphs import bind_dimensions, inspect_graph
from edgekit.inspection.records import GraphRecord, TensorRecord
from edgekit.tasks.base import Workload

PRODUCT = "g (float[batch, length, 64] x) => (float[batch, length, 32] y) { [last] y = MatMul (x, w) }"


def inspected(model: onnx.ModelProto, tmp_path: Path, **workload: Any) -> GraphRecord:
    onnx.save(model, tmp_path / "model.onnx")
    return inspect_graph(tmp_path / "model.onnx", Workload(**workload), "model")


def product(tmp_path: Path, **workload: Any) -> GraphRecord:
    return inspected(with_weights(PRODUCT, w=random_array(64, 32)), tmp_path, **workload)


@pytest.mark.parametrize(
    ("inputs", "workload", "sizes", "free"),
    [
        ("float[batch, sequence] x", {"batch": 2, "tokens": 9}, {"batch": 2, "sequence": 9}, ()),
        ("float[N, C] x", {"batch": 2, "tokens": 9}, {"N": 2, "C": 9}, ()),
        ("float[2, batch, 8] x", {"batch": 3}, {"batch": 3}, ()),
        ("float[N, 3, height, width] x", {"image": 64}, {"N": 1, "height": 64, "width": 64}, ()),
        ("float[N, 3, H, W] x", {"image": 64}, {"N": 1, "H": 64, "W": 64}, ()),
        ("float[N, 3, H, W] x", {}, {"N": 1}, ("H", "W")),
        ("float[N, C, 8, 8] x", {"image": 64}, {"N": 1}, ("C",)),
        (
            "float[batch, past_sequence] k, float[batch, total] m",
            {"tokens": 5},
            {"batch": 1, "past_sequence": 5, "total": 5},
            (),
        ),
        ("float[n] x, float[m, n] z", {"batch": 2, "tokens": 9}, {"n": 9, "m": 2}, ()),
    ],
)
def test_free_dimensions_follow_the_workload(
    inputs: str, workload: dict[str, int], sizes: dict[str, int], free: tuple[str, ...]
) -> None:
    name = inputs.rsplit(",", maxsplit=1)[-1].rsplit(maxsplit=1)[-1]
    model = parse(f"g ({inputs}) => (float y) {{ y = Relu ({name}) }}")
    assert bind_dimensions(model.graph, Workload(**workload)) == (sizes, free)


def test_a_sum_of_dimensions_is_added_up_and_one_without_a_name_gets_one(tmp_path: Path) -> None:
    model = proto("g (float[batch, past] x, float[batch, q] z) => (float y) { y = Relu (z) }")
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "past + 1"
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    record = inspected(model, tmp_path, batch=2, tokens=7)
    assert record.sizes == {"x[0]": 2, "past": 7, "batch": 2, "past + 1": 8}
    assert record.outputs == (TensorRecord(name="y", dtype="float32", shape=(), at=(2, 8)),)


def test_a_graph_says_what_it_is(tmp_path: Path) -> None:
    model = with_weights(PRODUCT, w=random_array(64, 32))
    model.producer_name, model.producer_version = "somebody", "1.2"
    record = inspected(model, tmp_path, batch=2, tokens=5)
    assert (record.producer, record.ir_version, record.opsets) == ("somebody 1.2", 10, {"": 21, "com.microsoft": 1})
    assert record.inputs == (TensorRecord(name="x", dtype="float32", shape=("batch", "length", 64), at=(2, 5, 64)),)
    assert record.outputs == (TensorRecord(name="y", dtype="float32", shape=("batch", "length", 32), at=(2, 5, 32)),)
    assert (record.parameters, record.weights[0].precision, record.weights[0].size_bytes) == (2048, "fp32", 8192)
    assert record.work.macs == 2 * 5 * 64 * 32
    assert record.work.complete
    assert record.memory.weights_bytes == 8192
    assert record.memory.activations_bytes == 4 * 2 * 5 * (64 + 32)
    assert record.memory.peak_bytes == 8192 + 3840
    (operator,) = record.operators
    assert (operator.kind, operator.precision, operator.count, operator.macs) == ("MatMul", "fp32", 1, 20480)
    (layer,) = record.layers
    assert (layer.name, layer.kind, layer.weight, layer.parameters, layer.macs) == (
        "last",
        "MatMul",
        (64, 32),
        2048,
        20480,
    )
    assert (record.quantization, record.layers_in_float, record.refused) == ((), 1, {})


def test_work_and_memory_follow_the_batch(tmp_path: Path) -> None:
    one, four = product(tmp_path, batch=1), product(tmp_path, batch=4)
    assert (one.work.macs, four.work.macs) == (128 * 2048, 4 * 128 * 2048)
    assert one.memory.weights_bytes == four.memory.weights_bytes
    assert four.memory.activations_bytes == 4 * (one.memory.activations_bytes or 0)


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    text = "g (float[N, 3, H, W] x) => (float y) { [first] y = Conv (x, k) }"
    record = inspected(with_weights(text, k=random_array(4, 3, 3, 3)), tmp_path)
    assert record.free == ("H", "W")
    assert (record.work.macs, record.work.complete) == (None, False)
    assert record.work.notes == ("not counted, since shapes are not known: first",)
    assert (record.memory.activations_bytes, record.memory.complete) == (None, False)
    assert record.operators[0].macs is None
    assert inspected(with_weights(text, k=random_array(4, 3, 3, 3)), tmp_path, image=10).work.macs == 4 * 64 * 27


def test_a_workload_that_the_graph_cannot_run_is_said(tmp_path: Path) -> None:
    text = "g (float[batch, 1, length] x) => (float y) { [first] y = Conv (x, k) }"
    record = inspected(with_weights(text, k=random_array(4, 1, 9)), tmp_path, tokens=8)
    assert record.refused == {"first": "its window of 9 is wider than its input of 8"}
    assert record.work.macs is None


def test_external_data_is_counted_and_named(tmp_path: Path) -> None:
    model = with_weights(PRODUCT, w=random_array(64, 32))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    record = inspect_graph(tmp_path / "model.onnx", Workload(), "model")
    assert [(file.name, file.size_bytes) for file in record.files][1:] == [("weights.bin", 8192)]
    assert record.parameters == 2048
    (tmp_path / "weights.bin").unlink()
    record = inspect_graph(tmp_path / "model.onnx", Workload(), "model")
    assert (record.files[1].size_bytes, record.parameters, record.work.macs) == (None, 2048, 128 * 2048)


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname"])
def test_a_file_outside_the_folder_is_not_looked_at(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(8192))
    model = with_weights(PRODUCT, w=random_array(64, 32))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = place
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    record = inspect_graph(folder / "model.onnx", Workload(), "model")
    assert [(file.name, file.size_bytes) for file in record.files][1:] == [(place, None)]


@pytest.mark.parametrize("content", [b"no graph", b"\x08\x0a\x3a\x02\x0a\x07", b"\x3a\x05\x0a\x03\x22\x01\xff"])
def test_what_is_no_graph_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"'model.onnx' is (not a readable ONNX file|no valid ONNX graph)"):
        inspect_graph(tmp_path / "model.onnx", Workload(), "model")


def test_a_graph_that_onnxs_checker_refuses_is_an_error_with_its_reason(tmp_path: Path) -> None:
    onnx.save(proto("g (float[2, 3] x) => (float[2] y) { y = Einsum (x) }"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"'model.onnx' is no valid ONNX graph") as caught:
        inspect_graph(tmp_path / "model.onnx", Workload(), "model")
    assert "Required attribute 'equation' is missing" in caught.value.why


def test_a_name_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    content = proto("g (float[2, 3] x) => (float[2, 3] y) { [named] y = Relu (x) }").SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content.replace(b"named", b"n\xffmed"))
    with pytest.raises(ModelError) as caught:
        inspect_graph(tmp_path / "model.onnx", Workload(), "model")
    assert caught.value.why == "the name b'n\\xffmed' is not UTF-8"


def test_functions_are_written_out(tmp_path: Path) -> None:
    model = proto(
        """<ir_version: 10, opset_import: ["" : 21, "mine" : 1]>
        g (float[2, 3] x) => (float[2, 3] y) { y = mine.twice (x) }
        <domain: "mine", opset_import: ["" : 21]> twice (a) => (c) { b = Relu (a)  c = Add (b, b) }"""
    )
    record = inspected(model, tmp_path)
    assert record.functions == 1
    assert {one.kind: one.count for one in record.operators} == {"Relu": 1, "Add": 1}
    assert record.outputs[0].at == (2, 3)


def test_states_are_those_of_the_artifact(tmp_path: Path) -> None:
    onnx.save(with_weights(PRODUCT, w=random_array(64, 32)), tmp_path / "model.onnx")
    state = State(output="y", input="x", initial=(1, 2))
    assert inspect_graph(tmp_path / "model.onnx", Workload(), "decoder", (state,)).states == (state,)


@pytest.mark.parametrize(("family", "layers"), [("bert", 23), ("vit", 20)])
def test_an_exported_model(exported: Exported, family: str, layers: int) -> None:
    record = inspect_graph(exported[family][1].file(), Workload(batch=2, tokens=16), "model")
    assert len(record.layers) == layers
    assert sum(layer.macs or 0 for layer in record.layers) <= (record.work.macs or 0)
    assert sum(one.macs or 0 for one in record.operators) == record.work.macs
    assert record.outputs[0].at == (2, 2)
    assert np.isclose(sum(part.size_bytes for part in record.weights), record.memory.weights_bytes, rtol=0.01)
