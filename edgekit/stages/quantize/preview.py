"""What quantize will make of a graph, for stages in front of it that measure how long variants of a graph take."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from edgekit.quantization.dynamic import Widths, quantize_dynamically
from edgekit.quantization.products import pack_products
from edgekit.quantization.schemes import Scheme, is_convolutional, weighted_nodes
from edgekit.stages.base import Goal, Preview, StageSettings
from edgekit.stages.quantize.settings import ONNXRUNTIME, QuantizeSettings, scheme_for

if TYPE_CHECKING:
    import onnx_ir as ir

NAMES = {"dynamic": "dynamic INT8", "int4": "weights in INT4"}


def preview(settings: StageSettings, goal: Goal) -> Preview | None:
    """Products of matrices in integers, where that takes no data: tables stay float, and no layer falls back.

    What a table's look-up takes is the same in every variant. Static INT8 and FP16 need samples first: there is no
    preview of them, nor of what neural-compressor makes, nor of TFLite.
    """
    settings = cast("QuantizeSettings", settings)
    if goal.format != "onnx" or settings.engine != ONNXRUNTIME:
        return None
    scheme = scheme_for(settings, goal.target)
    if scheme.method not in NAMES:
        return None

    def change(model: ir.Model) -> None:
        nodes = weighted_nodes(model, embeddings=False)
        if is_convolutional(nodes):  # its INT8 is static, and no rewrite is for it
            return
        if scheme.method == "int4":
            pack_products(model, [node.name for node in nodes if node.packs])
        else:
            multiply_integers(model, scheme)

    return Preview(NAMES[scheme.method], [scheme.method, scheme.weights, scheme.per_channel], change)


def multiply_integers(model: ir.Model, scheme: Scheme) -> int:
    """Let every product with a constant matrix multiply integers; in place. Returns how many do.

    A ``Gemm`` stays as it is: in encoders it is the head's, of one row.

    Args:
        model: in float32, every node with a name.
        scheme: dynamic.
    """
    nodes = [node.name for node in weighted_nodes(model, embeddings=False) if node.kind == "MatMul"]
    quantize_dynamically(model, nodes, Widths(scheme.weights, scheme.per_channel, scheme.reduce_range))
    return len(nodes)
