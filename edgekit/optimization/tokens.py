"""Work that no output needs: where only the first token's state is read, only the first token's state is computed.

A classifier reads one token of the last layer. Keys and values of that layer still come from every token, but queries,
the output projection, the feed-forward block and the normalisations are needed for one token alone. The rewrite marks,
from the outputs backwards, the nodes whose result is read at token 0 only, and slices what enters them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.formats.graph import (
    add_initializer,
    constant,
    drop_empty_reshapes,
    insert_node,
    stored,
    swaps_middle,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

    # A node of which only token 0 is read, with the inputs that can be sliced for it: slot and token axis.
    Marked = dict[ir.Node, dict[int, int]]

# Nodes that compute each token from the same token of their inputs.
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Gelu", "Erf", "Tanh", "Relu", "Sigmoid", "Cast"}
ELEMENTWISE |= {"QuantizeLinear", "DequantizeLinear"}  # with one scale for all
# The axis of tokens in what an Attention node takes and gives: [batch, heads, tokens, width].
ATTENTION_AXIS = 2


def keep_first_token(graph: ir.Graph) -> int:
    """Compute only the first token wherever nothing else is read; returns the number of nodes that became cheaper."""
    drop_empty_reshapes(graph)
    marked: Marked = {}
    for node in reversed(list(graph)):
        axis = _read_at_first_token(node, marked)
        if axis is not None and (slots := _token_inputs(node, axis)):
            marked[node] = slots
    if not any(node.op_type in ("MatMul", "Attention") for node in marked):
        return 0
    slices: dict[tuple[ir.Value, int], ir.Value] = {}
    for node in [node for node in graph if node in marked]:
        for slot, axis in marked[node].items():
            value = node.inputs[slot]
            if value is not None and value.producer() not in marked:
                node.replace_input_with(slot, _slice(graph, node, value, axis, slices))
        if node.op_type == "Reshape":
            _reshape_one_token(graph, node)
    for node in marked:
        node.outputs[0].shape = None
    return len(marked)


def _read_at_first_token(node: ir.Node, marked: Marked) -> int | None:
    """The token axis of a node's output when only token 0 of it is ever read, else None."""
    if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    found: set[int | None] = set()
    for use in node.outputs[0].uses():
        if _selects_first_token(use.node) and use.idx == 0:
            found.add(1)
        elif use.node in marked:
            found.add(marked[use.node].get(use.idx))
        else:
            return None
    return found.pop() if len(found) == 1 else None


def _selects_first_token(node: ir.Node) -> bool:
    if node.op_type != "Gather" or "axis" not in node.attributes or node.attributes["axis"].as_int() != 1:
        return False
    index = constant(node.inputs[1])
    return index is not None and index.ndim == 0 and int(index) == 0


def _token_inputs(node: ir.Node, axis: int) -> dict[int, int]:
    """Slot and token axis of each input to slice for an output sliced at ``axis``; empty when it cannot be."""
    if node.op_type in ELEMENTWISE and axis == 1:
        return _elementwise_inputs(node)
    if node.op_type == "LayerNormalization" and axis == 1 and _has_tokens(node):
        over = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        return {0: 1} if over in (-1, 2) else {}
    if node.op_type == "MatMul" and axis == 1 and _has_tokens(node):
        weight = stored(node.inputs[1])
        return {0: 1} if weight is not None and len(weight.shape) == 2 else {}
    if node.op_type == "Transpose" and swaps_middle(node) and axis in (1, 2):
        return {0: 3 - axis}
    if node.op_type == "Reshape" and axis == 1:
        return {0: 1} if _splits_or_joins_heads(node) else {}
    if node.op_type == "Attention" and axis == ATTENTION_AXIS and len(node.outputs) == 1:
        return _attention_inputs(node)
    return {}


def _has_tokens(node: ir.Node) -> bool:
    """Whether tokens are an axis of their own: of [samples, width], the second axis is what the node works along."""
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    return shape is not None and len(shape) > 2


def _attention_inputs(node: ir.Node) -> dict[int, int]:
    """The query, and the mask's axis of queries: the last but one of [queries, keys] or more."""
    slots = {0: ATTENTION_AXIS}
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None:
        return slots
    fixed = stored(mask)
    rank = len(fixed.shape) if fixed is not None else len(mask.shape) if mask.shape is not None else 0
    return slots | {3: rank - 2} if rank >= 2 else {}


def _elementwise_inputs(node: ir.Node) -> dict[int, int]:
    slots: dict[int, int] = {}
    for slot, value in enumerate(node.inputs):
        fixed = stored(value)
        if fixed is not None:
            if len(fixed.shape) > 1:
                return {}  # a table with a row for each token
            continue
        if value is None or value.shape is None or len(value.shape) != 3:
            return {}
        slots[slot] = 1
    return slots


def _splits_or_joins_heads(node: ir.Node) -> bool:
    """Whether a reshape goes between [batch, tokens, width] and [batch, tokens, heads, head width]."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    known = len(after.shape) != 4 or isinstance(after.shape[3], int)  # it stands in the shape for one token
    return known and {len(before.shape), len(after.shape)} == {3, 4} and before.shape[1] == after.shape[1]


def _slice(
    graph: ir.Graph, before: ir.Node, value: ir.Value, axis: int, slices: dict[tuple[ir.Value, int], ir.Value]
) -> ir.Value:
    """``value`` at the first place of ``axis``, the axis kept; one node for each value and axis."""
    import numpy as np

    if (value, axis) not in slices:
        bounds: list[tuple[str, Array]] = [
            ("first_token_start", np.array([0], np.int64)),
            ("first_token_end", np.array([1], np.int64)),
            (f"first_token_axis_{axis}", np.array([axis], np.int64)),
        ]
        inputs = [value, *(add_initializer(graph, name, array) for name, array in bounds)]
        node = insert_node(graph, before, "Slice", inputs, f"{value.name}_first_{axis}", dtype=value.dtype)
        slices[value, axis] = node.outputs[0]
    return slices[value, axis]


def _reshape_one_token(graph: ir.Graph, node: ir.Node) -> None:
    """Give a marked reshape its new target shape: one token, the rest as it was."""
    import numpy as np
    import onnx_ir as ir

    rank = 0 if node.outputs[0].shape is None else len(node.outputs[0].shape)
    width = None if rank == 3 or node.outputs[0].shape is None else node.outputs[0].shape[3]
    target = [0, 1, -1] if rank == 3 else [0, 1, -1, int(str(width))]
    node.replace_input_with(
        1, add_initializer(graph, f"one_token_{'_'.join(map(str, target[2:]))}", np.array(target, np.int64))
    )
    node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
