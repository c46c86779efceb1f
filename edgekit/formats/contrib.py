"""Shapes of onnxruntime's own operators (``com.microsoft``), of which onnx knows nothing.

The rules follow onnxruntime's docs/ContribOperators.md. An operator that is not here has unknown outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgekit.formats.known import Dims, Known

if TYPE_CHECKING:
    import onnx_ir as ir

Typed = tuple["ir.DataType | None", Dims | None]
Rule = Callable[["ir.Node", Sequence[Known]], list[Typed]]

# Operators that take what an ONNX operator of another name takes, in the same order, and more attributes.
STANDARD_TWINS = {
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
    "QuantizeLinear": "QuantizeLinear",
    "DequantizeLinear": "DequantizeLinear",
}


def _like_first(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """One output, of the first input's type and shape."""
    del node
    return [(inputs[0].kind, inputs[0].shape)]


def _skip_norm(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """The normalized sum, and as fourth output the sum itself."""
    same: Typed = (inputs[0].kind, inputs[0].shape)
    return [same, (None, None), (None, None), same][: len(node.outputs)]


def _broadcast(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``QLinearAdd`` and ``QLinearMul``: the operands are inputs 0 and 3."""
    del node
    return [(inputs[0].kind, broadcast(inputs[0].shape, inputs[3].shape))]


def _product(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``FusedMatMul``: a product of the two first inputs, each perhaps transposed."""
    left, right = inputs[0].shape, inputs[1].shape
    if _flag(node, "transBatchA") or _flag(node, "transBatchB"):
        return [(inputs[0].kind, None)]
    return [(inputs[0].kind, product(_swap(left, _flag(node, "transA")), _swap(right, _flag(node, "transB"))))]


def _float_product(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """A product of integers (or with integers) that is scaled to float."""
    import onnx_ir as ir

    del node
    return [(ir.DataType.FLOAT, product(inputs[0].shape, inputs[1].shape))]


def _quantized_gemm(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``QGemm``: inputs 0 and 3; 8 bits where a zero point of the output is given, else float."""
    import onnx_ir as ir

    left, right = _swap(inputs[0].shape, _flag(node, "transA")), _swap(inputs[3].shape, _flag(node, "transB"))
    scaled = len(node.inputs) > 8 and node.inputs[8] is not None
    return [(inputs[0].kind if scaled else ir.DataType.FLOAT, product(left, right))]


def _few_bits(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``MatMulNBits``: [..., K] -> [..., N]."""
    shape, width = inputs[0].shape, node.attributes["N"].as_int()
    return [(inputs[0].kind, None if shape is None else (*shape[:-1], width))]


def _block_rows(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``GatherBlockQuantized``: table [rows, width] and indices [...] -> [..., width]; bytes hold several elements."""
    import onnx_ir as ir

    table, indices = inputs[0].shape, inputs[1].shape
    if table is None or indices is None or len(table) != 2 or _flag(node, "gather_axis"):
        return [(inputs[2].kind, None)]
    width, bits = table[1], node.attributes["bits"].as_int() if "bits" in node.attributes else 4
    if width is not None and inputs[0].kind == ir.DataType.UINT8:
        width = width * 8 // bits
    return [(inputs[2].kind, (*indices, width))]


def _packed_attention(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``Attention`` and ``QAttention``: input [batch, tokens, in], packed weight [in, 3 * out]."""
    import onnx_ir as ir

    shape, weight = inputs[0].shape, inputs[1].shape
    kind = ir.DataType.FLOAT if node.op_type == "QAttention" else inputs[0].kind
    if shape is None or weight is None or "qkv_hidden_sizes" in node.attributes or weight[-1] is None:
        return [(kind, None)]
    return [(kind, (*shape[:-1], weight[-1] // 3))]


def _attention(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``MultiHeadAttention``: query [batch, tokens, width], value [batch, tokens, value width] where it is given."""
    query = inputs[0].shape
    value = inputs[2].shape if len(inputs) > 2 and node.inputs[2] is not None else query
    if query is None or value is None or len(query) != 3 or len(value) != 3:
        return [(inputs[0].kind, None)]
    return [(inputs[0].kind, (*query[:2], value[2]))]


def _embedding(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``EmbedLayerNormalization``: ids [batch, tokens], table [words, width]."""
    ids, table = inputs[0].shape, inputs[2].shape
    del node
    return [(inputs[2].kind, None if ids is None or table is None else (*ids, table[-1]))]


def _concat(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``QLinearConcat``: after scale and zero point of the output, each operand with its own."""
    operands = inputs[2::3]
    shapes = [operand.shape for operand in operands]
    axis = node.attributes["axis"].as_int()
    first = shapes[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
        return [(operands[0].kind, None)]
    along = [shape[axis] for shape in shapes if shape is not None]
    whole = None if None in along else sum(size for size in along if size is not None)
    return [(operands[0].kind, tuple(whole if at == axis % len(first) else size for at, size in enumerate(first)))]


def _global_pool(node: ir.Node, inputs: Sequence[Known]) -> list[Typed]:
    """``QLinearGlobalAveragePool``: [batch, channels, ...] -> [batch, channels, 1, ...]."""
    shape = inputs[0].shape
    if shape is None or _flag(node, "channels_last"):
        return [(inputs[0].kind, None)]
    return [(inputs[0].kind, (*shape[:2], *(1 for _ in shape[2:])))]


CONTRIB_RULES: dict[str, Rule] = {
    "Gelu": _like_first,
    "FastGelu": _like_first,
    "QuickGelu": _like_first,
    "BiasGelu": _like_first,
    "QLinearSigmoid": _like_first,
    "QLinearLeakyRelu": _like_first,
    "QLinearSoftmax": _like_first,
    "RotaryEmbedding": _like_first,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "QLinearAdd": _broadcast,
    "QLinearMul": _broadcast,
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _global_pool,
    "QGemm": _quantized_gemm,
    "FusedMatMul": _product,
    "MatMulIntegerToFloat": _float_product,
    "DynamicQuantizeMatMul": _float_product,
    "MatMulNBits": _few_bits,
    "GatherBlockQuantized": _block_rows,
    "Attention": _packed_attention,
    "QAttention": _packed_attention,
    "MultiHeadAttention": _attention,
    "EmbedLayerNormalization": _embedding,
}


def product(left: Dims | None, right: Dims | None) -> Dims | None:
    """Shape of a matrix product: [..., m, k] and [..., k, n] -> [..., m, n]; leading sizes broadcast."""
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    lead = broadcast(left[:-2], right[:-2])
    return None if lead is None else (*lead, left[-2], right[-1])


def broadcast(one: Dims | None, other: Dims | None) -> Dims | None:
    """Shape of two tensors that broadcast; a size that cannot be told is None."""
    if one is None or other is None:
        return None
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    return tuple(b if a == 1 else a if b in (1, a) else None for a, b in pairs)


def _swap(shape: Dims | None, swapped: bool) -> Dims | None:
    if shape is None or not swapped or len(shape) < 2:
        return shape
    return (*shape[:-2], shape[-1], shape[-2])


def _flag(node: ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and attribute.as_int() != 0
