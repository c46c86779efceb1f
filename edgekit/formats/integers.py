"""How a graph of any origin is quantized: which layers, with which integer types, scaled when, in which notation.

Three notations are known. *Integer operators* (``MatMulInteger``, ``ConvInteger``) read activations that
``DynamicQuantizeLinear`` scales at each run. *QLinear operators* read and write integers with fixed scales. In *QDQ*,
a float operator stands between ``DequantizeLinear`` and ``QuantizeLinear``, and the runtime runs it in integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.formats.graph import constant, producer
from edgekit.formats.known import Shapes, integer
from edgekit.tasks.base import Array

if TYPE_CHECKING:
    import onnx_ir as ir

Method = Literal["dynamic", "static", "weights only"]
Notation = Literal["integer operators", "QLinear operators", "QDQ", "n-bit blocks"]
# Where the weight and its scale stand among the inputs; None where the scale stands elsewhere.
INTEGER_KINDS: dict[str, tuple[int, int | None]] = {
    "MatMulInteger": (1, None),
    "ConvInteger": (1, None),
    "DynamicQuantizeMatMul": (1, 2),
    "MatMulIntegerToFloat": (1, 3),
}
QLINEAR_KINDS: dict[str, tuple[int, int]] = {
    "QLinearMatMul": (3, 4),
    "QLinearConv": (3, 4),
    "QGemm": (3, 4),
    "QAttention": (1, 4),
}
# Operators that read weights in blocks of few bits, and where the weight stands among the inputs.
BLOCK_KINDS = {"MatMulNBits": 1, "GatherBlockQuantized": 0}
# Float operators that QDQ surrounds, and which of their inputs is the weight.
FLOAT_KINDS: dict[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (1, 0),
    "Gather": (0,),
}
HANDED_THROUGH = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Cast", "Identity")
SHORT = {
    "UINT8": "u8",
    "INT8": "s8",
    "UINT16": "u16",
    "INT16": "s16",
    "UINT4": "u4",
    "INT4": "s4",
    "UINT2": "u2",
    "INT2": "s2",
    "FLOAT8E4M3FN": "f8e4m3",
    "FLOAT8E5M2": "f8e5m2",
}


@dataclass(frozen=True)
class Quantized:
    """One quantized layer.

    Attributes:
        method: whether activations are scaled as they come, or with fixed scales, or not at all.
        notation: how the graph says so.
        activations: integer type, as ``u8``; empty for ``weights only``.
        weights: integer type, as ``s8``; None where both operands are activations.
        per_channel: whether the weight has more than one scale; None where that cannot be told.
        seven_bits: whether the weight's values fill 7 bits at most; None where they were not read.
    """

    method: Method
    notation: Notation
    activations: str
    weights: str | None
    per_channel: bool | None
    seven_bits: bool | None

    @property
    def scheme(self) -> str:
        """Both types in one word, as ``u8s8``."""
        return f"{self.activations}{self.weights or self.activations}"


def quantized_layer(node: ir.Node, shapes: Shapes) -> Quantized | None:
    """How a node is quantized; None where it is not."""
    if node.op_type in INTEGER_KINDS:
        return _integer_operator(node, shapes)
    if node.op_type in QLINEAR_KINDS:
        weight, scale = QLINEAR_KINDS[node.op_type]
        return Quantized(
            "static",
            "QLinear operators",
            _short(shapes.input(node, 0).kind),
            _short(shapes.input(node, weight).kind),
            _many(node.inputs[scale], shapes),
            _seven_bits(node.inputs[weight]),
        )
    if node.op_type in BLOCK_KINDS:
        kind = shapes.input(node, BLOCK_KINDS[node.op_type]).kind
        weights = f"u{integer(node, 'bits', 4)}" if kind is None or kind.name == "UINT8" else _short(kind)
        return Quantized("weights only", "n-bit blocks", "", weights, True, None)
    if node.op_type in FLOAT_KINDS and node.domain in ("", "ai.onnx"):
        return _surrounded(node, shapes)
    return None


def _integer_operator(node: ir.Node, shapes: Shapes) -> Quantized:
    weight, scale = INTEGER_KINDS[node.op_type]
    activation = node.inputs[0]
    scaled_at_run = node.op_type == "DynamicQuantizeMatMul" or producer(activation, "DynamicQuantizeLinear")
    for _ in range(len(HANDED_THROUGH)):
        handing = producer(activation, *HANDED_THROUGH)
        if handing is None:
            break
        activation = handing.inputs[0]
        scaled_at_run = scaled_at_run or producer(activation, "DynamicQuantizeLinear")
    kind = "u8" if node.op_type == "DynamicQuantizeMatMul" else _short(shapes.input(node, 0).kind)
    return Quantized(
        "dynamic" if scaled_at_run else "static",
        "integer operators",
        kind,
        _short(shapes.input(node, weight).kind),
        _many(node.inputs[scale], shapes) if scale is not None else _scaled_per_channel(node, shapes),
        _seven_bits(node.inputs[weight]),
    )


def _scaled_per_channel(node: ir.Node, shapes: Shapes) -> bool | None:
    """Whether the constant scale that the integer product is multiplied with afterwards has more than one element."""
    reached = list(_users(node.outputs))
    for _ in range(4):  # Cast, perhaps a Reshape or a Concat, then Mul
        for user in reached:
            if user.op_type == "Mul":
                scales = [scale for value in user.inputs for scale in _scales(value)]
                found = [shapes.of(scale).elements for scale in scales]
                return max((size for size in found if size is not None), default=0) > 1 if found else None
        reached = [following for user in reached for following in _users(user.outputs)]
    return None


def _scales(value: ir.Value | None) -> list[ir.Value]:
    """The constants that a scale is the product of: itself, or those that were multiplied into it."""
    if value is None:
        return []
    if constant_value(value):
        return [value]
    multiplied = producer(value, "Mul")
    return (
        [] if multiplied is None else [part for part in multiplied.inputs if part is not None and constant_value(part)]
    )


def _surrounded(node: ir.Node, shapes: Shapes) -> Quantized | None:
    """A float operator whose weight comes out of a ``DequantizeLinear`` of constants."""
    for index in FLOAT_KINDS[node.op_type]:
        if index >= len(node.inputs):
            continue
        scaled = producer(node.inputs[index], "DequantizeLinear")
        if scaled is None or scaled.inputs[0] is None or not constant_value(scaled.inputs[0]):
            continue
        weights = _short(shapes.of(scaled.inputs[0]).kind)
        per_channel, seven = _many(scaled.inputs[1], shapes), _seven_bits(scaled.inputs[0])
        other = None if node.op_type == "Gather" else producer(node.inputs[1 if index == 0 else 0], "DequantizeLinear")
        if other is None:
            return Quantized("weights only", "QDQ", "", weights, per_channel, seven)
        dynamic = producer(other.inputs[0], "DynamicQuantizeLinear") is not None
        return Quantized(
            "dynamic" if dynamic else "static",
            "QDQ",
            _short(shapes.input(other, 0).kind),
            weights,
            per_channel,
            seven,
        )
    if node.op_type == "Gather":
        return _table(node, shapes)
    return None


def _table(node: ir.Node, shapes: Shapes) -> Quantized | None:
    """A look-up in a table of integers, which is scaled after it."""
    table = node.inputs[0]
    kind = shapes.of(table).kind
    users = [user for user in _users(node.outputs) if user.op_type == "DequantizeLinear"]
    if table is None or not constant_value(table) or kind is None or kind.name not in SHORT or not users:
        return None
    return Quantized("weights only", "QDQ", "", _short(kind), _many(users[0].inputs[1], shapes), _seven_bits(table))


def _users(values: Iterable[ir.Value]) -> Iterator[ir.Node]:
    return (use.node for value in values for use in value.uses())


def _many(value: ir.Value | None, shapes: Shapes) -> bool | None:
    elements = shapes.of(value).elements
    return None if elements is None else elements > 1


def _short(kind: ir.DataType | None) -> str:
    return "?" if kind is None else SHORT.get(kind.name, kind.name.lower())


def constant_value(value: ir.Value) -> bool:
    """Whether a value is a constant, without reading its elements."""
    import onnx_ir as ir

    return ir.convenience.get_const_tensor(value) is not None


def _seven_bits(value: ir.Value | None) -> bool | None:
    """Whether 8-bit weights fill 7 bits at most, as quantizers for saturating kernels write them.

    onnxruntime's ``reduce_range`` uses -64 to 64 for s8 and 0 to 127 for u8.
    """
    import onnx_ir as ir

    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.dtype not in (ir.DataType.INT8, ir.DataType.UINT8) or not tensor.size:
        return None
    if isinstance(tensor, ir.ExternalTensor):
        return None
    array: Array | None = constant(value)
    assert array is not None
    if tensor.dtype == ir.DataType.INT8:
        return bool(array.min() >= -64 and array.max() <= 64)
    return bool(array.max() <= 127)
