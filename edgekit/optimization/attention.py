"""Attention in one node: queries, keys and values in one product, heads split inside onnxruntime's own kernel.

The exporter writes three products, three reshapes, three transposes, ``Attention`` and a transpose and reshape back.
onnxruntime's ``com.microsoft.MultiHeadAttention`` takes [batch, tokens, width] as the products give it and a mask of
[batch, tokens], so that no mask of tokens x tokens is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.formats.graph import (
    CONTRIB,
    Linear,
    add_initializer,
    constant,
    drop_empty_reshapes,
    insert_node,
    match_linear,
    only_user,
    producer,
    replace,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

SWAP = [0, 2, 1, 3]
# In a mask of [batch, 1, queries, keys]: what is added to [batch, keys], and the queries.
KEY_AXES, QUERY_AXIS = [1, 2], 2
# Added to a score, nothing of a key is left: exp(-1e4) is 0 in every precision of onnxruntime.
LOWEST = -1e4
MASK_NAME = "key_padding_mask"


@dataclass(frozen=True)
class _Mask:
    """A mask that depends on the keys alone: [batch, keys], or None when nothing is masked."""

    keys: ir.Value | None


@dataclass(frozen=True)
class _Match:
    """An attention block: its three products, where its result leaves, and what the kernel must know."""

    attention: ir.Node
    q: Linear
    k: Linear
    v: Linear
    output: ir.Value
    last: ir.Node
    heads: int
    mask: ir.Value | None


def fuse_attention(graph: ir.Graph) -> int:
    """Replace each attention block by one packed product and one node; returns how many."""
    drop_empty_reshapes(graph)
    matches = [
        match for node in list(graph) if node.op_type == "Attention" and not node.domain and (match := _match(node))
    ]
    for match in matches:
        _replace(graph, match)
    return len(matches)


def _match(node: ir.Node) -> _Match | None:
    sides = [_split_heads(node.inputs[slot]) for slot in range(3)]
    leave = only_user(node.outputs[0], "Transpose") if len(node.outputs) == 1 else None
    join = only_user(leave.outputs[0], "Reshape") if leave is not None and _swaps(leave) else None
    if join is None or any(side is None for side in sides) or _has_extras(node):
        return None
    (q, width), (k, _), (v, _) = [side for side in sides if side is not None]
    mask = _read_mask(node.inputs[3] if len(node.inputs) > 3 else None)
    widths = {part.weight.shape[1] for part in (q, k, v)}
    if mask is None or len(widths) > 1 or q.weight.shape[1] % width:
        return None
    return _Match(node, q, k, v, join.outputs[0], join, q.weight.shape[1] // width, mask.keys)


def _has_extras(node: ir.Node) -> bool:
    """Whether the node is causal, capped or has past keys: kinds of attention that the kernel is not asked for."""
    flags = [node.attributes[name].as_int() for name in ("is_causal",) if name in node.attributes]
    caps = [node.attributes[name].as_float() for name in ("softcap",) if name in node.attributes]
    return any(flags) or any(caps) or any(value is not None for value in node.inputs[4:])


def _split_heads(value: ir.Value | None) -> tuple[Linear, int] | None:
    """A [batch, heads, tokens, width] value as the product that it was split from, and the width of a head."""
    transpose = producer(value, "Transpose")
    if transpose is None or not _swaps(transpose):
        return None
    reshape = producer(transpose.inputs[0], "Reshape")
    if reshape is None or reshape.inputs[0] is None:
        return None
    linear, width = match_linear(reshape.inputs[0]), _last_dimension(reshape)
    return None if linear is None or width is None else (linear, width)


def _swaps(node: ir.Node) -> bool:
    return list(node.attributes["perm"].as_ints()) == SWAP


def _last_dimension(reshape: ir.Node) -> int | None:
    target = constant(reshape.inputs[1])
    if target is None:
        concat = producer(reshape.inputs[1], "Concat")
        target = None if concat is None else constant(concat.inputs[-1])
    return None if target is None or int(target[-1]) <= 0 else int(target[-1])


def _read_mask(mask: ir.Value | None) -> _Mask | None:
    """What a mask of [batch, 1, queries, keys] says of the keys alone, or None when it says more than that."""
    import onnx_ir as ir

    if mask is None:
        return _Mask(None)
    value, is_bool, spread = mask, False, False
    while (node := value.producer()) is not None:
        first = node.inputs[0]
        if node.op_type == "Where":
            first, is_bool = _kept_by(node), True
        elif node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.BOOL:
            is_bool = True
        elif node.op_type == "Unsqueeze" and not spread and _equals(node.inputs[1], KEY_AXES):
            spread = True
        elif node.op_type != "Expand" and not (node.op_type == "Slice" and _equals(node.inputs[3], [QUERY_AXIS])):
            return None
        if first is None:
            return None
        value = first
    fixed = constant(value)
    if fixed is not None:  # transformers' image models spread a mask that lets everything through
        return _Mask(None) if fixed.dtype == bool and fixed.all() else None
    is_bool = is_bool or value.dtype == ir.DataType.BOOL
    return _Mask(value) if is_bool and spread and value.is_graph_input() else None


def _kept_by(where: ir.Node) -> ir.Value | None:
    """The mask of 0 and 1 in one that is added to the scores: ``Where(bool(1 - kept), lowest, 1 - kept)``.

    transformers 4 makes it so. None where it is anything else.
    """
    left_out, rest = producer(where.inputs[0], "Cast"), producer(where.inputs[2], "Sub")
    if left_out is None or rest is None or left_out.inputs[0] is not rest.outputs[0]:
        return None
    kept, one, lowest = producer(rest.inputs[1], "Cast"), constant(rest.inputs[0]), constant(where.inputs[1])
    if kept is None or one is None or lowest is None or (one != 1).any() or (lowest > LOWEST).any():
        return None
    return kept.inputs[0]


def _equals(value: ir.Value | None, expected: list[int]) -> bool:
    found = constant(value)
    return found is not None and found.reshape(-1).tolist() == expected


def _replace(graph: ir.Graph, match: _Match) -> None:
    name = str(match.output.name)
    if match.q.x is match.k.x is match.v.x:
        q, k, v = _product(graph, match, [match.q, match.k, match.v], f"{name}_qkv")
    elif match.k.x is match.v.x:
        (q,) = _product(graph, match, [match.q], f"{name}_q")
        k, v = _product(graph, match, [match.k, match.v], f"{name}_kv")
    else:
        parts = ((match.q, "q"), (match.k, "k"), (match.v, "v"))
        q, k, v = [_product(graph, match, [part], f"{name}_{letter}")[0] for part, letter in parts]
    mask = None if match.mask is None else _int32_mask(graph, match.mask)
    attributes: dict[str, int | float | str | list[int]] = {"num_heads": match.heads}
    if "scale" in match.attention.attributes:
        attributes["scale"] = match.attention.attributes["scale"].as_float()
    inputs = [q, k, v] if mask is None else [q, k, v, None, mask]
    node = insert_node(
        graph,
        match.last,
        "MultiHeadAttention",
        inputs,
        f"{name}_attention",
        attributes=attributes,
        domain=CONTRIB,
    )
    replace(match.output, node.outputs[0])


def _product(graph: ir.Graph, match: _Match, parts: list[Linear], name: str) -> list[ir.Value]:
    """Several products of the same input as one, split again behind it."""
    import numpy as np

    weight = add_initializer(graph, f"{name}_weight", np.concatenate([part.weight for part in parts], axis=1))
    value = insert_node(graph, match.last, "MatMul", [parts[0].x, weight], f"{name}_product").outputs[0]
    if any(part.bias is not None for part in parts):
        bias = add_initializer(graph, f"{name}_bias", np.concatenate([_bias(part) for part in parts]))
        value = insert_node(graph, match.last, "Add", [value, bias], f"{name}_sum").outputs[0]
    if len(parts) == 1:
        return [value]
    sizes = add_initializer(graph, f"{name}_widths", np.array([part.weight.shape[1] for part in parts], np.int64))
    split = insert_node(graph, match.last, "Split", [value, sizes], name, attributes={"axis": 2}, outputs=len(parts))
    return list(split.outputs)


def _bias(part: Linear) -> Array:
    import numpy as np

    return np.zeros(part.weight.shape[1], part.weight.dtype) if part.bias is None else part.bias


def _int32_mask(graph: ir.Graph, mask: ir.Value) -> ir.Value:
    """The mask as the kernel takes it, made once for all layers."""
    import onnx_ir as ir

    for use in mask.uses():
        if use.node.op_type == "Cast" and use.node.outputs[0].name == MASK_NAME:
            return use.node.outputs[0]
    first = graph[0]
    node = insert_node(
        graph, first, "Cast", [mask], MASK_NAME, attributes={"to": int(ir.DataType.INT32)}, dtype=ir.DataType.INT32
    )
    return node.outputs[0]
