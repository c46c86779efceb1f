"""An artifact judged with the arithmetic of its target: run here as a processor without VNNI would run it.

onnxruntime fuses the graph as it does on any x86-64 processor, the kernels that can saturate are rewritten (see
``arithmetic.py``), and the rest runs as ever. So accuracy on such a target is known on every machine, and which layers
saturate, and how often.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.artifact import Artifact
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.arithmetic import saturate
from edgekit.runtimes import open_runner
from edgekit.runtimes.ort import OnnxRunner, fuse
from edgekit.settings import Record
from edgekit.target import Target
from edgekit.tasks.base import Array, Runner


class Saturation(Record):
    """How often the sums of one layer saturated.

    Attributes:
        layer: component and node, as ``model/node_MatMul_25``.
        saturated: sums in which at least one pair of products did.
        sums: all of them.
    """

    layer: str
    saturated: int = 0
    sums: int = 0

    @property
    def share(self) -> float:
        return self.saturated / self.sums if self.sums else 0.0


@dataclass(frozen=True)
class _Part:
    """Of one component, the layers that are counted, in the order of the graph's last outputs."""

    layers: tuple[str, ...]
    outputs: tuple[str, ...]


class SaturatingRunner:
    """Runs an ONNX artifact as a processor does that adds products in a saturating int16.

    Args:
        artifact: an artifact of format ``onnx``.
        threads: within one operator.

    Attributes:
        unknown: nodes, as component/node, that may saturate and are computed exactly for want of a model of them.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        parts: dict[str, _Part] = {}
        unknown: list[str] = []
        with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
            for component, described in artifact.manifest.components.items():
                file = Path(name) / described.files[0]
                file.parent.mkdir(parents=True, exist_ok=True)
                fuse(artifact.file(component), file)
                model = load_graph(file)
                found = saturate(model)
                save_graph(model, file)
                names = [str(value.name) for value in model.graph.outputs]
                counted = tuple(names[len(names) - len(found.layers) :])
                parts[component] = _Part(tuple(f"{component}/{layer_name(one)}" for one in found.layers), counted)
                unknown += [f"{component}/{layer_name(one)}" for one in found.unknown]
            self._runner = OnnxRunner(replace(artifact, path=Path(name)), threads, optimized=False)
        self._parts = parts
        self._seen = {layer: Saturation(layer=layer) for part in parts.values() for layer in part.layers}
        self.unknown = tuple(unknown)

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays, and count."""
        given = self._runner.run(component, feeds)
        part = self._parts[component]
        for layer, output in zip(part.layers, part.outputs, strict=True):
            saturated, sums = (int(number) for number in given.pop(output))
            before = self._seen[layer]
            self._seen[layer] = Saturation(
                layer=layer, saturated=before.saturated + saturated, sums=before.sums + sums
            )
        return given

    @property
    def saturations(self) -> tuple[Saturation, ...]:
        """The layers that saturated in what was run, the most often first."""
        return tuple(sorted((one for one in self._seen.values() if one.saturated), key=lambda one: -one.share))


def open_as_on(artifact: Artifact, target: Target, threads: int = 1) -> Runner:
    """A runner that answers as the target's processor does, whatever this one is."""
    if target.int8.saturates and artifact.format == "onnx":
        return SaturatingRunner(artifact, threads)
    return open_runner(artifact, threads)


def layer_name(node: str) -> str:
    """The name of a node before onnxruntime's quantizer put its ending behind it."""
    return node.removesuffix("_quant").removesuffix("_MatMul") if node.endswith("_quant") else node
