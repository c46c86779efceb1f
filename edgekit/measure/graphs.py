"""What graphs are made of: their operators, and their weights by type."""

from __future__ import annotations

from edgekit.artifact import Artifact
from edgekit.formats.graphs import count_operators, weight_bytes
from edgekit.report import Graph


def describe_graphs(artifact: Artifact) -> tuple[Graph, ...]:
    """Each component of an exported artifact."""
    files = {component: artifact.file(component) for component in artifact.manifest.components}
    return tuple(
        Graph(component=component, operators=count_operators(file), weight_bytes=weight_bytes(file))
        for component, file in files.items()
    )
