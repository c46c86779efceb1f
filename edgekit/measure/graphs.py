"""What graphs are made of: their operators, and their weights by type."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgekit.artifact import Artifact
from edgekit.formats.onnx import count_operators, load_graph
from edgekit.report import Graph

if TYPE_CHECKING:
    import onnx_ir as ir


def describe_graphs(artifact: Artifact) -> tuple[Graph, ...]:
    """Each component of an ONNX artifact."""
    found = []
    for component in artifact.manifest.components:
        graph = load_graph(artifact.file(component))
        found.append(Graph(component=component, operators=count_operators(graph), weight_bytes=count_weights(graph)))
    return tuple(found)


def count_weights(model: ir.Model) -> dict[str, int]:
    """Bytes of weights by type, as numpy names it; the most first."""
    counts: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            counts[value.const_value.dtype.numpy().name] += value.const_value.nbytes
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
