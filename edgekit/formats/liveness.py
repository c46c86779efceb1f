"""How much memory activations take: the largest set of values that live at once, in the order of the file.

A value lives from the node that makes it to the last one that reads it; inputs and outputs of the graph live
throughout. What only looks at a tensor differently (``Reshape`` and the like) shares its memory. A weight that is
computed of constants (scaled, turned) is packed once and no activation; a table that is scaled before the look-up is
one. Buffers that a kernel uses inside, and memory that a runtime saves by working in place, are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekit.formats.known import Shapes, subgraphs
from edgekit.formats.layers import TABLE_KINDS, WEIGHTED_KINDS

if TYPE_CHECKING:
    import onnx_ir as ir

RULE = "weights and the largest set of activations that live at once, in the order of the file"
VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"])


@dataclass
class Peak:
    """The largest set of live activations.

    Attributes:
        nbytes: their bytes.
        node: name of the node at which they live.
        kind: its kind.
        unknown: how many values have no known size, and were left out.
    """

    nbytes: int = 0
    node: str = ""
    kind: str = ""
    unknown: int = 0


@dataclass
class _Lives:
    """When each value of one graph is made and read last; views count as what they look at."""

    first: dict[ir.Value, int] = field(default_factory=dict)
    last: dict[ir.Value, int] = field(default_factory=dict)
    viewed: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def root(self, value: ir.Value) -> ir.Value:
        while value in self.viewed:
            value = self.viewed[value]
        return value


def find_peak(graph: ir.Graph, shapes: Shapes, fixed: set[ir.Value]) -> Peak:
    """The peak of one run of a graph; a graph inside it adds its own peak to what lives around it.

    Args:
        graph: the graph.
        shapes: what is known of its values.
        fixed: values that do not depend on the inputs.
    """
    lives = _live(graph)
    for value in [value for value in lives.first if value in fixed and _packed(value)]:
        del lives.first[value]
    births: dict[int, list[ir.Value]] = {}
    deaths: dict[int, list[ir.Value]] = {}
    for value, index in lives.first.items():
        births.setdefault(index, []).append(value)
        deaths.setdefault(lives.last[value], []).append(value)
    peak, alive = Peak(), 0
    for index, node in enumerate([None, *graph]):
        for value in births.get(index, ()):
            size = shapes.of(value).nbytes
            alive += size or 0
            peak.unknown += size is None
        inside = [find_peak(part, shapes, fixed) for part in _run(node, shapes)] if node is not None else []
        here = alive + max((part.nbytes for part in inside), default=0)
        peak.unknown += sum(part.unknown for part in inside)
        if here > peak.nbytes and node is not None:
            deepest = max(inside, key=lambda part: part.nbytes, default=Peak())
            peak.nbytes = here
            peak.kind = deepest.kind or node.op_type
            peak.node = deepest.node if deepest.kind else node.name or ""
        alive -= sum(shapes.of(value).nbytes or 0 for value in deaths.get(index, ()))
    return peak


def _packed(value: ir.Value) -> bool:
    """Whether nothing but products and the like read a value: as their weight, which they pack beforehand."""
    readers = [use.node for use in value.uses()]
    return all(reader.op_type in WEIGHTED_KINDS and reader.op_type not in TABLE_KINDS for reader in readers)


def _run(node: ir.Node, shapes: Shapes) -> list[ir.Graph]:
    """The graphs inside a node that may run."""
    graphs, taken = subgraphs(node), shapes.branches.get(node)
    return [graph for name, graph in graphs.items() if taken in (None, name)]


def _live(graph: ir.Graph) -> _Lives:
    import onnx_ir as ir

    lives, nodes = _Lives(), list(graph)
    end = len(nodes) + 1
    held = [value for value in graph.inputs if value not in graph.initializers.values()]
    for value in held:
        lives.first[value], lives.last[value] = 0, end
    for index, node in enumerate(nodes, 1):
        for value in _read(node):
            root = lives.root(value)
            if root in lives.first:  # else a constant, or a value of the graph around this one
                lives.last[root] = max(lives.last[root], index)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            continue
        source = node.inputs[0] if node.inputs else None
        if node.op_type in VIEWS and source is not None and ir.convenience.get_const_tensor(source) is None:
            lives.viewed[node.outputs[0]] = source
            continue
        for output in node.outputs:
            if output.name:
                lives.first[output] = lives.last[output] = index
    for value in graph.outputs:
        root = lives.root(value)
        if root in lives.first:
            lives.last[root] = end
    return lives


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, and what the graphs inside it read from around them."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node).values():
        for inner in graph:
            yield from _read(inner)
        yield from graph.outputs
