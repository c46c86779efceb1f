"""What an x86-64 processor without VNNI makes of INT8: two products are added in a saturating int16.

``vpmaddubsw`` multiplies unsigned by signed bytes and adds neighbours in 16 bits, so that a pair of products beyond
-32768 or 32767 is cut there (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW).
onnxruntime's kernels for AVX2 and AVX-512 without VNNI are built on it (``QgemmU8X8KernelAvx2``,
``QgemvU8S8KernelAvx2``, ``ConvSymKernelAvx2`` and ``QgemmU8S8KernelAvx512Core`` of ``onnxruntime/core/mlas/lib``): the
sum over k goes by pairs (0, 1), (2, 3) ... of raw bytes, before any zero point is taken off. Where a convolution sums
over its window, k runs over places first and channels last (``qlinearconv.cc``). Signed activations are shifted by 128
to be unsigned. u8 weights go through ``vpmaddwd`` and are exact, and so are depthwise convolutions.

A graph is rewritten so that any machine computes what such a processor would: each product that can saturate at all is
computed exactly, in float64, and what the cut takes off is added to it. Everything else stays as onnxruntime fuses it.
Without the last step it is what any other processor computes, also where this one is such a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.formats.graph import add_initializer, constant, insert_node

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

LOWEST, HIGHEST = -(2**15), 2**15 - 1
LARGEST_BYTE = 255
# Kernels that multiply u8 by s8 and are not rewritten; edgekit writes none of them.
UNKNOWN_KINDS = ("ConvInteger", "QAttention", "DynamicQuantizeLSTM")


@dataclass(frozen=True)
class Pairs:
    """Pairs of products that can leave 16 bits, for each column the same number; where it has fewer, weights are 0.

    Attributes:
        first, second: places in k, each [columns, pairs].
        weights: of both places, [2, columns, pairs].
    """

    first: Array
    second: Array
    weights: Array


@dataclass(frozen=True)
class Saturating:
    """What a rewritten graph counts.

    Attributes:
        layers: names of the nodes whose sums can saturate; where they do, the graph's last outputs count them, in
            this order.
        unknown: names of the nodes that may saturate and were left as they are.
    """

    layers: tuple[str, ...]
    unknown: tuple[str, ...]


def risky_pairs(rows: Array) -> Pairs | None:
    """The pairs of a weight [k, columns] of s8 that some unsigned bytes would bring beyond 16 bits; None without any.

    Weights of 7 bits have none: 2 * 255 * 64 = 32640.
    """
    import numpy as np

    padded = np.pad(rows.astype(np.int64), ((0, len(rows) % 2), (0, 0)))
    even, odd = padded[0::2], padded[1::2]
    above = LARGEST_BYTE * (np.maximum(even, 0) + np.maximum(odd, 0)) > HIGHEST
    below = LARGEST_BYTE * (np.minimum(even, 0) + np.minimum(odd, 0)) < LOWEST
    risky = above | below  # [pairs, columns]
    most = int(risky.sum(axis=0).max(initial=0))
    if most == 0:
        return None
    chosen = np.argsort(~risky, axis=0, kind="stable")[:most].T  # [columns, most]
    columns = np.arange(rows.shape[1])[:, None]
    weights = np.stack([even[chosen, columns], odd[chosen, columns]]) * risky[chosen, columns]
    return Pairs(2 * chosen, np.minimum(2 * chosen + 1, len(rows) - 1), weights.astype(np.int32))


def saturating_sum(bytes_: Array, rows: Array) -> Array:
    """The sum over k of u8 [..., k] times s8 [k, columns] as these kernels add it: the definition, for tests."""
    import numpy as np

    padded = len(rows) % 2
    left = np.pad(bytes_.astype(np.int64), [*[(0, 0)] * (bytes_.ndim - 1), (0, padded)])
    right = np.pad(rows.astype(np.int64), ((0, padded), (0, 0)))
    pairs = left[..., 0::2, None] * right[0::2] + left[..., 1::2, None] * right[1::2]
    total: Array = np.clip(pairs, LOWEST, HIGHEST).sum(axis=-2)
    return total


def saturate(model: ir.Model) -> Saturating:
    """Rewrite the products of a graph, in place, so that they saturate, and let the graph count how often.

    Each product that can saturate gives another output, int64 [2]: how many of its sums did, and how many there were.

    Args:
        model: as onnxruntime's extended optimizations leave it, so that its nodes are the kernels that run.
    """
    found = _rewrite(model, cuts=True)
    made = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs.extend(made[f"saturated_{index}"] for index in range(len(found.layers)))
    return found


def widen(model: ir.Model) -> Saturating:
    """Rewrite the products of a graph that can saturate, in place, so that no processor's sums do.

    Args:
        model: as for ``saturate``.
    """
    return _rewrite(model, cuts=False)


def _rewrite(model: ir.Model, *, cuts: bool) -> Saturating:
    """Compute the products that can saturate in wider numbers, with what the cut takes off or without."""
    layers: list[str] = []
    unknown: list[str] = []
    for node in list(model.graph):
        kind = KINDS.get(node.op_type)
        signed = [value for value in node.inputs if value is not None and _is_signed(value)]
        if kind is None or not signed:
            unknown += [_called(node)] if signed and node.op_type in UNKNOWN_KINDS else []
            continue
        site = _Site(model.graph, node, f"saturated_{len(layers)}", cuts=cuts)
        weight = site.array(kind.weight)
        if weight is None or any(site.array(index) is None for index in kind.constants) or site.attribute("transA", 0):
            unknown.append(_called(node))
        elif weight.dtype == "int8" and kind.rewrite(site, weight):
            layers.append(_called(node))
    return Saturating(tuple(layers), tuple(unknown))


def _called(node: ir.Node) -> str:
    """A node's name, or where it has none that of its output."""
    return str(node.name or node.outputs[0].name)


def _is_signed(value: ir.Value) -> bool:
    import onnx_ir as ir

    return value.dtype == ir.DataType.INT8


class _Site:
    """Where a node is rewritten: new nodes go before it, and read each other.

    Args:
        graph: the graph.
        node: the node.
        counted: name of the output that counts it.
        cuts: whether its sums are cut, and counted.
    """

    def __init__(self, graph: ir.Graph, node: ir.Node, counted: str, *, cuts: bool) -> None:
        self.graph, self.node, self.counted, self.cuts = graph, node, counted, cuts
        self._made = 0

    def input(self, index: int) -> ir.Value | None:
        """One of the node's inputs; None where it was left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def array(self, index: int) -> Any:
        """One of the node's constant inputs as an array; None where it is not there or no constant."""
        return constant(self.input(index))

    def attribute(self, name: str, default: Any) -> Any:
        """The value of one of the node's attributes."""
        return self.node.attributes[name].value if name in self.node.attributes else default

    def hold(self, array: Any) -> ir.Value:
        """A new constant."""
        return add_initializer(self.graph, self.fresh(), array)

    def add(self, kind: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A new node with one output, whose type onnxruntime finds out."""
        made = insert_node(self.graph, self.node, kind, inputs, self.fresh(), attributes=attributes).outputs[0]
        made.type = None
        return made

    def cast(self, value: ir.Value | None, kind: str) -> ir.Value:
        """A value as another type, by its name in ONNX."""
        import onnx_ir as ir

        return self.add("Cast", value, to=int(ir.DataType[kind]))

    def give(self, value: ir.Value) -> None:
        """Let the new value stand for the node's output, under its name, and take the node out."""
        old = self.node.outputs[0]
        value.name, value.type, value.shape = old.name, old.type, old.shape
        old.name = f"{old.name}/exact"
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        self.graph.remove(self.node, safe=True)

    def fresh(self) -> str:
        """A name that nothing has."""
        self._made += 1
        return f"{self.counted}/{self._made}"


def _sum(site: _Site, bytes_: ir.Value, zero: ir.Value | None, rows: Array, pairs: Pairs) -> ir.Value:
    """The sum of a product, cut where the site says so, zero point taken off, as float64 [..., columns].

    float64 holds every such sum without rounding.

    Args:
        site: where.
        bytes_: activations as int32 [..., k], each from 0 to 255.
        zero: zero point of the activations as int32, of one element or [..., 1]; None is 0.
        rows: weights less their zero point, [k, columns].
        pairs: those that can saturate.
    """
    import numpy as np
    import onnx_ir as ir

    left = bytes_ if zero is None else site.add("Sub", bytes_, zero)
    exact = site.add("MatMul", site.cast(left, "DOUBLE"), site.hold(rows.astype(np.float64)))
    if not site.cuts:
        return exact
    halves = [
        site.add("Mul", site.add("Gather", bytes_, site.hold(places), axis=-1), site.hold(weights))
        for places, weights in zip((pairs.first, pairs.second), pairs.weights, strict=True)
    ]
    whole = site.add("Add", *halves)  # int32 [..., columns, pairs]
    cut = site.add("Clip", whole, site.hold(np.int32(LOWEST)), site.hold(np.int32(HIGHEST)))
    excess, last = site.add("Sub", cut, whole), site.hold(np.array([-1]))
    beyond = site.cast(site.cast(excess, "BOOL"), "INT32")
    happened = site.add("ReduceSum", beyond, last, keepdims=0)  # int32 [..., columns]; ReduceMax takes operator set 18
    hits = site.add("ReduceSum", site.cast(site.cast(happened, "BOOL"), "INT64"), keepdims=0)
    one = site.hold(np.array([1]))
    both = [site.add("Reshape", value, one) for value in (hits, site.add("Size", happened))]
    counted = site.add("Concat", *both, axis=0)
    counted.name, counted.type, counted.shape = site.counted, ir.TensorType(ir.DataType.INT64), ir.Shape((2,))
    return site.add("Add", exact, site.cast(site.add("ReduceSum", excess, last, keepdims=0), "DOUBLE"))


def _unsigned(site: _Site, value: ir.Value | None, kind: Any) -> ir.Value | None:
    """Activations or their zero point as int32, shifted to 0 ... 255 where they are signed."""
    import numpy as np
    import onnx_ir as ir

    if value is None:
        return site.hold(np.int32(128)) if kind == ir.DataType.INT8 else None
    wide = site.cast(value, "INT32")
    return site.add("Add", wide, site.hold(np.int32(128))) if kind == ir.DataType.INT8 else wide


def _product(site: _Site, activation: int, zero: int, weight: Array, weight_zero: int) -> ir.Value | None:
    """The saturating sum of a matrix product by the node's inputs; None where it cannot saturate."""
    import numpy as np

    pairs = risky_pairs(weight) if weight.ndim == 2 else None
    if pairs is None:
        return None
    value = site.input(activation)
    kind = None if value is None else value.dtype
    left = _unsigned(site, value, kind)
    assert left is not None  # a product has activations
    offset = site.array(weight_zero)
    rows = weight.astype(np.int64) - (0 if offset is None else offset.astype(np.int64))
    return _sum(site, left, _unsigned(site, site.input(zero), kind), rows, pairs)


def _scaled(site: _Site, total: ir.Value, *scales: ir.Value | None) -> ir.Value:
    """A sum as float32, by the product of scales."""
    factor = scales[0]
    for scale in scales[1:]:
        factor = site.add("Mul", factor, scale)
    return site.add("Mul", site.cast(total, "FLOAT"), factor)


def _requantized(site: _Site, total: ir.Value, scales: Array, zero: ir.Value | None, shape: Sequence[int]) -> ir.Value:
    """A sum by its whole scale, rounded and cut to the output's type: to the bit as the kernels do it."""
    import numpy as np

    value = site.add("Mul", site.cast(total, "FLOAT"), site.hold(scales.astype(np.float32).reshape(shape)))
    return site.add("QuantizeLinear", value, site.hold(np.float32(1)), zero)


def _matmul_integer(site: _Site, weight: Array) -> bool:
    total = _product(site, 0, 2, weight, 3)
    if total is None:
        return False
    site.give(site.cast(total, "INT32"))
    return True


def _matmul_integer_to_float(site: _Site, weight: Array) -> bool:
    total = _product(site, 0, 4, weight, 5)
    if total is None:
        return False
    value = _scaled(site, total, site.input(2), site.input(3))
    bias = site.input(6)
    site.give(value if bias is None else site.add("Add", value, bias))
    return True


def _dynamic_matmul(site: _Site, weight: Array) -> bool:
    """``DynamicQuantizeMatMul`` scales its activations itself, as ``DynamicQuantizeLinear`` does."""
    import onnx_ir as ir

    pairs = risky_pairs(weight) if weight.ndim == 2 else None
    if pairs is None:
        return False
    parts = insert_node(site.graph, site.node, "DynamicQuantizeLinear", [site.input(0)], site.fresh(), outputs=3)
    parts.outputs[0].type = parts.outputs[2].type = ir.TensorType(ir.DataType.UINT8)
    offset = site.array(3)
    rows = weight.astype("int64") - (0 if offset is None else offset.astype("int64"))
    total = _sum(site, site.cast(parts.outputs[0], "INT32"), site.cast(parts.outputs[2], "INT32"), rows, pairs)
    value = _scaled(site, total, parts.outputs[1], site.input(2))
    bias = site.input(4)
    site.give(value if bias is None else site.add("Add", value, bias))
    return True


def _qlinear_matmul(site: _Site, weight: Array) -> bool:
    total = _product(site, 0, 2, weight, 5)
    if total is None:
        return False
    scales = site.array(1) * site.array(4) / site.array(6)
    site.give(_requantized(site, total, scales, site.input(7), (-1,)))
    return True


def _qgemm(site: _Site, weight: Array) -> bool:
    """``QGemm`` gives integers where it has a scale for them, else floats."""
    total = _product(site, 0, 2, weight.T if site.attribute("transB", 0) else weight, 5)
    if total is None:
        return False
    if site.input(6) is not None:
        total = site.add("Add", total, site.cast(site.input(6), "DOUBLE"))
    scales = site.array(1) * site.array(4) * site.attribute("alpha", 1.0)
    if site.input(7) is None:
        site.give(site.add("Mul", site.cast(total, "FLOAT"), site.hold(scales.astype("float32").reshape(-1))))
    else:
        site.give(_requantized(site, total, scales / site.array(7), site.input(8), (-1,)))
    return True


def _qlinear_conv(site: _Site, weight: Array) -> bool:
    """A convolution is a product of windows [batch, places, groups * k] by weights that are 0 across groups."""
    import numpy as np

    outputs, inputs, *kernel = weight.shape
    groups = site.attribute("group", 1)
    columns = outputs // groups
    if inputs == 1 and columns == 1:
        return False  # depthwise
    size = inputs * int(np.prod(kernel))
    by_place = np.moveaxis(weight, 1, -1).reshape(groups, columns, size)  # k: places first, channels last
    found = [risky_pairs(part.T) for part in by_place]
    if not any(found):
        return False
    pairs = _side_by_side(found, columns, size)
    offset = site.array(5)
    whole = np.zeros((groups * size, outputs), np.int64)
    for group, part in enumerate(by_place.astype(np.int64)):
        place = slice(group * columns, (group + 1) * columns)
        zeros = 0 if offset is None else offset.astype(np.int64).reshape(-1)[place if offset.size > 1 else slice(1)]
        whole[group * size : (group + 1) * size, place] = part.T - zeros
    value = site.input(0)
    kind = None if value is None else value.dtype
    zero = _unsigned(site, site.input(2), kind)
    total = _sum(site, _windows(site, zero, (inputs, groups, *kernel)), zero, whole, pairs)
    if site.input(8) is not None:
        total = site.add("Add", total, site.cast(site.input(8), "DOUBLE"))
    scales = site.array(1) * site.array(4) / site.array(6)
    moved = _requantized(site, total, scales, site.input(7), (-1,))
    site.give(site.add("Transpose", moved, perm=[0, len(kernel) + 1, *range(1, len(kernel) + 1)]))
    return True


def _windows(site: _Site, zero: ir.Value | None, shape: Sequence[int]) -> ir.Value:
    """What each place of a convolution sees, as int32 [batch, places..., groups * k]: a convolution that only copies.

    Args:
        site: of the convolution.
        zero: zero point of the activations, with which borders are filled.
        shape: input channels of a group, groups, and the kernel's sides.
    """
    import numpy as np

    inputs, groups, *kernel = shape
    size = inputs * int(np.prod(kernel))
    copies = np.eye(size, dtype=np.float32).reshape(size, *kernel, inputs)
    copies = np.tile(np.moveaxis(copies, -1, 1), (groups, *[1] * (len(kernel) + 1)))
    kept = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    attributes = {name: site.attribute(name, None) for name in kept if name in site.node.attributes}
    value = site.input(0)
    left = _unsigned(site, value, None if value is None else value.dtype)
    centred = left if zero is None else site.add("Sub", left, zero)
    seen = site.add("Conv", site.cast(centred, "FLOAT"), site.hold(copies), **attributes)
    moved = site.cast(site.add("Transpose", seen, perm=[0, *range(2, len(kernel) + 2), 1]), "INT32")
    return moved if zero is None else site.add("Add", moved, zero)


def _side_by_side(found: Sequence[Pairs | None], columns: int, size: int) -> Pairs:
    """The pairs of each group, their places counted over all groups."""
    import numpy as np

    most = max(part.first.shape[1] for part in found if part is not None)
    first, second = (np.zeros((len(found) * columns, most), np.int64) for _ in range(2))
    weights = np.zeros((2, len(found) * columns, most), np.int32)
    for group, part in enumerate(found):
        if part is not None:
            place = slice(group * columns, (group + 1) * columns), slice(part.first.shape[1])
            first[place], second[place] = part.first + group * size, part.second + group * size
            weights[:, place[0], place[1]] = part.weights
    return Pairs(first, second, weights)


@dataclass(frozen=True)
class _Kind:
    """A kernel: which input is its weight, which others have to be constants, and what rewrites it."""

    weight: int
    rewrite: Callable[[_Site, Any], bool]
    constants: tuple[int, ...] = ()


KINDS = {
    "MatMulInteger": _Kind(1, _matmul_integer),
    "MatMulIntegerToFloat": _Kind(1, _matmul_integer_to_float),
    "DynamicQuantizeMatMul": _Kind(1, _dynamic_matmul),
    "QLinearMatMul": _Kind(3, _qlinear_matmul, (1, 4, 6)),
    "QGemm": _Kind(3, _qgemm, (1, 4)),
    "QLinearConv": _Kind(3, _qlinear_conv, (1, 4, 6)),
}
