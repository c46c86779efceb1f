"""Tables of words in INT4: each block of a row has a scale, and onnxruntime's ``GatherBlockQuantized`` reads them.

Two elements are packed into a byte, which the operator unpacks about six times as fast as tensors of ONNX's own 4-bit
types (onnxruntime 1.32 on a Xeon with AVX512-VNNI, 128 rows of 384: 0.07 ms, against 0.53 ms, and 0.01 ms for INT8).

Source: onnxruntime's docs/ContribOperators.md, com.microsoft.GatherBlockQuantized; the same graphs gave the same rows
in onnxruntime 1.23.2 and 1.32.0.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekit.formats.graph import CONTRIB, add_initializer, constant, insert_node, producer, replace, stored
from edgekit.int4 import LOWEST, scales_of, steps_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

# Elements of a row that share a scale; the operator takes powers of two from 16.
BLOCK = 128
# Rows that are rounded at once, so that what is computed of them stays in a processor's cache: a table of 30522 rows of
# 384 then takes 0.25 s of a Xeon with AVX512, and 0.7 s all at once.
ROWS = 256
# A table of at most so many elements is not worth a look-up that takes longer: that of segments in BERT's large model.
MOST_SMALL = 2048


def quantize_blocks(table: Array, block: int = BLOCK) -> tuple[Array, Array]:
    """A table [rows, width] as INT4, and a scale for each block of a row [rows, blocks].

    Returns:
        Two elements in a byte, the first in its lower half, each with 8 added: uint8 [rows, width / 2]; and float32.
    """
    import numpy as np

    steps, scales = _in_blocks(table, block)
    shifted = (steps.reshape(len(table), -1)[:, : table.shape[1]] - LOWEST).astype(np.uint8)
    return shifted[:, 0::2] | (shifted[:, 1::2] << 4), scales[..., 0]


def round_to_blocks(table: Array, block: int = BLOCK) -> Array:
    """What is read of a table [rows, width] in INT4: float32 of the same shape, which INT4 leaves as it is."""
    steps, scales = _in_blocks(table, block)
    found: Array = (steps * scales).reshape(len(table), -1)[:, : table.shape[1]]
    return found


def _in_blocks(table: Array, block: int) -> tuple[Array, Array]:
    """Steps, int8 [rows, blocks, block], and their scales, float32 [rows, blocks, 1]."""
    import numpy as np

    rows, width = table.shape
    blocks = -(-width // block)
    padded = np.pad(table.astype(np.float32), ((0, 0), (0, blocks * block - width))).reshape(rows, blocks, block)
    steps, scales = np.empty(padded.shape, np.int8), np.empty((rows, blocks, 1), np.float32)
    for start in range(0, rows, ROWS):
        some = slice(start, start + ROWS)
        furthest = np.take_along_axis(padded[some], np.abs(padded[some]).argmax(axis=-1, keepdims=True), axis=-1)
        scales[some] = scales_of(padded[some], furthest, np)
        steps[some] = steps_of(padded[some], scales[some], np)
    return steps, scales


def looks_up_tokens(node: ir.Node) -> bool:
    """Whether a node looks up rows of a constant table by numbers that the model is given; nothing else may read it."""
    table, numbers, axis = node.inputs[0], node.inputs[1], node.attributes.get("axis")
    found = stored(table)
    if node.op_type != "Gather" or node.domain or table is None or found is None or numbers is None:
        return False
    cast, sizes = producer(numbers, "Cast"), found.shape.numpy()
    given = cast.inputs[0] if cast is not None else numbers
    return (
        given is not None
        and given.is_graph_input()
        and (axis is None or axis.as_int() == 0)
        and len(sizes) == 2
        and sizes[1] % 2 == 0
        and found.size > MOST_SMALL
        and not table.is_graph_output()
        and all(use.node.op_type == "Gather" and use.idx == 0 for use in table.uses())
    )


def narrow_tables(model: ir.Model, names: Collection[str]) -> None:
    """Let the nodes of these names, for which ``looks_up_tokens`` holds, read tables in INT4; in place."""
    graph = model.graph
    for node in [node for node in graph if node.name in names]:
        table = node.inputs[0]
        assert table is not None
        made = narrow_beside(graph, node, "int4")
        made.name = node.name
        replace(node.outputs[0], made.outputs[0])
        graph.remove(node, safe=True)
        if not list(table.uses()) and table.name in graph.initializers:
            del graph.initializers[str(table.name)]
    model.opset_imports[CONTRIB] = 1


def narrow_beside(graph: ir.Graph, node: ir.Node, ending: str) -> ir.Node:
    """A node in front of another, which looks the same rows up in a table in INT4."""
    table, found = node.inputs[0], constant(node.inputs[0])
    assert table is not None
    assert found is not None
    values, scales = quantize_blocks(found)
    inputs = [
        add_initializer(graph, f"{table.name}_{ending}", values),
        node.inputs[1],
        add_initializer(graph, f"{table.name}_block_scale", scales),
    ]
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": BLOCK, "bits": 4}
    name = f"{node.outputs[0].name}_{ending}"
    return insert_node(graph, node, "GatherBlockQuantized", inputs, name, attributes=attributes, domain=CONTRIB)
