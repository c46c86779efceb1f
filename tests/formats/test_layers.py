from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from graphs import inferred, parse, random_array, with_weights
from tiny import Exported

from edgekit.formats.layers import (
    constants,
    find_layers,
    fixed_values,
    parameters_of,
    precision_name,
    precision_of_node,
)
from edgekit.formats.onnx import load_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.quantization.half import halve_graph
from edgekit.quantization.schemes import Scheme, quantize_graph, weighted_nodes


def parameters(model: ir.Model, **sizes: int) -> int:
    shapes = infer_shapes(model, sizes)
    return sum(parameters_of(value, shapes) for value in constants(model.graph))


def quantized(source: Path, destination: Path) -> None:
    scheme = Scheme.model_validate(
        {"method": "dynamic", "activations": "u8", "weights": "s8", "per_channel": True, "reduce_range": False}
        | {"embeddings": True}
    )
    names = [node.name for node in weighted_nodes(load_graph(source), embeddings=True)]
    quantize_graph(source, destination, scheme, names, None)


def halved(source: Path, destination: Path) -> None:
    halve_graph(source, destination, [])


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("make", [quantized, halved])
def test_a_quantized_graph_has_the_parameters_of_the_float_one(
    exported: Exported, family: str, make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    file = exported[family][1].file()
    make(file, tmp_path / "model.onnx")
    before = parameters(load_graph(file))
    assert before > 26_000
    assert parameters(load_graph(tmp_path / "model.onnx")) == before


def test_shapes_scales_and_single_numbers_are_no_parameters() -> None:
    text = """g (float[2, 3, 4, 4] x) => (float y) {
      a = Mul (x, half)
      b = Resize (a, , factors)
      c = Clip (b, low, high)
      d = Conv (c, k, bias)
      e = Reshape (d, wanted)
      q = QuantizeLinear (e, scale, zero)
      y = DequantizeLinear (q, scale, zero)
    }"""
    weights = {
        "half": np.array(0.5, dtype=np.float32),
        "factors": np.array([1, 1, 2, 2], dtype=np.float32),
        "low": np.array(0, dtype=np.float32),
        "high": np.array(6, dtype=np.float32),
        "k": random_array(5, 3, 1, 1),
        "bias": random_array(5),
        "wanted": np.array([2, -1]),
        "scale": np.array(0.1, dtype=np.float32),
        "zero": np.array(0, dtype=np.uint8),
    }
    model = ir.serde.deserialize_model(with_weights(text, **weights))
    assert parameters(model) == 5 * 3 + 5


def test_the_layers_are_the_nodes_with_matrices_in_order() -> None:
    text = """g (float[2, 3, 8, 8] x, int64[2] i) => (float y, float z) {
      [first] a = Conv (x, k, c)
      b = GlobalAveragePool (a)
      d = Flatten (b)
      t = Transpose (w)
      [last] y = MatMul (d, t)
      [table] z = Gather (w, i)
      p = Gather (s, i)
    }"""
    weights = {
        "k": random_array(4, 3, 3, 3),
        "c": random_array(4),
        "w": random_array(6, 4),
        "s": np.array([[1, 2], [3, 4]]),
    }
    model = ir.serde.deserialize_model(with_weights(text, **weights))
    shapes = infer_shapes(model, {})
    layers = list(find_layers(model.graph, shapes, fixed_values(model.graph)))
    assert [(layer.node.name, layer.shape, layer.parameters, layer.precision) for layer in layers] == [
        ("first", (4, 3, 3, 3), 112, "fp32"),
        ("last", (4, 6), 24, "fp32"),  # as the product reads it, turned
        ("table", (6, 4), 24, "fp32"),
    ]


def test_weights_inside_a_branch_are_found() -> None:
    text = """g (float[3, 2] x, bool c) => (float y) {
      y = If (c) <
        then_branch = t () => (float p) { w = Constant <value = float[2, 2] {1, 2, 3, 4}> () p = MatMul (x, w) },
        else_branch = e () => (float q) { q = Identity (x) }
      >
    }"""
    model, shapes = inferred(text)
    (layer,) = find_layers(model.graph, shapes, fixed_values(model.graph))
    assert (layer.shape, layer.parameters) == ((2, 2), 4)
    assert parameters(model) == 4


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ir.DataType.FLOAT, "fp32"),
        (ir.DataType.BFLOAT16, "bf16"),
        (ir.DataType.FLOAT8E4M3FN, "fp8"),
        (ir.DataType.UINT8, "int8"),
        (ir.DataType.INT4, "int4"),
        (ir.DataType.INT64, "int64"),
        (ir.DataType.BOOL, "bool"),
    ],
)
def test_the_names_of_precisions(kind: ir.DataType, name: str) -> None:
    assert precision_name(kind) == name


def test_the_precision_of_operators() -> None:
    model = parse(
        "g (float[2] x, float[2] z) => (bool y) { a = Cast <to = 10> (x) b = Cast <to = 10> (z) y = Less (a, b) }"
    )
    shapes = infer_shapes(model, {})
    assert [precision_of_node(node, shapes) for node in model.graph] == ["fp16", "fp16", "bool"]
