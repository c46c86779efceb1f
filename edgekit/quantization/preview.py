"""A graph whose products of matrices are in dynamic INT8, made in a fraction of a second, to be timed and not shipped.

onnxruntime's tool takes seconds for an encoder, and a stage that compares variants of a graph needs one of each. The
nodes are those that the tool writes, so the runtime fuses and runs them alike; what a weight is rounded to hardly
matters for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.formats.graph import add_initializer, constant, insert_node, replace
from edgekit.quantization.schemes import FEWEST_ELEMENTS, Scheme

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array


def multiply_integers(graph: ir.Graph, scheme: Scheme) -> int:
    """Let every product with a constant matrix multiply integers; in place. Returns how many do.

    A ``Gemm`` stays as it is: in encoders it is the head's, of one row.

    Args:
        graph: in float32; of each input that several products read, they share the integers.
        scheme: dynamic.
    """
    shared: dict[ir.Value, ir.Node] = {}
    nodes = [node for node in graph if node.op_type == "MatMul" and not node.domain and _is_layer(node)]
    for node in nodes:
        replace(node.outputs[0], _multiplied(graph, node, scheme, shared))
        graph.remove(node, safe=True)
    return len(nodes)


def _is_layer(node: ir.Node) -> bool:
    weight = constant(node.inputs[1])
    return node.inputs[0] is not None and weight is not None and weight.ndim == 2 and weight.size >= FEWEST_ELEMENTS


def _multiplied(graph: ir.Graph, node: ir.Node, scheme: Scheme, shared: dict[ir.Value, ir.Node]) -> ir.Value:
    """The output of the same product of integers, in front of a node."""
    import onnx_ir as ir

    x, weight, name = node.inputs[0], constant(node.inputs[1]), str(node.outputs[0].name)
    assert x is not None  # a layer has both
    assert weight is not None
    if x not in shared:
        shared[x] = insert_node(graph, node, "DynamicQuantizeLinear", [x], f"{x.name}_integers", outputs=3)
        for output in (shared[x].outputs[0], shared[x].outputs[2]):
            output.type = ir.TensorType(ir.DataType.UINT8)
    values, x_scale, x_zero = shared[x].outputs
    parts = zip(("integers", "scales", "zeros"), _round(weight, scheme), strict=True)
    integers, scales, zeros = [add_initializer(graph, f"{name}_{part}", array) for part, array in parts]
    factors = [values, integers, x_zero, zeros]
    sums = insert_node(graph, node, "MatMulInteger", factors, f"{name}_sums", dtype=ir.DataType.INT32).outputs[0]
    to_float = {"to": int(ir.DataType.FLOAT)}
    cast = insert_node(graph, node, "Cast", [sums], f"{name}_cast", attributes=to_float).outputs[0]
    scale = insert_node(graph, node, "Mul", [x_scale, scales], f"{name}_scale").outputs[0]
    return insert_node(graph, node, "Mul", [cast, scale], f"{name}_scaled").outputs[0]


def _round(weight: Array, scheme: Scheme) -> tuple[Array, Array, Array]:
    """Integers [in, out], with a scale and a zero point for each column, or one for all."""
    import numpy as np

    largest = np.abs(weight).max(axis=0) if scheme.per_channel else np.abs(weight).max()
    scales = np.maximum(largest / 127, np.finfo(np.float32).tiny).astype(np.float32)
    zero, dtype = (0, np.int8) if scheme.weights == "s8" else (128, np.uint8)
    integers = (np.rint(weight / scales) + zero).astype(dtype)
    return integers, scales, np.full(scales.shape, zero, dtype)
