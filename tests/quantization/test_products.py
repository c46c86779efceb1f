from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import random_array, with_weights

from edgekit.errors import UsageError
from edgekit.formats.onnx import load_graph, precision_of, save_graph
from edgekit.int4 import PRODUCT_BLOCK
from edgekit.quantization.makers import integers_of
from edgekit.quantization.products import pack_products, packed, packs
from edgekit.quantization.schemes import Scheme, WeightedNode, quantize_graph, resolve_scheme, weighted_nodes
from edgekit.runtimes.ort import open_session
from edgekit.target import load_target

INT4 = Scheme(method="int4", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True)
# A table, a product, a layer with rows for columns and a bias; no size is a multiple of the block.
TEXT = """g (int64[n] i) => (float[n, 40] y) {
  x = Gather <axis = 0> (table, i)
  h = MatMul (x, w)
  y = Gemm <transB = 1> (h, v, b)
}"""
WEIGHTS = {
    "table": random_array(50, 100),
    "w": random_array(100, 48, seed=1),
    "v": random_array(40, 48, seed=2),
    "b": 10 * random_array(40, seed=3),
}
TOKENS = np.array([3, 1, 4, 15, 9, 2], np.int64)


def named(folder: Path) -> Path:
    """The graph with names for its nodes."""
    file = folder / "model.onnx"
    onnx.save(with_weights(TEXT, **WEIGHTS), file)
    model = load_graph(file)
    for node, name in zip(model.graph, ("table", "product", "gemm"), strict=True):
        node.name = name
    save_graph(model, file)
    return file


def answers(file: Path) -> Any:
    return open_session(file, 1).run(None, {"i": TOKENS})[0]


def unpacked(node: ir.Node) -> Any:
    """The weights that ``packed`` stands for, [out, in]."""
    values, scales, sizes = packed(node)
    assert values.shape == (sizes["N"], -(-sizes["K"] // PRODUCT_BLOCK), PRODUCT_BLOCK // 2)
    assert (values.dtype, scales.dtype, scales.shape) == (np.uint8, np.float32, values.shape[:2])
    steps = np.stack([values & 15, values >> 4], axis=-1).astype(np.float32).reshape(*values.shape[:2], -1) - 8
    return (steps * scales[..., None]).reshape(sizes["N"], -1)[:, : sizes["K"]]


def test_products_answer_as_their_rounded_weights_do(tmp_path: Path) -> None:
    file = named(tmp_path)
    model = load_graph(file)
    rounded = {str(node.name): unpacked(node) for node in model.graph if packs(node)}
    assert list(rounded) == ["product", "gemm"]
    for name, rows in (("product", WEIGHTS["w"].T), ("gemm", WEIGHTS["v"])):
        assert 0 < np.linalg.norm(rounded[name] - rows) < 0.12 * np.linalg.norm(rows)
    expected = WEIGHTS["table"][TOKENS] @ rounded["product"].T @ rounded["gemm"].T + WEIGHTS["b"]
    pack_products(model, ["product", "gemm"])
    save_graph(model, tmp_path / "packed.onnx")
    found = answers(tmp_path / "packed.onnx")
    # activations are rounded to 8 bits in blocks on the way
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
    made = load_graph(tmp_path / "packed.onnx").graph
    assert {node.op_type for node in made} == {"Gather", "MatMulNBits", "Add"}
    assert {"w", "v"}.isdisjoint(made.initializers)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = MatMul (x, w)", True),
        ("y = Gemm (x, w)", True),
        ("y = Gemm <alpha = 1.0, beta = 1.0, transA = 0, transB = 1> (x, w)", True),
        ("y = Gemm <alpha = 2.0> (x, w)", False),
        ("y = Gemm <beta = 0.5> (x, w)", False),
        ("y = Gemm <transA = 1> (x, w)", False),
        ("y = MatMul (w, x)", False),
        ("y = Mul (x, w)", False),
        ("y = MatMul (x, deep)", False),
        ("y = MatMul (x, half)", False),
    ],
)
def test_only_plain_products_with_a_constant_matrix_are_packed(line: str, expected: bool) -> None:
    arrays = {"w": random_array(64, 64), "deep": random_array(2, 64, 64), "half": np.zeros((64, 64), np.float16)}
    text = f"g (float[64, 64] x) => (float[64, 64] y) {{ {line} }}"
    model = ir.serde.deserialize_model(with_weights(text, **arrays))
    assert packs(next(iter(model.graph))) is expected


def test_the_scheme_makes_products_int4_and_tables_int8_and_spares_what_falls_back(tmp_path: Path) -> None:
    file = named(tmp_path)
    float_size = file.stat().st_size
    nodes = weighted_nodes(load_graph(file), embeddings=True)
    assert [(node.name, node.packs, INT4.takes(node)) for node in nodes] == [
        ("table", False, True),
        ("product", True, True),
        ("gemm", True, True),
    ]
    quantize_graph(file, tmp_path / "all.onnx", INT4, ["table", "product", "gemm"], None)
    made = load_graph(tmp_path / "all.onnx")
    assert [node.op_type for node in made.graph].count("MatMulNBits") == 2
    assert precision_of(made) == "int8"
    tables = [one.const_value for one in made.graph.initializers.values() if one.shape == (50, 100)]
    assert [table.dtype.name for table in tables if table is not None] == ["UINT8"]
    assert (tmp_path / "all.onnx").stat().st_size < 0.4 * float_size
    quantize_graph(file, tmp_path / "some.onnx", INT4, ["gemm"], None)
    some = load_graph(tmp_path / "some.onnx")
    assert [node.op_type for node in some.graph] == ["Gather", "MatMul", "MatMulNBits", "Add"]
    np.testing.assert_array_equal(some.graph.initializers["w"].const_value.numpy(), WEIGHTS["w"])  # type: ignore[union-attr]
    error = {name: np.linalg.norm(answers(tmp_path / name) - answers(file)) for name in ("all.onnx", "some.onnx")}
    assert 0 < error["some.onnx"] < error["all.onnx"] < 0.2 * np.linalg.norm(answers(file))


def test_what_it_cannot_take_is_left_out() -> None:
    assert not INT4.takes(WeightedNode("conv", "Conv", 4096))
    assert not INT4.takes(WeightedNode("scaled", "Gemm", 4096))
    assert INT4.takes(WeightedNode("table", "Gather", 4096))
    dynamic, static = (INT4.model_copy(update={"method": method}) for method in ("dynamic", "static"))
    assert not dynamic.takes(WeightedNode("scaled", "Gemm", 4096))  # its factors would be lost
    assert static.takes(WeightedNode("scaled", "Gemm", 4096))
    assert dynamic.takes(WeightedNode("plain", "Gemm", 4096, packs=True))
    assert dynamic.takes(WeightedNode("product", "MatMul", 4096))


def test_its_weights_fill_their_bits_on_every_processor() -> None:
    found = resolve_scheme("int4", "auto", "int8", load_target("x86-64"))
    assert (found.method, found.reduce_range, found.embeddings) == ("int4", False, True)
    assert integers_of(found) == "weights of 4 bits"
    assert integers_of(found.model_copy(update={"int4": ("model/words",)})) == "weights of 4 bits, tables of 4 bits"


def test_it_is_refused_where_something_else_than_a_processor_computes() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_scheme("int4", "auto", "int8", load_target("cuda"))
    assert caught.value.what == "quantize.method=int4 cannot go with the target 'cuda'"
    assert "onnxruntime on a CPU: its MatMulNBits reads the weights" in caught.value.why
    assert caught.value.hint == "Leave quantize.method away."


def test_a_weight_that_others_read_stays_beside_its_packed_copy(tmp_path: Path) -> None:
    text = """g (float[2, 64] x) => (float[2, 64] y, float[2, 64] z) {
      y = MatMul (x, w)
      z = Gemm <transA = 0, alpha = 2.0> (x, w)
    }"""
    model = ir.serde.deserialize_model(with_weights(text, w=random_array(64, 64)))
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    pack_products(model, ["n0"])
    save_graph(model, tmp_path / "model.onnx")
    assert "w" in load_graph(tmp_path / "model.onnx").graph.initializers
    y, z = open_session(tmp_path / "model.onnx", 1).run(None, {"x": random_array(2, 64, seed=1)})
    assert 0 < np.linalg.norm(2 * y - z) < 0.15 * np.linalg.norm(z)
