"""The layers of a graph: its nodes with weight matrices, what they weigh, and how precise operators are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.formats.graph import producer
from edgekit.formats.integers import BLOCK_KINDS, SHORT, quantized_layer
from edgekit.formats.known import Shapes, integer, subgraphs
from edgekit.formats.work import all_nodes

if TYPE_CHECKING:
    import onnx_ir as ir

# For each kind, which inputs may be the weight (the first that is constant is), and which others hold parameters.
WEIGHTED_KINDS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "Conv": ((1,), (2,)),
    "FusedConv": ((1,), (2,)),
    "ConvTranspose": ((1,), (2,)),
    "ConvInteger": ((1,), ()),
    "QLinearConv": ((3,), (8,)),
    "Gemm": ((1, 0), (2,)),
    "FusedGemm": ((1, 0), (2,)),
    "QGemm": ((3,), (6,)),
    "MatMul": ((1, 0), ()),
    "FusedMatMul": ((1, 0), ()),
    "MatMulInteger": ((1,), ()),
    "MatMulIntegerToFloat": ((1,), ()),
    "DynamicQuantizeMatMul": ((1,), (4,)),
    "QLinearMatMul": ((3,), ()),
    "MatMulNBits": ((1,), (5,)),
    "Einsum": ((1, 0), ()),
    "Gather": ((0,), ()),
    "GatherBlockQuantized": ((0,), ()),
    "LSTM": ((1,), (2, 3)),
    "GRU": ((1,), (2, 3)),
    "RNN": ((1,), (2, 3)),
    "Attention": ((1,), (2,)),  # onnxruntime's, with a packed weight; ONNX's own has none
    "QAttention": ((1,), (2,)),
}
TABLE_KINDS = ("Gather", "GatherBlockQuantized")
# What may stand between a constant and the node whose weight it is.
BETWEEN = ("DequantizeLinear", "Cast", "Transpose", "Identity", "Reshape", "Squeeze", "Unsqueeze")
PRECISIONS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "fp64"}


@dataclass(frozen=True)
class Layer:
    """A node with a constant weight of two dimensions or more.

    Attributes:
        node: the node.
        shape: of its weight, as the node reads it.
        parameters: elements of its weight, and of bias and further weights where the node reads them itself.
        precision: of the stored weight.
    """

    node: ir.Node
    shape: tuple[int, ...]
    parameters: int
    precision: str


def find_layers(graph: ir.Graph, shapes: Shapes, fixed: set[ir.Value]) -> Iterator[Layer]:
    """The layers of a graph and of the graphs inside it, in order; ``fixed`` is what `fixed_values` gives."""
    for node in all_nodes(graph):
        found = _layer(node, shapes, fixed)
        if found is not None:
            yield found


def fixed_values(graph: ir.Graph) -> set[ir.Value]:
    """What does not depend on the inputs: constants, and what is computed of constants alone."""
    fixed: set[ir.Value] = set()
    _collect_fixed(graph, fixed)
    return fixed


def _collect_fixed(graph: ir.Graph, fixed: set[ir.Value]) -> None:
    fixed.update(graph.initializers.values())
    for node in graph:
        inside = subgraphs(node)
        for part in inside.values():
            _collect_fixed(part, fixed)
        if not inside and all(value is None or value in fixed for value in node.inputs):
            fixed.update(node.outputs)


def _layer(node: ir.Node, shapes: Shapes, fixed: set[ir.Value]) -> Layer | None:
    candidates, others = WEIGHTED_KINDS.get(node.op_type, ((), ()))
    operands = {index: value for index, value in enumerate(node.inputs) if value is not None and value in fixed}
    weight = next((operands[index] for index in candidates if index in operands), None)
    if weight is None:
        return None
    known, stored = shapes.of(weight), shapes.of(_stored(weight))
    if known.sizes is None or stored.kind is None or len(known.sizes) < 2:
        return None
    if node.op_type == "Gather" and not (stored.kind.is_floating_point() or stored.kind.name in SHORT):
        return None  # a table of positions or shapes
    parameters = block_elements(node, shapes) if node.op_type in BLOCK_KINDS else known.elements or 0
    parameters += sum(shapes.of(operands[index]).elements or 0 for index in others if index in operands)
    bits = f"int{integer(node, 'bits', 4)}" if node.op_type in BLOCK_KINDS else precision_name(stored.kind)
    return Layer(node, known.sizes, parameters, bits)


def block_elements(node: ir.Node, shapes: Shapes) -> int:
    """Weights of an operator whose weights are in blocks of few bits, in bytes perhaps that hold several."""
    if node.op_type == "MatMulNBits":
        return integer(node, "N") * integer(node, "K")
    table = shapes.input(node, 0)
    packed = table.kind is not None and table.kind.name == "UINT8"
    return (table.elements or 0) * (8 // integer(node, "bits", 4) if packed else 1)


def _stored(value: ir.Value) -> ir.Value:
    """The constant behind a weight, through what only scales, casts or turns it."""
    between = producer(value, *BETWEEN)
    while between is not None and between.inputs[0] is not None:
        value = between.inputs[0]
        between = producer(value, *BETWEEN)
    return value


def constants(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every constant of a graph and of the graphs inside it."""
    yield from graph.initializers.values()
    for node in graph:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield node.outputs[0]
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type.name == "GRAPH":
                yield from constants(attribute.as_graph())


def parameters_of(value: ir.Value, shapes: Shapes) -> int:
    """How many parameters a constant holds: 0 for shapes, indices, scales, zero points and single numbers."""
    known = shapes.of(value)
    if known.kind is None or known.elements is None or not known.shape:
        return 0
    uses = [(use.node, use.idx) for use in value.uses()]
    blocks = [node for node, index in uses if node.op_type in BLOCK_KINDS]
    if blocks:
        read = any(index == BLOCK_KINDS[node.op_type] for node, index in uses if node in blocks)
        return block_elements(blocks[0], shapes) if read else 0
    if known.kind.is_floating_point():
        return 0 if uses and all(_helps(node, index) for node, index in uses) else known.elements
    if known.kind.name == "INT32":  # biases of integer operators
        return known.elements if any((node.op_type, index) in _BIASES for node, index in uses) else 0
    return known.elements if known.kind.name in SHORT and len(known.shape) > 1 else 0


_BIASES = {("QLinearConv", 8), ("QGemm", 6), ("DequantizeLinear", 0)}
# Float inputs that are no parameters: scales of quantization, factors of a resize, bounds, fillings.
_HELPERS = {
    "QuantizeLinear": (1,),
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QLinearAdd": (1, 4, 6),
    "QLinearMul": (1, 4, 6),
    "QGemm": (1, 4, 7),
    "QAttention": (3, 4),
    "DynamicQuantizeMatMul": (2,),
    "MatMulIntegerToFloat": (2, 3),
    "Resize": (1, 2),
    "Upsample": (1,),
    "Pad": (2,),
    "Clip": (1, 2),
}


def _helps(node: ir.Node, index: int) -> bool:
    """Whether a float constant is no parameter where this node reads it."""
    if node.op_type == "Mul":  # the scale of a weight, times that of activations which are scaled at run time
        return producer(node.inputs[1 - index], "DynamicQuantizeLinear") is not None
    return index in _HELPERS.get(node.op_type, ())


def precision_name(kind: ir.DataType) -> str:
    """A type of elements as ``fp32``, ``fp16``, ``int8``: signed or not, ``int8`` is the same."""
    if kind.name in PRECISIONS:
        return PRECISIONS[kind.name]
    if kind.is_floating_point():
        return f"fp{kind.bitwidth}"
    return kind.name.lower().removeprefix("u") if kind.name in SHORT else kind.name.lower()


def precision_of_node(node: ir.Node, shapes: Shapes) -> str:
    """What an operator computes in: its quantization, else the type of its first output."""
    layer = quantized_layer(node, shapes)
    if layer is not None and (layer.method != "weights only" or node.op_type in TABLE_KINDS):
        short = layer.activations or layer.weights or ""
        return f"int{short[1:]}" if short[1:].isdigit() else short
    kind = shapes.output(node).kind
    return "unknown" if kind is None else precision_name(kind)
