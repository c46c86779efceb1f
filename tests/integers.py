"""Small INT8 graphs of every kind that onnxruntime multiplies integers in, and what saturating sums make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import tiny
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import Artifact


class Case(NamedTuple):
    """A graph with an input ``x``, and a few calls of it."""

    artifact: Artifact
    calls: list[dict[str, Any]]


class Layer(NamedTuple):
    """Shape and types of a layer.

    Attributes:
        weight: its shape, as the operator has it.
        rows: samples in a call, or sides of an image.
        activations: integer type.
        attributes: of the operator.
        written: whether its output is integers too.
        relu: whether a Relu follows.
    """

    weight: tuple[int, ...]
    rows: tuple[int, ...] = (4,)
    activations: Any = np.uint8
    attributes: dict[str, Any] = {}  # a tuple's default, never changed
    written: bool = True
    relu: bool = False


def wide_weights(shape: Sequence[int], seed: int = 0) -> Any:
    """s8 weights that fill their range, so that sums saturate."""
    return np.clip(np.random.default_rng(seed).normal(0, 90, shape), -128, 127).astype(np.int8)


def write(folder: Path, nodes: Sequence[Any], constants: dict[str, Any], ends: Sequence[Any]) -> Artifact:
    """A graph as an artifact of the component ``model``."""
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "integers", ends[:1], ends[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return Artifact(folder, tiny.manifest())


def matmul_integer(folder: Path, shape: tuple[int, int], rows: int, zero: int = 77) -> Case:
    """``MatMulInteger`` of u8 by s8."""
    constants = {"w": wide_weights(shape), "zx": np.uint8(zero)}
    ends = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [None, shape[0]]),
        helper.make_tensor_value_info("y", TensorProto.INT32, None),
    ]
    nodes = [helper.make_node("MatMulInteger", ["x", "w", "zx"], ["y"], name="product_quant")]
    random = np.random.default_rng(1)
    calls = [{"x": random.integers(0, 256, (rows, shape[0])).astype(np.uint8)} for _ in range(3)]
    return Case(write(folder, nodes, constants, ends), calls)


def dynamic(folder: Path, shape: tuple[int, int], rows: int) -> Case:
    """A product as onnxruntime's dynamic quantization writes it, with a bias: it is run as one kernel."""
    random = np.random.default_rng(2)
    constants = {
        "w": wide_weights(shape),
        "sw": random.uniform(0.01, 0.02, shape[1]).astype(np.float32),
        "b": random.normal(size=shape[1]).astype(np.float32),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "sx", "zx"]),
        helper.make_node("MatMulInteger", ["xq", "w", "zx"], ["sum"], name="product_quant"),
        helper.make_node("Cast", ["sum"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["sx", "sw"], ["s"]),
        helper.make_node("Mul", ["float", "s"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, shape[0]]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    calls = [{"x": (random.normal(size=(1, rows, shape[0])) + 1).astype(np.float32)} for _ in range(3)]
    return Case(write(folder, nodes, constants, ends), calls)


def surrounded(folder: Path, kind: str, layer: Layer) -> Case:
    """``MatMul``, ``Gemm`` or ``Conv`` in QDQ notation, with a bias where it takes one."""
    random, kept = np.random.default_rng(3), layer.activations
    by_rows = kind == "Conv" or layer.attributes.get("transB") == 1
    axis = 0 if by_rows else 1
    columns = layer.weight[axis]
    scales, step = random.uniform(0.001, 0.002, columns).astype(np.float32), np.float32(0.02)
    lowest = np.iinfo(kept).min
    constants: dict[str, Any] = {
        "w": wide_weights(layer.weight),
        "sw": scales,
        "zw": np.zeros(columns, np.int8),
        "sx": step,
        "zx": np.array(30 + lowest, kept),
        "sy": np.float32(0.2),
        "zy": np.array(lowest if layer.relu else lowest + 120, kept),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=axis),
    ]
    inputs = ["xd", "wd"]
    if kind != "MatMul":
        constants |= {"b": random.integers(-1000, 1000, columns).astype(np.int32), "sb": scales * step}
        nodes.append(helper.make_node("DequantizeLinear", ["b", "sb"], ["bd"], axis=0))
        inputs.append("bd")
    nodes.append(helper.make_node(kind, inputs, ["sum"], name="layer", **layer.attributes))
    if layer.relu:
        nodes.append(helper.make_node("Relu", ["sum"], ["positive"]))
    last = "positive" if layer.relu else "sum"
    if layer.written:
        nodes.append(helper.make_node("QuantizeLinear", [last, "sy", "zy"], ["yq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]))
        last = "y"
    inside = layer.weight[0] if axis else layer.weight[1]
    groups = layer.attributes.get("group", 1)
    shape = (2, inside * groups, *layer.rows) if kind == "Conv" else (*layer.rows, inside)
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape[1:]]),
        helper.make_tensor_value_info(last, TensorProto.FLOAT, None),
    ]
    calls = [{"x": random.normal(2.5, 1, shape).astype(np.float32)} for _ in range(2)]
    return Case(write(folder, nodes, constants, ends), calls)


def window(kernel: int, rank: int = 2, **more: Any) -> dict[str, Any]:
    """Attributes of a convolution whose output is as large as its input, unless more is said."""
    whole = {"kernel_shape": [kernel] * rank, "pads": [kernel // 2] * 2 * rank, "strides": [1] * rank}
    return whole | more


SIDES = (9, 9)
# Kinds of kernels, shapes with ends that fill no vector, and every way that activations and outputs can be.
LAYERS: dict[str, tuple[str, Layer]] = {
    "image": ("Conv", Layer((8, 3, 3, 3), SIDES, attributes=window(3))),
    "channels by 4": ("Conv", Layer((16, 16, 3, 3), SIDES, attributes=window(3))),
    "pointwise": ("Conv", Layer((16, 16, 1, 1), SIDES, attributes=window(1))),
    "signed": ("Conv", Layer((24, 8, 3, 3), SIDES, np.int8, window(3))),
    "signed, relu": ("Conv", Layer((32, 12, 3, 3), SIDES, np.int8, window(3), relu=True)),
    "strides": ("Conv", Layer((5, 6, 5, 5), SIDES, attributes=window(5, strides=[2, 2]), relu=True)),
    "strides, pointwise": ("Conv", Layer((20, 9, 1, 1), SIDES, attributes=window(1, strides=[2, 2]))),
    "dilated": ("Conv", Layer((8, 8, 3, 3), SIDES, attributes=window(3, dilations=[2, 2], pads=[2] * 4))),
    "groups": ("Conv", Layer((16, 4, 3, 3), SIDES, attributes=window(3, group=2))),
    "two columns a group": ("Conv", Layer((32, 1, 3, 3), SIDES, attributes=window(3, group=16))),
    "one dimension": ("Conv", Layer((7, 5, 3), (9,), attributes=window(3, 1))),
    "Gemm": ("Gemm", Layer((32, 10), (1,))),
    "Gemm, turned": ("Gemm", Layer((17, 33), (6,), attributes={"transB": 1})),
    "Gemm, signed": ("Gemm", Layer((64, 10), activations=np.int8)),
    "Gemm, floats out": ("Gemm", Layer((64, 10), written=False)),
    "MatMul": ("MatMul", Layer((48, 32), (5,))),
    "MatMul, batch": ("MatMul", Layer((48, 32), (2, 5))),
    "MatMul, signed": ("MatMul", Layer((48, 32), (5,), np.int8)),
    "MatMul, floats out": ("MatMul", Layer((48, 31), (1, 5), written=False)),
}
PRODUCTS: dict[str, tuple[tuple[int, int], int]] = {
    "one pair": ((2, 1), 1),
    "odd": ((7, 5), 3),
    "one row": ((64, 33), 1),
    "odd and long": ((257, 40), 17),
    "blocks": ((384, 96), 128),
    "longer than a block": ((1537, 16), 5),
}
DYNAMIC: dict[str, tuple[tuple[int, int], int]] = {"dynamic, one row": ((64, 16), 1), "dynamic": ((130, 40), 9)}
NAMES = (*PRODUCTS, *DYNAMIC, *LAYERS)


def make_case(name: str, folder: Path) -> Case:
    """One of ``NAMES``."""
    if name in PRODUCTS:
        return matmul_integer(folder, *PRODUCTS[name])
    if name in DYNAMIC:
        return dynamic(folder, *DYNAMIC[name])
    return surrounded(folder, *LAYERS[name])
