"""SmoothQuant: what makes activations hard to quantize is moved into the weights, before anything is quantized.

In transformers a few channels of what a LayerNorm gives are far larger than all others, and 8 bits that reach them
leave little for the rest. Each channel is divided by a factor, and the rows of the weights that read it are multiplied
by it: ``x W = (x / s) (s W)``, with ``s = max|x| ** alpha / max|W| ** (1 - alpha)`` (Xiao et al. 2022, SmoothQuant:
Accurate and efficient post-training quantization for large language models, eq. 4). The division costs nothing where it
goes into the scale and the bias of the LayerNorm. What else reads the norm, the residual of a post-norm encoder, is
given the old values by a multiplication. A product that no norm precedes is left as it is, and named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgekit.artifact import Artifact
from edgekit.formats.graph import add_initializer, constant, exchange_constant, insert_node
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.schemes import LINEAR_KINDS, WeightedNode
from edgekit.runtimes.ort import open_session
from edgekit.tasks.base import Batch

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

# Places of scale and bias among the inputs of operators that normalize the last dimension.
NORMS = {"LayerNormalization": (1, 2), "SkipLayerNormalization": (2, 3)}
NO_NORM = "no LayerNorm with a scale of its own precedes them"


class Smoothed(NamedTuple):
    """What was done to an artifact.

    Attributes:
        artifact: with the same answers, up to rounding.
        layers: whose inputs were smoothed, as component/node.
        left: those that were not.
    """

    artifact: Artifact
    layers: list[str]
    left: list[str]


class Site(NamedTuple):
    """A norm and the products that read it."""

    norm: ir.Node
    products: list[ir.Node]

    @property
    def value(self) -> ir.Value:
        """What they read, [..., channels]."""
        return self.norm.outputs[0]


def smooth(
    artifact: Artifact,
    nodes: Mapping[str, Sequence[WeightedNode]],
    alpha: float,
    fed: Iterable[Mapping[str, Sequence[Batch]]],
    *,
    folder: Path,
    threads: int,
) -> Smoothed:
    """The same artifact with smoother activations, in a folder.

    Args:
        artifact: in float32; the nodes have names.
        nodes: of each component, what is to be quantized.
        alpha: how much of the difficulty goes into the weights, from 0 to 1.
        fed: what each component is fed, some inferences at a time.
        folder: empty.
        threads: of the inference.
    """
    graphs = {name: load_graph(artifact.file(name)) for name in nodes}
    chosen = {name: [node.name for node in part if node.kind in LINEAR_KINDS] for name, part in nodes.items()}
    sites = {name: find_sites(graph, chosen[name]) for name, graph in graphs.items()}
    largest = _largest(artifact, sites, fed, folder, threads)
    for name, graph in graphs.items():
        for site in sites[name]:
            _fold(graph.graph, site, factors(largest[name][str(site.value.name)], site.products, alpha))
        save_graph(graph, folder / artifact.file(name).name)
    reached = {f"{name}/{node.name}" for name, part in sites.items() for site in part for node in site.products}
    every = [f"{name}/{node}" for name, part in chosen.items() for node in part]
    return Smoothed(
        Artifact(folder, artifact.manifest),
        [name for name in every if name in reached],
        [name for name in every if name not in reached],
    )


def find_sites(model: ir.Model, chosen: Collection[str]) -> list[Site]:
    """The norms of a graph, each with the chosen products that read it; one without is left out."""
    found = []
    for norm in model.graph:
        scale = _constant_at(norm, 0)
        value = norm.outputs[0]
        if scale is None or scale.ndim != 1 or value.is_graph_output():
            continue
        if any(use.node.graph is not model.graph for use in value.uses()):  # in a branch
            continue
        products = [use.node for use in value.uses() if use.idx == 0 and use.node.name in chosen]
        products = [node for node in products if _is_plain(node)]
        if products:
            found.append(Site(norm, products))
    return found


def factors(largest: Array, products: Sequence[ir.Node], alpha: float) -> Array:
    """By what each channel is divided, float32 [channels]; 1 where it, or what reads it, is 0.

    Args:
        largest: absolute value of each channel.
        products: that read them.
        alpha: how much of the difficulty goes into the weights.
    """
    import numpy as np

    weights = np.max([np.abs(_rows(node)).max(axis=1) for node in products], axis=0)
    used = (largest > 0) & (weights > 0)
    found = np.ones_like(largest, dtype=np.float64)
    found[used] = largest[used].astype(np.float64) ** alpha / weights[used].astype(np.float64) ** (1 - alpha)
    return found.astype(np.float32)


def _largest(
    artifact: Artifact,
    sites: Mapping[str, Sequence[Site]],
    fed: Iterable[Mapping[str, Sequence[Batch]]],
    folder: Path,
    threads: int,
) -> dict[str, dict[str, Array]]:
    """The largest absolute value of each channel of what the norms of each component give, by the value's name."""
    import numpy as np

    sessions, found = {}, {}
    for name, part in sites.items():
        if not part:
            continue
        observed = load_graph(artifact.file(name))
        wanted = {str(site.value.name) for site in part}
        values = [value for node in observed.graph for value in node.outputs if value.name in wanted]
        observed.graph.outputs.clear()
        observed.graph.outputs.extend(values)
        save_graph(observed, folder / f"observed-{name}.onnx")
        sessions[name] = open_session(folder / f"observed-{name}.onnx", threads, optimized=False)
        found[name] = {str(site.value.name): np.zeros(len(_scale_of(site)), np.float32) for site in part}
    for some in fed:
        for name, session in sessions.items():
            mine = found[name]
            for batch in some.get(name, ()):
                for key, value in zip(mine, session.run(list(mine), batch), strict=True):
                    np.maximum(mine[key], np.abs(value).reshape(-1, value.shape[-1]).max(axis=0), out=mine[key])
    for name in sessions:
        (folder / f"observed-{name}.onnx").unlink()
    return found


def _fold(graph: ir.Graph, site: Site, by: Array) -> None:
    """Divide what a norm gives, multiply the weights that read it, and give everyone else the old values."""
    norm, value = site.norm, site.value
    for place in NORMS[norm.op_type]:
        held = constant(norm.inputs[place]) if place < len(norm.inputs) else None
        if held is not None:
            exchange_constant(graph, norm, place, held / by, f"{value.name}_smoothed_{place}")
    for node in site.products:
        exchange_constant(graph, node, 1, _scaled(node, by), f"{node.name}_smoothed")
    others = [use for use in value.uses() if use.node not in site.products]
    if others:
        readers = {use.node for use in others}
        first = next(node for node in graph if node in readers)
        times = add_initializer(graph, f"{value.name}_factors", by)
        old = insert_node(graph, first, "Mul", [value, times], f"{value.name}_restored").outputs[0]
        old.shape = value.shape
        for use in others:
            use.node.replace_input_with(use.idx, old)


def _is_plain(node: ir.Node) -> bool:
    """Whether a product's first input is not transposed, so that its last dimension is summed over."""
    return "transA" not in node.attributes or not node.attributes["transA"].as_int()


def _turned(node: ir.Node) -> bool:
    return "transB" in node.attributes and bool(node.attributes["transB"].as_int())


def _rows(node: ir.Node) -> Array:
    """Weights of a product as [in, out]."""
    held = constant(node.inputs[1])
    assert held is not None
    return held.T if _turned(node) else held


def _scaled(node: ir.Node, by: Array) -> Array:
    """Weights of a product, each of its inputs by a factor."""
    rows = _rows(node) * by[:, None]
    return rows.T if _turned(node) else rows


def _constant_at(norm: ir.Node, index: int) -> Array | None:
    """Scale (0) or bias (1) of a norm; None where it is no constant, or the node is no norm."""
    if norm.op_type not in NORMS or NORMS[norm.op_type][index] >= len(norm.inputs):
        return None
    return constant(norm.inputs[NORMS[norm.op_type][index]])


def _scale_of(site: Site) -> Array:
    found = _constant_at(site.norm, 0)
    assert found is not None  # it is a site for its scale
    return found
