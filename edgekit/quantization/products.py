"""Products of matrices with weights in INT4: blocks of a column share a scale, and activations are 8 bits wide.

onnxruntime's ``MatMulNBits`` unpacks the weights, and rounds the activations in blocks, while it multiplies. It wins
where reading weights is what takes the time: with few tokens, or with weights that do not fit into the caches.

Source: onnxruntime's docs/ContribOperators.md, com.microsoft.MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekit.formats.graph import CONTRIB, add_initializer, constant, insert_node, replace, stored
from edgekit.int4 import PRODUCT_BLOCK
from edgekit.quantization.blocks import quantize_blocks

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

# The operator's word for products of 8-bit integers: it rounds each block of the activations too, by its own scale.
ACCURACY_LEVEL = 4
KINDS = ("MatMul", "Gemm")


def packs(node: ir.Node) -> bool:
    """Whether a node is a product with a constant matrix, and nothing else, beside a constant bias perhaps."""
    weight = stored(node.inputs[1]) if node.op_type in KINDS and not node.domain else None
    if weight is None or len(weight.shape) != 2 or weight.dtype.numpy().name != "float32":
        return False
    plain = {"transA": 0, "alpha": 1.0, "beta": 1.0}
    return all(_number(node, name, usual) == usual for name, usual in plain.items())


def packed(node: ir.Node) -> tuple[Array, Array, dict[str, int | float]]:
    """Weights of a node, for which ``packs`` holds, as ``MatMulNBits`` reads them.

    Returns:
        Two elements in a byte, uint8 [out, blocks, block / 2]; scales, float32 [out, blocks]; and its attributes.
    """
    import numpy as np

    weight = constant(node.inputs[1])
    assert weight is not None
    rows = weight if _number(node, "transB", 0) else weight.T
    out, inner = rows.shape
    values, scales = quantize_blocks(np.pad(rows, ((0, 0), (0, -inner % PRODUCT_BLOCK))), PRODUCT_BLOCK)
    sizes = {"K": inner, "N": out, "bits": 4, "block_size": PRODUCT_BLOCK, "accuracy_level": ACCURACY_LEVEL}
    return values.reshape(out, -1, PRODUCT_BLOCK // 2), scales, sizes


def pack_products(model: ir.Model, names: Collection[str]) -> None:
    """Let the nodes of these names, for which ``packs`` holds, multiply with weights in INT4; in place."""
    graph = model.graph
    for node in [node for node in graph if node.name in names]:
        weight = node.inputs[1]
        assert weight is not None
        replace(node.outputs[0], pack_beside(graph, node, "int4"))
        graph.remove(node, safe=True)
        if not list(weight.uses()) and weight.name in graph.initializers:
            del graph.initializers[str(weight.name)]
    model.opset_imports[CONTRIB] = 1


def pack_beside(graph: ir.Graph, node: ir.Node, ending: str) -> ir.Value:
    """The output of the same product with weights in INT4, in front of a node."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    values, scales, attributes = packed(node)
    name = f"{node.name}_{ending}"
    inputs = [
        node.inputs[0],
        add_initializer(graph, f"{name}_weight", values),
        add_initializer(graph, f"{name}_scale", scales),
    ]
    made = insert_node(graph, node, "MatMulNBits", inputs, name, attributes=attributes, domain=CONTRIB)
    if bias is None:
        return made.outputs[0]
    return insert_node(graph, node, "Add", [made.outputs[0], bias], f"{name}_biased").outputs[0]


def _number(node: ir.Node, name: str, usual: float) -> float:
    found = node.attributes.get(name)
    return usual if found is None else float(found.value)
