"""FP16 that does not overflow: what would leave its range stays FP32, found by running the graph on samples.

The largest number of FP16 is 65504 (IEEE 754-2008, binary16); what lies above becomes infinite, and a softmax or a norm
of infinities is no number. onnxruntime computes a graph in FP16 on a CPU by way of FP32, so that an overflow does not
show there: it is looked for in FP32, in every tensor. Tensors inside branches and loops are out of sight: such nodes
stay FP32, with all that they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import Artifact
from edgekit.formats.graph import insert_node, tidy
from edgekit.formats.known import subgraphs
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.formats.work import all_nodes
from edgekit.quantization.schemes import copy_of_its_own, quiet, told_refusals
from edgekit.runtimes.ort import open_session
from edgekit.tasks.base import Batch

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

LARGEST = 65504.0
# A tensor counts as too large from half of that: inputs that were not among the samples may go further.
HEADROOM = 2.0
# Masks are made of infinities, which FP16 has too, or of the last number of FP32, for which the converter takes FP16's.
MASKING = 1e38
# What onnxruntime's converter calls the casts that it inserts.
CAST_ENDS = ("_cast_to_fp16_node", "_cast_to_fp32_node")
CAST_STARTS = ("graph_input_cast", "graph_output_cast")


def find_overflows(
    artifact: Artifact, fed: Iterable[Mapping[str, Sequence[Batch]]], scratch: Callable[[], Path], threads: int
) -> dict[str, dict[str, float]]:
    """Of each component, the nodes that read or write a tensor which leaves FP16's range, with its largest value.

    Nodes inside branches and loops are not watched; ``halve_graph`` leaves them FP32.

    Args:
        artifact: in float32; the nodes have names.
        fed: what each component is fed, some inferences at a time.
        scratch: makes an empty folder.
        threads: of the inference.
    """
    watches = {name: Watch(artifact.file(name), scratch(), threads) for name in artifact.manifest.components}
    for some in fed:
        for name, feeds in some.items():
            for batch in feeds:
                watches[name].run(batch)
    return {name: watch.overflows() for name, watch in watches.items()}


class Watch:
    """A graph that runs as it stands, and how large each of its tensors became.

    Args:
        graph: its file.
        scratch: a folder for a copy that gives every tensor.
        threads: of the inference.
    """

    def __init__(self, graph: Path, scratch: Path, threads: int) -> None:
        model = load_graph(graph)
        self._nodes = {
            str(node.name): [str(one.name) for one in (*node.inputs, *node.outputs) if one is not None]
            for node in model.graph
        }
        self._largest = {
            name: _size(value.const_value.numpy())
            for name, value in model.graph.initializers.items()
            if value.const_value is not None
        }
        known = {output.name for output in model.graph.outputs}
        for node in model.graph:
            model.graph.outputs.extend(value for value in node.outputs if value.name and value.name not in known)
        save_graph(model, scratch / graph.name)
        self._session = open_session(scratch / graph.name, threads, optimized=False)
        self._floats = [output.name for output in self._session.get_outputs() if output.type == "tensor(float)"]

    def run(self, feeds: Batch) -> None:
        """One inference."""
        tensors = dict(zip(self._floats, self._session.run(self._floats, feeds), strict=True))
        for name, values in (feeds | tensors).items():
            self._largest[name] = max(self._largest.get(name, 0.0), _size(values))

    def overflows(self) -> dict[str, float]:
        """Nodes that touch a tensor beyond half of the range, each with the largest value."""
        sizes = {
            node: max((self._largest.get(name, 0.0) for name in names), default=0.0)
            for node, names in self._nodes.items()
        }
        return {node: size for node, size in sizes.items() if size > LARGEST / HEADROOM}


def _size(values: Array) -> float:
    """The largest absolute value of floats that stands for a number; 0 of anything else."""
    import numpy as np

    if values.dtype != np.float32 or not values.size:
        return 0.0
    sizes = np.abs(values)
    return float(sizes.max(initial=0.0, where=sizes < MASKING))


def halve_graph(source: Path, destination: Path, keep: Sequence[str]) -> None:
    """Write a graph in FP16, its inputs and outputs in FP32, by onnxruntime's converter.

    Args:
        source: float32 graph; nodes that hold graphs have names, and stay FP32 with them.
        destination: the new file.
        keep: names of nodes that stay FP32.

    Raises:
        ModelError: the converter does not take the graph; the reason is its own.
    """
    import onnx_ir as ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    held = load_graph(source)
    keep = [*keep, *holders(held)]
    # given a file, and not what is in it, it takes graphs of more than 2 GB, and writes beside it meanwhile
    with told_refusals("onnxruntime's converter to FP16"), quiet(), copy_of_its_own(source, destination.parent) as own:
        made = convert_float_to_float16(str(own), keep_io_types=True, node_block_list=list(keep))
    model = ir.serde.deserialize_model(made)
    _read_widened(model, held)
    join_casts(model)
    tidy(model)
    save_graph(model, destination)


def holders(model: ir.Model) -> list[str]:
    """Names of the nodes that hold graphs: branches and loops."""
    return [str(node.name) for node in model.graph if subgraphs(node)]


def _read_widened(model: ir.Model, source: ir.Model) -> None:
    """Let the graphs inside nodes read FP32, as they did, of the values around them."""
    import onnx_ir as ir

    kinds = infer_shapes(source, {}).known
    floats = {value.name for value, found in kinds.items() if found.kind == ir.DataType.FLOAT}
    graph = model.graph
    made = [output for node in graph for output in node.outputs]
    around = {value for value in (*graph.inputs, *graph.initializers.values(), *made) if value.name in floats}
    for holder in list(graph):
        casts: dict[ir.Value, ir.Value] = {}
        inside = [node for held in subgraphs(holder).values() for node in all_nodes(held)]
        reads = [(node, slot, value) for node in inside for slot, value in enumerate(node.inputs) if value in around]
        for node, slot, value in reads:
            if value not in casts:
                name = f"{value.name}_in_{holder.name}{CAST_ENDS[1]}"
                cast = insert_node(graph, holder, "Cast", [value], name, attributes={"to": int(ir.DataType.FLOAT)})
                cast.outputs[0].shape = value.shape
                casts[value] = cast.outputs[0]
            node.replace_input_with(slot, casts[value])


def join_casts(model: ir.Model) -> None:
    """Take out the converter's casts to FP32 of what is, or was, FP32.

    Between two nodes that stay FP32 it casts to FP16 and back, which would overflow; and it casts weights that stay as
    they are.
    """
    for node in list(model.graph):
        origin = _origin(node) if _inserted(node) and _to(node) == "FLOAT" else None
        if origin is None:
            continue
        if node.outputs[0].is_graph_output():
            node.replace_input_with(0, origin)
        else:
            node.outputs[0].replace_all_uses_with(origin)


def _origin(node: ir.Node) -> ir.Value | None:
    """The FP32 value behind what a cast reads; None where that was computed in FP16."""
    read = node.inputs[0]
    before = _inserted(read.producer()) if read is not None else None
    if before is not None:
        return before.inputs[0] if _to(before) == "FLOAT16" else None
    held = read.const_value if read is not None else None
    return read if held is not None and held.dtype.name == "FLOAT" else None


def _inserted(node: ir.Node | None) -> ir.Node | None:
    """The node, if it is a cast of the converter's."""
    if node is None or node.op_type != "Cast":
        return None
    name = str(node.name)
    return node if name.endswith(CAST_ENDS) or name.startswith(CAST_STARTS) else None


def _to(node: ir.Node) -> str:
    import onnx_ir as ir

    return ir.DataType(node.attributes["to"].as_int()).name
