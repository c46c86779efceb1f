from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import parse, random_array, with_weights
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgekit.formats.integers import Quantized, quantized_layer
from edgekit.formats.known import Shapes
from edgekit.formats.layers import constants, find_layers, fixed_values, parameters_of, precision_of_node
from edgekit.formats.shapes import infer_shapes

PRODUCTS = "g (float[batch, 64] x) => (float[batch, 32] y) { a = MatMul (x, v) b = Relu (a) y = MatMul (b, w) }"
CONVOLUTIONS = """g (float[batch, 3, 8, 8] x) => (float[batch, 32] y) {
  a = Conv (x, k, c)
  b = GlobalAveragePool (a)
  d = Flatten (b)
  y = Gemm (d, w, e)
}"""
WEIGHTS = {"v": random_array(64, 64), "w": random_array(64, 32, seed=1)}
FILTERS = {
    "k": random_array(64, 3, 3, 3),
    "c": random_array(64, seed=1),
    "w": random_array(64, 32, seed=2),
    "e": random_array(32, seed=3),
}
TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}


class Feeds(CalibrationDataReader):
    def __init__(self, *shape: int) -> None:
        self.left = [{"x": random_array(*shape, seed=seed)} for seed in range(3)]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """onnxruntime's tools log on the root logger."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def described(file: Path) -> tuple[ir.Model, Shapes, Counter[Quantized]]:
    model = ir.load(file)
    shapes = infer_shapes(model, {"batch": 2})
    layers = (quantized_layer(node, shapes) for node in model.graph)
    return model, shapes, Counter(layer for layer in layers if layer is not None)


@pytest.mark.parametrize("weights", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("seven_bits", [True, False])
def test_dynamic_quantization(tmp_path: Path, weights: str, per_channel: bool, seven_bits: bool) -> None:
    onnx.save(with_weights(PRODUCTS, **WEIGHTS), tmp_path / "model.onnx")
    quantize_dynamic(
        tmp_path / "model.onnx",
        tmp_path / "int8.onnx",
        per_channel=per_channel,
        reduce_range=seven_bits,
        weight_type=TYPES[weights],
    )
    expected = Quantized("dynamic", "integer operators", "u8", weights, per_channel, seven_bits)
    assert described(tmp_path / "int8.onnx")[2] == {expected: 2}
    assert expected.scheme == f"u8{weights}"


@pytest.mark.parametrize("notation", ["QDQ", "QLinear operators"])
@pytest.mark.parametrize(
    ("activations", "weights", "per_channel"),
    # with a scale for each channel, onnxruntime's tool writes s8 where u8 is asked for
    [("u8", "s8", True), ("s8", "s8", True), ("u8", "s8", False), ("u8", "u8", False)],
)
def test_static_quantization(tmp_path: Path, notation: Any, activations: str, weights: str, per_channel: bool) -> None:
    onnx.save(with_weights(CONVOLUTIONS, **FILTERS), tmp_path / "model.onnx")
    quantize_static(
        tmp_path / "model.onnx",
        tmp_path / "int8.onnx",
        Feeds(2, 3, 8, 8),
        quant_format=QuantFormat.QDQ if notation == "QDQ" else QuantFormat.QOperator,
        per_channel=per_channel,
        activation_type=TYPES[activations],
        weight_type=TYPES[weights],
    )
    model, shapes, found = described(tmp_path / "int8.onnx")
    assert {layer.scheme for layer in found} == {f"{activations}{weights}"}
    assert {(layer.method, layer.notation, layer.per_channel) for layer in found} == {("static", notation, per_channel)}
    assert found.total() == 2
    layers = list(find_layers(model.graph, shapes, fixed_values(model.graph)))
    assert [layer.precision for layer in layers] == ["int8", "int8"]
    # 64 filters of 27 weights, 64 x 32 weights, and a bias for each output
    assert [layer.parameters for layer in layers] == [64 * 27 + 64, 64 * 32 + 32]
    assert sum(parameters_of(value, shapes) for value in constants(model.graph)) == 64 * 27 + 64 + 64 * 32 + 32


def test_a_layer_whose_weights_alone_are_scaled() -> None:
    text = "g (float[2, 64] x) => (float y) { w = DequantizeLinear <axis = 1> (q, s) y = MatMul (x, w) }"
    weights = {"q": np.full((64, 32), 100, dtype=np.int8), "s": random_array(32)}
    model = ir.serde.deserialize_model(with_weights(text, **weights))
    shapes, node = infer_shapes(model, {}), list(model.graph)[-1]
    assert quantized_layer(node, shapes) == Quantized("weights only", "QDQ", "", "s8", True, False)
    assert precision_of_node(node, shapes) == "fp32"


def test_blocks_of_few_bits() -> None:
    text = """g (float[2, 64] x, uint8[32, 2, 16] q, float[64] s) => (float y) {
      y = com.microsoft.MatMulNBits <K = 64, N = 32, bits = 4, block_size = 32> (x, q, s)
    }"""
    model = parse(text)
    shapes, node = infer_shapes(model, {}), next(iter(model.graph))
    assert quantized_layer(node, shapes) == Quantized("weights only", "n-bit blocks", "", "u4", True, None)
    assert shapes.output(node).shape == (2, 32)


@pytest.mark.parametrize(("kind", "packed", "scheme"), [("int4", 1, "s4"), ("uint4", 1, "u4"), ("uint8", 2, "u4")])
def test_tables_of_few_bits(kind: str, packed: int, scheme: str) -> None:
    import ml_dtypes

    text = """g (int64[2, 3] i) => (float y) {
      y = com.microsoft.GatherBlockQuantized <quantize_axis = 1, bits = 4, block_size = 32> (q, i, s)
    }"""
    table = np.ones((40, 64 // packed), getattr(ml_dtypes, kind, kind))
    model = ir.serde.deserialize_model(with_weights(text, q=table, s=random_array(40, 2)))
    shapes, node = infer_shapes(model, {}), next(iter(model.graph))
    assert quantized_layer(node, shapes) == Quantized("weights only", "n-bit blocks", "", scheme, True, None)
    assert shapes.output(node).shape == (2, 3, 64)
    (layer,) = find_layers(model.graph, shapes, fixed_values(model.graph))
    assert (layer.parameters, layer.precision) == (40 * 64, "int4")
    assert precision_of_node(node, shapes) == "int4"
    assert sum(parameters_of(value, shapes) for value in constants(model.graph)) == 40 * 64


def test_a_float_graph_has_no_quantized_layers(tmp_path: Path) -> None:
    onnx.save(with_weights(CONVOLUTIONS, **FILTERS), tmp_path / "model.onnx")
    assert described(tmp_path / "model.onnx")[2] == {}


def test_a_product_of_two_activations_is_no_layer() -> None:
    text = """g (uint8[2, 4] p, uint8[4, 3] q, float s) => (float y) {
      a = DequantizeLinear (p, s)
      b = DequantizeLinear (q, s)
      y = MatMul (a, b)
    }"""
    model = parse(text)
    shapes = infer_shapes(model, {})
    assert [quantized_layer(node, shapes) for node in model.graph] == [None, None, None]
    assert list(find_layers(model.graph, shapes, fixed_values(model.graph))) == []
