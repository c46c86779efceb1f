"""Residual sums that stay apart from the LayerNormalization behind them.

When onnxruntime loads a graph it makes one ``SkipLayerNormalization`` of an ``Add`` and the LayerNormalization that
reads it. On processors that kernel of version 1.32 goes through a token's values one by one, and takes longer than an
addition and a LayerNormalization of its own do. The fusion looks for ``Add``: a ``Sum`` of two gives the same numbers
and is left alone, and the bias in front of it goes into its product's own kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.formats.graph import producer, split_bias

if TYPE_CHECKING:
    import onnx_ir as ir


def keep_sums_apart(graph: ir.Graph) -> int:
    """Write each ``Add`` of two activations in front of a LayerNormalization as ``Sum``; returns how many."""
    found = 0
    for node in graph:
        add = producer(node.inputs[0], "Add") if node.op_type == "LayerNormalization" else None
        if add is not None and split_bias(add) is None:
            add.op_type = "Sum"
            found += 1
    return found
