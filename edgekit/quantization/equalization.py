"""Cross-layer equalization: two convolutions share the work of scaling a channel evenly.

What a channel of one convolution is divided by, the next can multiply by, with a ReLU between them: ``ReLU(s x) = s
ReLU(x)`` for ``s > 0``. With ``s = sqrt(r1 r2) / r2``, of the ranges of the channel's weights in the first and in the
second, both come to ``sqrt(r1 r2)``, so that no channel is lost in the steps of the widest one (Nagel et al. 2019,
Data-free quantization through weight equalization and bias correction, section 4.1). It needs no data. Pairs share
convolutions, so all are gone through until nothing moves.

Source of the range of weights: the largest absolute value, since their steps are the same to both sides of 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgekit.artifact import Artifact
from edgekit.formats.graph import constant, exchange_constant, only_user, stored
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.schemes import CONVOLUTION_KIND

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.tasks.base import Array

# What a positive factor of a channel passes through.
CARRYING = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool")
# Rounds over all pairs, and the largest change of a factor that still counts; what is left shrinks with each.
MOST_ROUNDS, STILL = 40, 1e-3


class Pair(NamedTuple):
    """Two convolutions, of which the second alone reads the first."""

    first: ir.Node
    second: ir.Node


class Equalized(NamedTuple):
    """An artifact with the same answers, up to rounding, and the pairs of its convolutions as component/node."""

    artifact: Artifact
    pairs: list[tuple[str, str]]


def equalize(artifact: Artifact, folder: Path) -> Equalized:
    """The same artifact with weights of its convolutions in like ranges, in a folder.

    Args:
        artifact: in float32; the nodes have names.
        folder: empty.
    """
    found = []
    for name in artifact.manifest.components:
        model = load_graph(artifact.file(name))
        pairs = find_pairs(model)
        equalize_pairs(model.graph, pairs)
        save_graph(model, folder / artifact.file(name).name)
        found += [(f"{name}/{pair.first.name}", f"{name}/{pair.second.name}") for pair in pairs]
    return Equalized(Artifact(folder, artifact.manifest), found)


def find_pairs(model: ir.Model) -> list[Pair]:
    """The pairs of a graph, in its order: between the two there is only what carries a factor of each channel."""
    found = []
    for node in model.graph:
        if not _is_own(node):
            continue
        follower = only_user(node.outputs[0], CONVOLUTION_KIND, *CARRYING)
        while follower is not None and follower.op_type in CARRYING:
            follower = only_user(follower.outputs[0], CONVOLUTION_KIND, *CARRYING)
        if follower is not None and _is_own(follower):
            found.append(Pair(node, follower))
    return found


def equalize_pairs(graph: ir.Graph, pairs: list[Pair]) -> None:
    """Scale the weights and biases of pairs, in place."""
    import numpy as np

    nodes = {node for pair in pairs for node in pair}
    weights = {node: _held(node, 1).astype(np.float64) for node in nodes}
    biases = {node: _held(node, 2).astype(np.float64) for node in nodes if _has_bias(node)}
    for _ in range(MOST_ROUNDS):
        moved = 0.0
        for first, second in pairs:
            by = factors(weights[first], weights[second], _groups(second))
            weights[first] /= by.reshape(-1, *[1] * (weights[first].ndim - 1))
            if first in biases:
                biases[first] /= by
            weights[second] *= _spread(by, weights[second], _groups(second))
            moved = max(moved, float(np.abs(np.log(by)).max()))
        if moved < STILL:
            break
    for node in [node for node in graph if node in nodes]:
        for place, arrays in ((1, weights), (2, biases)):
            if node in arrays:
                array = arrays[node].astype(np.float32)
                exchange_constant(graph, node, place, array, f"{node.name}_equalized_{place}")


def factors(first: Array, second: Array, groups: int) -> Array:
    """By what each channel between two convolutions is divided, [channels]; 1 where one of the two has only zeros.

    Args:
        first: weights [channels, ...].
        second: weights [out, channels / groups, ...].
        groups: of the second.
    """
    import numpy as np

    before = np.abs(first).reshape(len(first), -1).max(axis=1)
    apart = np.abs(second).reshape(groups, len(second) // groups, second.shape[1], -1)
    after = apart.max(axis=(1, 3)).reshape(-1)
    used = (before > 0) & (after > 0)
    return np.where(used, np.sqrt(before / np.where(used, after, 1)), 1.0)


def _spread(by: Array, weights: Array, groups: int) -> Array:
    """Factors of input channels, in the shape of the weights [out, channels / groups, 1, ...] that read them."""
    rows = by.reshape(groups, -1).repeat(len(weights) // groups, axis=0)
    found: Array = rows.reshape(*rows.shape, *[1] * (weights.ndim - 2))
    return found


def _is_own(node: ir.Node) -> bool:
    """Whether a node is a convolution with constant float32 weights, and a constant bias if any, of its own."""
    if node.op_type != CONVOLUTION_KIND or node.domain:
        return False
    parts = [node.inputs[1], *([node.inputs[2]] if _has_bias(node) else [])]
    tensors = [stored(part) for part in parts]
    return all(tensor is not None and tensor.dtype.numpy().name == "float32" for tensor in tensors)


def _has_bias(node: ir.Node) -> bool:
    return len(node.inputs) > 2 and node.inputs[2] is not None


def _held(node: ir.Node, place: int) -> Array:
    found = constant(node.inputs[place])
    assert found is not None  # it was looked for
    return found


def _groups(node: ir.Node) -> int:
    return int(node.attributes["group"].as_int()) if "group" in node.attributes else 1
