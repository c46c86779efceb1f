"""An artifact judged with the arithmetic of its target: run here as a processor without VNNI would run it.

onnxruntime fuses the graph as it does on any x86-64 processor, the kernels that can saturate are rewritten (see
``arithmetic.py``), and the rest runs as ever. So accuracy on such a target is known on every machine, and which layers
saturate, and how often.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.artifact import Artifact
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.progress import Progress
from edgekit.quantization.arithmetic import saturate
from edgekit.report import Saturation
from edgekit.runtimes import open_runner
from edgekit.runtimes.ort import OnnxRunner, fuse
from edgekit.settings import Record
from edgekit.target import Target
from edgekit.tasks.base import Array, Batch, Runner, Task


class Saturated(Record):
    """What saturated in a run.

    Attributes:
        layers: those that did, the most often first.
        unknown: nodes, as component/node, that may have and were computed exactly, for want of a model of them.
    """

    layers: tuple[Saturation, ...] = ()
    unknown: tuple[str, ...] = ()


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
                parts[component] = _Part(tuple(_layer(component, one) for one in found.layers), counted)
                unknown += [_layer(component, one) for one in found.unknown]
            self._runner = OnnxRunner(replace(artifact, path=Path(name)), threads, optimized=False)
        self._parts = parts
        self._seen = {layer: Saturation(layer=layer) for part in parts.values() for layer in part.layers}
        self._unknown = tuple(unknown)

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays, and count."""
        given = self._runner.run(component, feeds)
        part = self._parts[component]
        for layer, output in zip(part.layers, part.outputs, strict=True):
            saturated, sums = (int(number) for number in given.pop(output))
            before = self._seen[layer]
            self._seen[layer] = Saturation(layer=layer, saturated=before.saturated + saturated, sums=before.sums + sums)
        return given

    @property
    def saturated(self) -> Saturated:
        """What saturated in all that was run."""
        layers = sorted((one for one in self._seen.values() if one.saturated), key=lambda one: -one.share)
        return Saturated(layers=tuple(layers), unknown=self._unknown)


def count_saturated(
    runner: SaturatingRunner, task: Task, batches: Sequence[Batch], progress: Progress
) -> tuple[Saturation, ...]:
    """The layers that saturate in some batches, the most often first."""
    for batch in batches:
        task.forward(runner, batch)
        progress.advance()
    return runner.saturated.layers


def open_as_on(artifact: Artifact, target: Target, threads: int = 1, runtime: str | None = None) -> Runner:
    """A runner that answers as the target's processor does, whatever this one is; ``runtime`` as in ``open_runner``."""
    if target.int8.saturates and artifact.format == "onnx":
        return SaturatingRunner(artifact, threads)
    return open_runner(artifact, threads, runtime)


def _layer(component: str, node: str) -> str:
    """A node without the endings that onnxruntime's quantizer puts behind a product, and behind one out of a Gemm."""
    quantized = node.endswith("_quant")
    return f"{component}/{node.removesuffix('_quant').removesuffix('_MatMul') if quantized else node}"
