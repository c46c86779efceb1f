"""Products of one input as one: queries, keys and values in a single product, split behind it.

The input is read, and where it is quantized as it comes quantized, once for all; the kernel sees one wide matrix in
place of narrow ones. What it costs is the copy that ``Split`` makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgekit.formats.graph import Linear, add_initializer, insert_node, match_linear, only_user, replace, stored

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array


class _Part(NamedTuple):
    """One of the products: its weights, and the value that it ends in, its bias added."""

    linear: Linear
    output: ir.Value
    last: ir.Node


def join_products(graph: ir.Graph) -> int:
    """Replace products of the same input by one; returns how many inputs had several."""
    groups: dict[ir.Value, list[_Part]] = {}
    for node in graph:
        part = _read(node)
        if part is not None:
            groups.setdefault(part.linear.x, []).append(part)
    found = [parts for parts in groups.values() if len(parts) > 1]
    for parts in found:
        _pack(graph, parts)
    return len(found)


def _read(node: ir.Node) -> _Part | None:
    """A product with constant weights that nothing but its bias reads, or that has none."""
    if node.op_type != "MatMul" or node.domain or stored(node.inputs[0]) is not None:
        return None
    add = only_user(node.outputs[0], "Add")
    for last in (add, node):
        linear = None if last is None else match_linear(last.outputs[0])
        if last is not None and linear is not None:
            return _Part(linear, last.outputs[0], last)
    return None


def _pack(graph: ir.Graph, parts: list[_Part]) -> None:
    import numpy as np

    name = f"{parts[0].output.name}_packed"
    linears = [part.linear for part in parts]
    dtype = linears[0].weight.dtype
    weight = add_initializer(graph, f"{name}_weight", np.concatenate([one.weight.numpy() for one in linears], axis=1))
    first = parts[0].last
    value = insert_node(graph, first, "MatMul", [linears[0].x, weight], f"{name}_product", dtype=dtype).outputs[0]
    if any(one.bias is not None for one in linears):
        bias = add_initializer(graph, f"{name}_bias", np.concatenate([_bias(one) for one in linears]))
        value = insert_node(graph, first, "Add", [value, bias], f"{name}_sum", dtype=dtype).outputs[0]
    sizes = add_initializer(graph, f"{name}_widths", np.array([one.width for one in linears], np.int64))
    along = {"axis": -1}
    split = insert_node(
        graph, first, "Split", [value, sizes], f"{name}_part", attributes=along, outputs=len(parts), dtype=dtype
    )
    for part, output in zip(parts, split.outputs, strict=True):
        replace(part.output, output)


def _bias(part: Linear) -> Array:
    import numpy as np

    return np.zeros(part.width, part.weight.dtype.numpy()) if part.bias is None else part.bias.numpy()
