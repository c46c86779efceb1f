"""Dynamic INT8: products whose weights are rounded once and whose inputs are scaled as they come, and rounded tables.

A product becomes what onnxruntime fuses into one kernel, and its input is quantized once for all products that read it:

    DynamicQuantizeLinear(x) -> MatMulInteger(x, weight) -> Cast -> Mul(scale of x * scales of the weight)

A table is looked up in u8 and what was found is scaled back: Gather -> DequantizeLinear; a product that reads it takes
the integers. The graph is the one that
onnxruntime's ``quantize_dynamic`` writes, by the same arithmetic and with the same names, which the tests hold it to;
but weights are rounded in one step and not column by column, and none but the one at hand is in memory.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from edgekit.formats.graph import add_initializer, constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

# Ends of the integers by type, and of those that leave a bit free (onnxruntime/quantization/quant_utils.py, 1.32). s8
# weights are symmetric around zero.
ENDS = {"s8": (-127, 127), "u8": (0, 255)}
REDUCED = {"s8": (-64, 64), "u8": (0, 127)}
TABLES = "u8"
# Elements that are rounded at once: few enough for a processor's cache, since each step goes over all of them.
BLOCK = 1 << 16
# The end of the name of the product that a Gemm becomes.
PRODUCT = "_MatMul"


class Rounded(NamedTuple):
    """A weight in integers.

    Attributes:
        values: of the shape of the weight.
        scale: float32, a scalar, or [columns].
        zero: of the type of the values, of the shape of the scale.
    """

    values: Array
    scale: Array
    zero: Array


class Scaled(NamedTuple):
    """An activation or a weight in integers, with its scale and its zero point."""

    values: ir.Value
    scale: ir.Value
    zero: ir.Value


class Widths(NamedTuple):
    """How the weights of products are rounded.

    Attributes:
        kind: ``s8`` or ``u8``.
        per_channel: whether each column of [in, out] has a scale of its own.
        reduced: whether a bit is left free, so that sums of 16 bits do not saturate.
        whole: names of nodes that leave none free all the same.
    """

    kind: str
    per_channel: bool
    reduced: bool
    whole: Collection[str] = ()


class _Made(NamedTuple):
    """What the graph has in integers by now, for all nodes that read it.

    Attributes:
        inputs: activations.
        weights: by their names and by how they are rounded: a table that is multiplied, too, is there twice.
    """

    inputs: dict[ir.Value, Scaled]
    weights: dict[tuple[str, Widths], Scaled]


def quantize_dynamically(model: ir.Model, nodes: Collection[str], widths: Widths) -> None:
    """Quantize the products and tables of a graph in place.

    Args:
        model: float32, every node with a name.
        nodes: names of those that are quantized: MatMul and Gemm with constant weights, Gather in a constant table. A
            Gemm that scales or transposes its input stays in float.
        widths: of the weights of products.

    Raises:
        TypeError: a weight is not float32.
    """
    made = _Made({}, {})
    looked_up: list[ir.Node] = []
    for node in [node for node in model.graph if node.name in nodes]:
        if node.op_type == "Gather":
            looked_up.append(_look_up(model.graph, node, made))
            continue
        product = node if node.op_type == "MatMul" else _as_product(model.graph, node)
        if product is not None:
            reduced = widths.reduced and node.name not in widths.whole
            _multiply(model.graph, product, made, widths._replace(reduced=reduced, whole=()))
    for node in looked_up:
        if not list(node.outputs[0].uses()) and not node.outputs[0].is_graph_output():
            model.graph.remove(node, safe=True)


def round_weight(weight: Array, kind: str, *, per_channel: bool, reduced: bool = False) -> Rounded:
    """Round to the nearest integers, ties to even; s8 symmetric, u8 by the least and the largest value.

    Args:
        weight: [in, out] where ``per_channel``.
        kind: ``s8`` or ``u8``.
        per_channel: a scale for each column.
        reduced: whether a bit is left free.
    """
    import numpy as np

    if weight.dtype != np.float32:
        raise TypeError(f"weights of {weight.dtype} cannot be scaled dynamically, which takes float32")
    low, high = (REDUCED if reduced else ENDS)[kind]
    dtype, axis = np.dtype(np.int8 if kind == "s8" else np.uint8), 0 if per_channel else None
    least, most = np.minimum(weight.min(axis), 0), np.maximum(weight.max(axis), 0)
    if kind == "s8":
        most = np.maximum(-least, most)
        least = -most
    exact = (most.astype(np.float64) - least) / (high - low)
    flat = exact < np.finfo(np.float32).tiny  # nothing but zeros
    scale = np.where(flat, 1.0, exact).astype(np.float32)
    # by the scale before it is rounded: weights from -c to c have their zero at 127.5, which 127 or 128 hangs on
    zero = np.where(flat | (kind == "s8"), 0, np.round(low - least / np.where(flat, 1.0, exact))).astype(dtype)
    values, rows = np.empty(weight.shape, dtype), max(1, BLOCK * len(weight) // weight.size)
    for begin in range(0, len(weight), rows):
        part = weight[begin : begin + rows] / scale
        np.round(part, out=part)
        part += zero.astype(np.float32)
        values[begin : begin + rows] = np.clip(part, np.iinfo(dtype).min, np.iinfo(dtype).max, out=part)
    return Rounded(values, scale, zero)


def _multiply(graph: ir.Graph, node: ir.Node, made: _Made, widths: Widths) -> None:
    """Put integers in place of a product of matrices."""
    import onnx_ir as ir

    x, weight = node.inputs
    assert x is not None
    assert weight is not None  # it is constant
    quantized, scale, zero = _constants(graph, weight, widths, made)
    if x not in made.inputs:
        ends = [f"{x.name}_quantized", f"{x.name}_scale", f"{x.name}_zero_point"]
        parts = _insert(node, "DynamicQuantizeLinear", [x], f"{x.name}_QuantizeLinear", ends)
        made.inputs[x] = Scaled(*parts.outputs)
    whole, scale_of_x, zero_of_x = made.inputs[x]
    out, name = str(node.outputs[0].name), f"{node.name}_quant"
    summed = f"{out}_output_quantized"
    integers = _insert(node, "MatMulInteger", [whole, quantized, zero_of_x, zero], name, [summed])
    cast = _insert(
        node, "Cast", integers.outputs, f"{summed}_cast", [f"{summed}_cast_output"], {"to": ir.DataType.FLOAT}
    )
    scales = _insert(node, "Mul", [scale_of_x, scale], f"{name}_scales_mul", [f"{name}_scales_mul:0"])
    scaled = _insert(node, "Mul", [*cast.outputs, *scales.outputs], f"{name}_output_scale_mul", [f"{out}_scaled"])
    _take_place(graph, node, scaled)
    _forget(graph, weight)


def _look_up(graph: ir.Graph, node: ir.Node, made: _Made) -> ir.Node:
    """Put a table of u8 in place of one in float; the node that scales back what is found."""
    table, places = node.inputs
    assert table is not None
    values, scale, zero = _constants(graph, table, Widths(TABLES, per_channel=False, reduced=False), made)
    out = str(node.outputs[0].name)
    axis = node.attributes.get("axis")
    found = _insert(
        node,
        "Gather",
        [values, places],
        str(node.name),
        [f"{out}_quantized"],
        {"axis": axis.as_int() if axis else 0},
    )
    scaled = _insert(
        node, "DequantizeLinear", [*found.outputs, scale, zero], f"{out}_DequantizeLinear", [f"{out}_scaled"]
    )
    _take_place(graph, node, scaled)
    _forget(graph, table)
    made.inputs[scaled.outputs[0]] = Scaled(found.outputs[0], scale, zero)
    return scaled


def _as_product(graph: ir.Graph, node: ir.Node) -> ir.Node | None:
    """A Gemm as a MatMul and an addition, which are in its place then; None where it does more than that."""
    number = {name: node.attributes[name].value for name in node.attributes}
    if (number.get("alpha", 1.0), number.get("beta", 1.0), number.get("transA", 0)) != (1.0, 1.0, 0):
        return None
    x, weight = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    held = constant(weight)
    assert held is not None
    assert weight is not None
    turned = add_initializer(graph, f"{weight.name}_Transposed", held.T) if number.get("transB", 0) else weight
    out = str(node.outputs[0].name)
    product = _insert(node, "MatMul", [x, turned], f"{node.name}{PRODUCT}", [f"{out}_MatMul"])
    last = (
        product
        if bias is None
        else _insert(node, "Add", [*product.outputs, bias], f"{node.name}_Add", [f"{out}_added"])
    )
    _take_place(graph, node, last)
    _forget(graph, weight)
    return product


def _constants(graph: ir.Graph, weight: ir.Value, widths: Widths, made: _Made) -> Scaled:
    """A weight in integers; that of one which others read, too, is there already."""
    name = str(weight.name)
    if (name, widths) not in made.weights:
        held = constant(weight)
        assert held is not None
        rounded = round_weight(held, widths.kind, per_channel=widths.per_channel, reduced=widths.reduced)
        others = sum(other == name for other, _ in made.weights)
        start = f"{name}_{others}" if others else name
        ends = ("quantized", "scale", "zero_point")
        parts = [add_initializer(graph, f"{start}_{end}", values) for end, values in zip(ends, rounded, strict=True)]
        made.weights[name, widths] = Scaled(*parts)
    return made.weights[name, widths]


def _insert(
    before: ir.Node,
    kind: str,
    inputs: Collection[ir.Value | None],
    name: str,
    outputs: list[str],
    attributes: dict[str, int] | None = None,
) -> ir.Node:
    """A new node in front of another one."""
    import onnx_ir as ir

    made = ir.node(kind, list(inputs), attributes=attributes or {}, num_outputs=len(outputs), name=name)
    for value, called in zip(made.outputs, outputs, strict=True):
        value.name = called
    before.prepend(made)
    return made


def _take_place(graph: ir.Graph, node: ir.Node, made: ir.Node) -> None:
    """Let another node's value be read, and be called, as that of a node, which goes."""
    old, new = node.outputs[0], made.outputs[0]
    name = old.name
    new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    new.name = name


def _forget(graph: ir.Graph, weight: ir.Value) -> None:
    """Drop a weight that nothing reads any more."""
    if not list(weight.uses()) and not weight.is_graph_output() and weight.name in graph.initializers:
        del graph.initializers[str(weight.name)]
