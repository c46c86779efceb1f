"""What each kernel of a profile computes in, and which nodes of the file it stands for.

onnxruntime notes the types that a kernel reads and writes, but none of a constant that it packed when it loaded the
graph. And its kernels are those of the graph as it laid it out for this processor: several nodes of the file may have
become one, and some were put in between. So onnxruntime writes that graph down, and its nodes, which run in the order
in which they are written, are held against the notes and against the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.cache import temporary
from edgekit.formats.onnx import INLINE_LIMIT_BYTES, load_graph
from edgekit.profiles import KernelTime, Made
from edgekit.runtimes.measuring import Subject, TracedNode
from edgekit.runtimes.ort import fuse

if TYPE_CHECKING:
    import onnx_ir as ir

# Types as onnxruntime notes them, narrowest first, and what they are called here.
PRECISIONS = {
    "int2": "int2",
    "uint2": "int2",
    "int4": "int4",
    "uint4": "int4",
    "int8": "int8",
    "uint8": "int8",
    "float8e4m3fn": "fp8",
    "float8e5m2": "fp8",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int16": "int16",
    "uint16": "int16",
    "float": "fp32",
    "int32": "int32",
    "uint32": "int32",
    "double": "fp64",
    "int64": "int64",
    "uint64": "int64",
    "bool": "bool",
}
# Kinds that onnxruntime puts between others to change a layout or a memory (core/optimizer/nchwc_transformer.cc,
# transformer_memcpy.cc).
BETWEEN = frozenset({"ReorderInput", "ReorderOutput", "MemcpyToHost", "MemcpyFromHost"})
# What nchwc_transformer.cc puts behind the name of a value to name the node that gives it, with what makes it unique;
# and which input of its Conv is added to what it computes.
BLOCKED = re.compile(r"_nchwc(_token_\d+)?$")
SUMMAND = 3


@dataclass(frozen=True)
class Origin:
    """One node of the graph as it runs.

    Attributes:
        name, operator: its own.
        types: of its constants, and of what its attributes say of them.
        made: how it came to be; empty where that cannot be told.
        replaces: kinds of the nodes of the file that it stands for, in their order; empty where there is one, or where
            they cannot be told.
    """

    name: str
    operator: str
    types: frozenset[str] = frozenset()
    made: Made = ""
    replaces: tuple[str, ...] = ()


def describe_kernels(subject: Subject, nodes: Sequence[TracedNode]) -> tuple[KernelTime, ...]:
    """The kernels of a profile, in the order in which they end.

    Args:
        subject: the graph that was profiled.
        nodes: what was noted of it.
    """
    total = sum(node.ms for node in nodes)
    found = match(nodes, find_origins(subject))
    return tuple(
        KernelTime(
            name=node.name,
            operator=node.operator,
            provider=node.provider,
            precision=precision_of(
                {*(kind for kind, _ in (*node.reads, *node.writes)), *(origin.types if origin else ())}
            ),
            shape=tuple(node.writes[0][1]) if node.writes else None,
            made=origin.made if origin else "",
            replaces=origin.replaces if origin else (),
            ms=node.ms,
            share=node.ms / total if total else 0.0,
        )
        for node, origin in zip(nodes, found, strict=True)
    )


def precision_of(types: Iterable[str]) -> str:
    """The narrowest of the types that a kernel reads and writes: a product of INT8 is INT8 though it ends in FP32."""
    given = set(types)
    return next((name for kind, name in PRECISIONS.items() if kind in given), "")


def match(nodes: Sequence[TracedNode], origins: Sequence[Origin]) -> list[Origin | None]:
    """The origin of each kernel that was noted.

    By their order where both list the same kinds, which a branch or a loop prevents; else by name and kind. Where the
    file gives a node no name, onnxruntime notes a number of its own, so that the order is the better guide.
    """
    if [node.operator for node in nodes] == [origin.operator for origin in origins]:
        return list(origins)
    named = {(origin.name, origin.operator): origin for origin in origins if origin.name}
    return [named.get((node.name, node.operator)) for node in nodes]


def find_origins(subject: Subject) -> list[Origin]:
    """Every node of a graph as onnxruntime runs it here; none where that cannot be written in one file.

    Raises:
        ModelError: onnxruntime refuses the graph.
    """
    from onnx_ir.passes.common import InlinePass

    if sum(file.stat().st_size for file in (subject.graph, *subject.beside)) > INLINE_LIMIT_BYTES:
        return []
    with temporary() as folder:
        written = folder / "run.onnx"
        fuse(subject.graph, written, laid_out=True)
        source, run = load_graph(subject.graph), load_graph(written)
    for model in (source, run):
        if model.functions:
            InlinePass()(model)
    return list(_origins(source.graph, run.graph))


def _origins(source: ir.Graph, run: ir.Graph) -> Iterator[Origin]:
    makers = {str(output.name): node for node in source for output in node.outputs if output.name}
    known = {*makers, *(str(value.name) for value in source.inputs)}
    kinds = {node.op_type for node in source}
    constants = {*run.initializers, *source.initializers}
    names = {output: name for node in run for output, name in _named_in_file(node, makers)}
    for node in run:
        read = [value for value in node.inputs if value is not None and value.name]
        inputs = {_first_name(value, names) for value in read if value.name not in constants}
        outputs = [name for name in (names.get(output, str(output.name)) for output in node.outputs) if name in makers]
        made: Made
        replaces: tuple[str, ...] = ()
        if node.op_type in BETWEEN or not outputs:
            made = "added"
        elif inputs <= known:
            replaces = replaced(
                makers, outputs, inputs | {str(value.name) for value in read} | set(source.initializers)
            )
            made = "file" if replaces == (node.op_type,) else "fused"
        else:
            made = "" if node.op_type in kinds else "fused"
        yield Origin(
            name=node.name or "",
            operator=node.op_type,
            types=frozenset(_constant_types(node, run)),
            made=made,
            replaces=replaces if made == "fused" else (),
        )


def _named_in_file(node: ir.Node, makers: Mapping[str, ir.Node]) -> Iterator[tuple[ir.Value, str]]:
    """Outputs in a layout of the runtime's own, with the value of the file that each stands for.

    Such a node is named after the first value that it gave; a sum and an activation that follow it in the file may have
    become a part of it since.
    """
    value, found = BLOCKED.subn("", node.name or "")
    if not found or value not in makers or len(node.outputs) != 1:
        return
    if len(node.inputs) > SUMMAND and node.inputs[SUMMAND] is not None:
        value = _behind(makers[value], "Add") or value
    activation = node.attributes.get("activation")
    if activation is not None and makers[value].op_type != activation.as_string():
        value = _behind(makers[value], activation.as_string()) or value
    yield node.outputs[0], value


def _behind(node: ir.Node, kind: str) -> str | None:
    """The value that the next node of a kind gives; None where the node has no such consumer."""
    return next((str(use.node.outputs[0].name) for use in node.outputs[0].uses() if use.node.op_type == kind), None)


def _first_name(value: ir.Value, names: Mapping[ir.Value, str]) -> str:
    """A value's name in the file, through what only changes its layout."""
    node = value.producer()
    while node is not None and node.op_type in BETWEEN and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return names.get(value, str(value.name))


def replaced(makers: Mapping[str, ir.Node], outputs: Iterable[str], inputs: set[str]) -> tuple[str, ...]:
    """Kinds of the nodes between values of the file, in their order; nodes that only hold a constant are left out.

    Args:
        makers: the node of the file that gives each value.
        outputs: where to begin, walking against the edges.
        inputs: where to stop.
    """
    found: dict[int, str] = {}
    waiting, seen = list(outputs), set(inputs)
    order = {id(node): index for index, node in enumerate(dict.fromkeys(makers.values()))}
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if node.op_type != "Constant":
            found[order[id(node)]] = node.op_type
        waiting += [str(value.name) for value in node.inputs if value is not None and value.name]
    return tuple(found[index] for index in sorted(found))


def _constant_types(node: ir.Node, graph: ir.Graph) -> Iterator[str]:
    """Types of the constants that a node reads; of weights packed in bytes, what its attribute says."""
    packed = node.attributes.get("bits")
    if packed is not None and node.op_type.endswith("NBits"):
        yield f"int{packed.as_int()}"
    for value in node.inputs:
        constant = graph.initializers.get(str(value.name)) if value is not None else None
        if constant is not None and constant.dtype is not None:
            yield constant.dtype.name.lower()
