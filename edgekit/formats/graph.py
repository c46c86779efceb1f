"""Small tools for reading and changing an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgekit.formats.known import subgraphs

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

CONTRIB = "com.microsoft"


class Linear(NamedTuple):
    """``x @ weight + bias``: weight [in, out], bias [out] or None; neither is read yet."""

    x: ir.Value
    weight: ir.TensorProtocol
    bias: ir.TensorProtocol | None

    @property
    def width(self) -> int:
        """How many columns the weight has."""
        return self.weight.shape.numpy()[1]


def stored(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a constant value, or None: its type and its shape, while its elements stay in the file."""
    import onnx_ir as ir

    return None if value is None else ir.convenience.get_const_tensor(value)


def constant(value: ir.Value | None) -> Array | None:
    """The array behind a constant value, or None."""
    tensor = stored(value)
    return None if tensor is None else tensor.numpy()


def producer(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The node that makes a value, when it is of one of these kinds."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in kinds else None


def only_user(value: ir.Value, *kinds: str) -> ir.Node | None:
    """The single node that reads a value, when it is of one of these kinds and the value is no output of the graph."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type not in kinds:
        return None
    return uses[0].node


def match_linear(value: ir.Value) -> Linear | None:
    """A value as a product with constant weights, with or without a constant bias; None when it is no such thing."""
    bias, product = None, value
    add = producer(value, "Add")
    if add is not None:
        split = split_bias(add)
        if split is None:
            return None
        product, bias = split
    matmul = producer(product, "MatMul")
    if matmul is None or matmul.inputs[0] is None:
        return None
    weight = stored(matmul.inputs[1])
    if weight is None or len(weight.shape) != 2:
        return None
    return Linear(matmul.inputs[0], weight, stored(bias))


def split_bias(add: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The operands of an addition as (varying, constant vector); None when there is not one of each."""
    first, second = add.inputs
    for value, bias in ((first, second), (second, first)):
        added = stored(bias)
        if value is None or bias is None or added is None:
            continue
        if len(added.shape) == 1 and stored(value) is None:
            return value, bias
    return None


def swaps_middle(transpose: ir.Node) -> bool:
    """Whether a transpose swaps the second and third of four dimensions, as attention does with tokens and heads."""
    order = transpose.attributes.get("perm")  # without one it turns the dimensions round
    return order is not None and list(order.as_ints()) == [0, 2, 1, 3]


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new constant of the graph; an old one of the same name is used again when it is equal."""
    import numpy as np
    import onnx_ir as ir

    known = graph.initializers.get(name)
    held = constant(known)
    if known is not None and held is not None and np.array_equal(held, array):
        return known
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)  # ascontiguousarray would give a scalar an axis
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.initializers[name] = value
    return value


def exchange_constant(graph: ir.Graph, node: ir.Node, place: int, array: Array, name: str) -> None:
    """Let an input of a node be another constant; the old one goes where nothing else reads it."""
    old = node.inputs[place]
    node.replace_input_with(place, add_initializer(graph, name, array))
    if old is not None and not list(old.uses()) and old.name in graph.initializers:
        del graph.initializers[str(old.name)]


def insert_node(
    graph: ir.Graph,
    before: ir.Node,
    kind: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    *,
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
    domain: str = "",
    outputs: int = 1,
    dtype: ir.DataType | None = None,
) -> ir.Node:
    """Insert a node before another one; its outputs are called ``name`` (``name_0`` ... when there are several)."""
    import onnx_ir as ir

    node = ir.node(
        kind, list(inputs), attributes=dict(attributes or {}), domain=domain, num_outputs=outputs, name=f"node_{name}"
    )
    for index, output in enumerate(node.outputs):
        output.name = name if outputs == 1 else f"{name}_{index}"
        output.type = ir.TensorType(dtype or ir.DataType.FLOAT)
    graph.insert_before(before, node)
    return node


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads ``old`` read ``new``; a graph output keeps its name."""
    new.shape = old.shape
    name, renamed = old.name, old.is_graph_output() and not new.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if renamed:  # which onnx_ir leaves to its callers
        old.name, new.name = f"{name}_replaced", name


def drop_empty_reshapes(graph: ir.Graph) -> None:
    """Take out reshapes that leave the shape as it is: the exporter writes one where a layer has a single head."""
    for node in [node for node in graph if node.op_type == "Reshape"]:
        before, after = node.inputs[0], node.outputs[0]
        if before is None or before.shape is None or after.is_graph_output() or before.shape != after.shape:
            continue
        if all(isinstance(size, int) or size.value is not None for size in before.shape):  # named sizes that are equal
            after.replace_all_uses_with(before)
            graph.remove(node, safe=True)


def tidy(model: ir.Model) -> None:
    """Fold constants, drop what nothing reads, and put the nodes in order."""
    from onnx_ir.passes.common import IdentityEliminationPass, RemoveUnusedNodesPass, TopologicalSortPass

    if any(node.domain == CONTRIB for node in model.graph):
        model.opset_imports[CONTRIB] = 1
    inner = any(subgraphs(node) for node in model.graph)  # onnx_ir 1.1 cannot take an Identity out of a branch
    for change in (*(() if inner else (IdentityEliminationPass(),)), TopologicalSortPass(), RemoveUnusedNodesPass()):
        change(model)
