"""How much a graph computes: multiply-accumulates, operator by operator, from the shapes of one workload.

Counted are products, convolutions, attention and recurrences, where nearly all the work of a network lies; what is
element-wise, normalizes, pools or looks up counts as nothing. The rules are those of the definitions: a product
[m, k] x [k, n] takes m * n * k multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekit.formats.graph import CONTRIB
from edgekit.formats.known import Shapes, integer, subgraphs

if TYPE_CHECKING:
    import onnx_ir as ir

RULE = "products, convolutions, attention and recurrences; every other operator counts as 0"
_Rule = Callable[["ir.Node", Shapes], int | None]


@dataclass
class Work:
    """Multiply-accumulates of a graph.

    Attributes:
        macs: of each node that was counted, in the graph and the graphs inside it.
        unknown: nodes whose work cannot be told, since their shapes are not known.
        choices: ``If`` nodes that take one of two branches by the data: the one with more work was counted.
        repeats: ``Loop`` and ``Scan`` nodes that run as often as the data says: one turn was counted.
    """

    macs: dict[ir.Node, int] = field(default_factory=dict)
    unknown: list[ir.Node] = field(default_factory=list)
    choices: list[ir.Node] = field(default_factory=list)
    repeats: list[ir.Node] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.macs.values())


def count_work(graph: ir.Graph, shapes: Shapes) -> Work:
    """The work of one run of a graph."""
    work = Work()
    for node in graph:
        inside = subgraphs(node)
        if inside:
            _merge(work, *_inside(node, inside, shapes))
            continue
        rule = RULES.get(f"{node.domain}.{node.op_type}") or RULES.get(node.op_type)
        if rule is None:
            continue
        found = rule(node, shapes)
        if found is None:
            work.unknown.append(node)
        else:
            work.macs[node] = found
    return work


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of a graph and of every graph inside it."""
    for node in graph:
        yield node
        for inside in subgraphs(node).values():
            yield from all_nodes(inside)


def _inside(node: ir.Node, graphs: dict[str, ir.Graph], shapes: Shapes) -> tuple[Work, int]:
    """The work of the graphs that a node holds, and how often it is done."""
    if node.op_type == "If":
        taken = shapes.branches.get(node)
        options = [count_work(graph, shapes) for branch, graph in graphs.items() if taken in (None, branch)]
        most = max(options, key=lambda option: option.total)
        if taken is None and any(option.total != most.total or option.unknown for option in options):
            most.choices.append(node)
        return most, 1
    work = Work()
    for graph in graphs.values():
        _merge(work, count_work(graph, shapes), 1)
    trips = shapes.trips.get(node)
    if trips is None and (work.macs or work.unknown):
        work.repeats.append(node)
    return work, 1 if trips is None else trips


def _merge(work: Work, other: Work, times: int) -> None:
    work.macs |= {node: macs * times for node, macs in other.macs.items()}
    work.unknown += other.unknown
    work.choices += other.choices
    work.repeats += other.repeats


def _convolution(weight: int) -> _Rule:
    """Each output element sums one filter: weight [out channels, in channels / group, kernel...]."""

    def rule(node: ir.Node, shapes: Shapes) -> int | None:
        outputs, kernel = shapes.output(node).elements, shapes.input(node, weight).sizes
        return None if outputs is None or kernel is None else outputs * math.prod(kernel[1:])

    return rule


def _transposed_convolution(node: ir.Node, shapes: Shapes) -> int | None:
    """Each input element spreads one filter: weight [in channels, out channels / group, kernel...]."""
    inputs, kernel = shapes.input(node, 0).elements, shapes.input(node, 1).sizes
    return None if inputs is None or kernel is None else inputs * math.prod(kernel[1:])


def _product(node: ir.Node, shapes: Shapes) -> int | None:
    """[..., m, k] x [..., k, n]: output elements times k."""
    outputs, left = shapes.output(node).elements, shapes.input(node, 0).sizes
    if outputs is None or left is None:
        return None
    inner = -2 if integer(node, "transA") and len(left) > 1 else -1
    return outputs * left[inner]


def _einsum(node: ir.Node, shapes: Shapes) -> int | None:
    """The product of the sizes of all indices; only for two operands without an ellipsis."""
    text = node.attributes["equation"].as_string().replace(" ", "")
    terms = text.partition("->")[0].split(",")
    operands = [shapes.input(node, index).sizes for index in range(len(terms))]
    if "." in text or len(terms) != 2:
        return None
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        if operand is None or len(operand) != len(term):
            return None
        sizes |= dict(zip(term, operand, strict=True))
    return math.prod(sizes.values())


def _recurrence(node: ir.Node, shapes: Shapes) -> int | None:
    """``LSTM``, ``GRU``, ``RNN``: each step reads the matrices W and R once for each sample.

    X [steps, batch, in] (``layout`` 1: [batch, steps, in]); W and R hold all gates and directions.
    """
    x, w, r = (shapes.input(node, index) for index in range(3))
    if x.sizes is None or w.elements is None or r.elements is None:
        return None
    return x.sizes[0] * x.sizes[1] * (w.elements + r.elements)


def _attention(node: ir.Node, shapes: Shapes) -> int | None:
    """ONNX ``Attention``: scores Q K^T, then their product with V.

    Q [batch, heads, queries, width], K [batch, key heads, keys, width], V [..., value width]; or [batch, length,
    heads * width], with the heads as attributes. A past of K adds to the keys.
    """
    q, k, v = (shapes.input(node, index).sizes for index in range(3))
    past = shapes.input(node, 4)
    if q is None or k is None or v is None or (len(node.inputs) > 4 and node.inputs[4] and past.sizes is None):
        return None
    keys = k[-2] + (past.sizes[-2] if past.sizes else 0)
    if len(q) == 4:
        return q[0] * q[1] * q[2] * keys * (q[3] + v[3])
    heads = integer(node, "q_num_heads", 1)
    value_width = v[2] // integer(node, "kv_num_heads", heads)
    return q[0] * q[1] * keys * (q[2] + heads * value_width)


def _multi_head_attention(node: ir.Node, shapes: Shapes) -> int | None:
    """``com.microsoft.MultiHeadAttention``: query [batch, queries, width], key and value [batch, keys, width]."""
    q, k, v = (shapes.input(node, index).sizes for index in range(3))
    if q is None or k is None or v is None or not len(q) == len(k) == len(v) == 3:
        return None
    return q[0] * q[1] * k[1] * (q[2] + v[2])


def _packed_attention(node: ir.Node, shapes: Shapes) -> int | None:
    """``com.microsoft.Attention`` and ``QAttention``: the product with the packed weight, then attention."""
    x, weight = shapes.input(node, 0).sizes, shapes.input(node, 1).sizes
    if x is None or weight is None or len(x) != 3 or "qkv_hidden_sizes" in node.attributes:
        return None
    batch, tokens, _ = x
    return batch * tokens * math.prod(weight) + 2 * batch * tokens * tokens * (weight[1] // 3)


RULES: dict[str, _Rule] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _product,
    "Gemm": _product,
    "FusedMatMul": _product,
    "FusedGemm": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "QGemm": _product,
    "MatMulIntegerToFloat": _product,
    "DynamicQuantizeMatMul": _product,
    "MatMulNBits": _product,
    "Einsum": _einsum,
    "LSTM": _recurrence,
    "GRU": _recurrence,
    "RNN": _recurrence,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    f"{CONTRIB}.Attention": _packed_attention,
    "QAttention": _packed_attention,
}
# Kinds that do heavy work by rules which are not written down here: their work is unknown, not nothing.
UNRULED = ("GroupQueryAttention", "DecoderMaskedMultiHeadAttention", "PackedMultiHeadAttention", "DeformConv", "MoE")
RULES |= {kind: lambda node, shapes: None for kind in UNRULED}
