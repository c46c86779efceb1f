"""Attention that reads what the products give: no reshape and no transpose around it, and a mask made once.

The exporter reshapes and transposes queries, keys and values to [batch, heads, tokens, width], and the result back.
ONNX's ``Attention`` also takes [batch, tokens, heads * width], with the number of heads as an attribute, and
onnxruntime multiplies these where they lie. A mask of true and false is turned into numbers that are added to the
scores in every layer that reads it; here they are made once, before the mask is spread over the queries.

Source: ONNX's operator documentation, Attention-23, whose reference forgot the transpose at first (onnx#7118, mended
in #7142); onnxruntime has followed the mended one from its first kernel on (#25156, release 1.23).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgekit.formats.graph import (
    add_initializer,
    constant,
    drop_empty_reshapes,
    insert_node,
    match_linear,
    only_user,
    producer,
    replace,
    swaps_middle,
)

if TYPE_CHECKING:
    import onnx_ir as ir

MASK = 3  # the slot behind queries, keys and values
# What a mask of [batch, keys] goes through until it is one of [batch, heads, queries, keys].
SPREADING = ("Unsqueeze", "Expand", "Slice")
# Added to a score, nothing of a key is left: exp(-1e4) is 0 in every precision of onnxruntime, and FP16 reaches it.
LOWEST = -1e4


class _Side(NamedTuple):
    """Queries, keys or values: [batch, tokens, heads * width], its heads and their width, and its type."""

    value: ir.Value
    heads: int
    width: int
    dtype: ir.DataType


class _Block(NamedTuple):
    """An attention node between its transposes, and where its result leaves."""

    attention: ir.Node
    sides: list[_Side]
    last: ir.Node


def read_unsplit(graph: ir.Graph) -> int:
    """Let attention read and write [batch, tokens, width]; returns how many nodes do."""
    drop_empty_reshapes(graph)
    blocks = [
        block for node in list(graph) if node.op_type == "Attention" and not node.domain and (block := _match(node))
    ]
    added: dict[ir.Value, ir.Value] = {}
    for block in blocks:
        _replace(graph, block, added)
    return len(blocks)


def _match(node: ir.Node) -> _Block | None:
    sides = [side for slot in range(MASK) if (side := _read_side(node.inputs[slot])) is not None]
    leave = only_user(node.outputs[0], "Transpose") if len(node.outputs) == 1 else None
    join = only_user(leave.outputs[0], "Reshape") if leave is not None and swaps_middle(leave) else None
    has_past = any(value is not None for value in node.inputs[MASK + 1 :])
    if join is None or len(sides) < MASK or has_past:
        return None
    queries, keys, values = sides
    shared = keys.heads != values.heads or queries.heads != keys.heads
    if shared or _target(join) not in ((3, -1), (3, values.heads * values.width)):
        return None
    return _Block(node, sides, join)


def _read_side(value: ir.Value | None) -> _Side | None:
    """A [batch, heads, tokens, width] value as what it was reshaped and transposed from."""
    transpose = producer(value, "Transpose")
    reshape = producer(transpose.inputs[0], "Reshape") if transpose is not None and swaps_middle(transpose) else None
    if reshape is None or reshape.inputs[0] is None:
        return None
    picked = producer(reshape.inputs[0], "GatherElements")  # queries of the tokens that stay
    linear = match_linear(reshape.inputs[0] if picked is None or picked.inputs[0] is None else picked.inputs[0])
    rank, width = _target(reshape)
    if linear is None or rank != 4 or width <= 0 or linear.width % width:
        return None
    return _Side(reshape.inputs[0], linear.width // width, width, linear.weight.dtype)


def _target(reshape: ir.Node) -> tuple[int, int]:
    """How many dimensions a reshape gives, and the last of them; 0 where that is not known."""
    target = constant(reshape.inputs[1])
    if target is not None:
        return len(target), int(target[-1])
    concat = producer(reshape.inputs[1], "Concat")
    last = None if concat is None else constant(concat.inputs[-1])
    return (0, 0) if concat is None or last is None else (len(concat.inputs), int(last[-1]))


def _replace(graph: ir.Graph, block: _Block, added: dict[ir.Value, ir.Value]) -> None:
    attention, last = block.attention, block.last
    mask = attention.inputs[MASK] if len(attention.inputs) > MASK else None
    queries, keys, _ = block.sides
    if mask is not None and _is_bool(mask):
        mask = _as_numbers(graph, mask, last, added, queries.dtype)
    inputs = [*(side.value for side in block.sides), *([] if mask is None else [mask])]
    heads = {"q_num_heads": queries.heads, "kv_num_heads": keys.heads}
    name = f"{last.outputs[0].name}_attention"
    node = insert_node(graph, last, "Attention", inputs, name, attributes=heads, dtype=queries.dtype)
    for name, attribute in attention.attributes.items():
        if name not in heads:
            node.attributes[name] = attribute
    replace(last.outputs[0], node.outputs[0])


def _is_bool(mask: ir.Value) -> bool:
    import onnx_ir as ir

    spread = producer(mask, *SPREADING)
    if spread is not None and spread.inputs[0] is not None:
        return _is_bool(spread.inputs[0])
    cast = producer(mask, "Cast")
    return mask.dtype == ir.DataType.BOOL or (cast is not None and cast.attributes["to"].as_int() == ir.DataType.BOOL)


def _as_numbers(
    graph: ir.Graph, mask: ir.Value, before: ir.Node, added: dict[ir.Value, ir.Value], dtype: ir.DataType
) -> ir.Value:
    """What a mask of true and false adds to the scores, in their type; made once, before it is spread."""
    import numpy as np

    if mask not in added:
        spread, name = producer(mask, *SPREADING), f"{mask.name}_added"
        if spread is not None and spread.inputs[0] is not None:
            inner = _as_numbers(graph, spread.inputs[0], before, added, dtype)
            node = insert_node(graph, before, spread.op_type, [inner, *spread.inputs[1:]], name, dtype=dtype)
        else:
            nothing, lowest = (
                add_initializer(graph, f"mask_adds_{word}", np.array([number], dtype.numpy()))
                for word, number in (("nothing", 0), ("lowest", LOWEST))
            )
            node = insert_node(graph, before, "Where", [mask, nothing, lowest], name, dtype=dtype)
        node.outputs[0].shape = mask.shape
        added[mask] = node.outputs[0]
    return added[mask]
