"""An artifact judged with the arithmetic of its target: run here as a processor without VNNI would run it.

onnxruntime fuses the graph as it does on any x86-64 processor, the kernels that can saturate are rewritten (see
``arithmetic.py``), and the rest runs as ever. So accuracy on such a target is known on every machine, and which layers
saturate, and how often. The other way round, a machine that is itself such a processor computes those products in
wider numbers where the target is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgekit.artifact import Artifact
from edgekit.cache import temporary
from edgekit.environment import host
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.progress import Progress
from edgekit.quantization.arithmetic import Saturating, saturate, widen
from edgekit.quantization.dynamic import PRODUCT
from edgekit.report import Saturation
from edgekit.runtimes import open_runner
from edgekit.runtimes.ort import OnnxRunner, fuse
from edgekit.settings import Record
from edgekit.target import Target
from edgekit.tasks.base import Array, Batch, Runner, Task

if TYPE_CHECKING:
    import onnx_ir as ir

# Whose sums: this machine's as they are, saturating ones, or ones that saturate nowhere.
Arithmetic = Literal["here", "saturating", "exact"]


class Saturated(Record):
    """What saturated in a run.

    Attributes:
        layers: those that did, the most often first.
        unknown: nodes, as component/node, that may have and were computed as this machine computes them.
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

        def change(component: str, model: ir.Model) -> None:
            found = saturate(model)
            names = [str(value.name) for value in model.graph.outputs]
            counted = tuple(names[len(names) - len(found.layers) :])
            parts[component] = _Part(tuple(_layer(component, one) for one in found.layers), counted)
            unknown.extend(_unknown(component, found))

        self._runner = _open_changed(artifact, threads, change)
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


class ExactRunner:
    """Runs an ONNX artifact so that its sums saturate nowhere, not even on a processor whose sums do.

    Args:
        artifact: an artifact of format ``onnx``.
        threads: within one operator.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        unknown: list[str] = []
        self._runner = _open_changed(
            artifact, threads, lambda component, model: unknown.extend(_unknown(component, widen(model)))
        )
        self.saturated = Saturated(unknown=tuple(unknown))

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays."""
        return self._runner.run(component, feeds)


def count_saturated(
    runner: SaturatingRunner, task: Task, batches: Sequence[Batch], progress: Progress
) -> tuple[Saturation, ...]:
    """The layers that saturate in some batches, the most often first."""
    for batch in batches:
        task.forward(runner, batch)
        progress.advance()
    return runner.saturated.layers


def arithmetic_on(target: Target, format_: str, *, original: bool = False) -> Arithmetic:
    """Whose sums an artifact of a format is judged with.

    An original, which others are compared with, may be a file that is quantized already: its sums are exact.
    """
    if format_ != "onnx":
        return "here"
    if target.int8.saturates and not original:
        return "saturating"
    return "exact" if host().saturates else "here"


def open_with(arithmetic: Arithmetic, artifact: Artifact, threads: int = 1, runtime: str | None = None) -> Runner:
    """A runner that sums so; ``runtime`` as in ``open_runner``."""
    if arithmetic == "here":
        return open_runner(artifact, threads, runtime)
    return (SaturatingRunner if arithmetic == "saturating" else ExactRunner)(artifact, threads)


def open_as_on(artifact: Artifact, target: Target, threads: int = 1, runtime: str | None = None) -> Runner:
    """A runner that answers as the target's processor does, whatever this one is; ``runtime`` as in ``open_runner``."""
    return open_with(arithmetic_on(target, artifact.format), artifact, threads, runtime)


def _open_changed(artifact: Artifact, threads: int, change: Callable[[str, ir.Model], None]) -> OnnxRunner:
    """A runner of the kernels of an artifact's components after a change of their graphs, each by its name."""
    with temporary() as folder:
        for component, described in artifact.manifest.components.items():
            file = folder / described.files[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            fuse(artifact.file(component), file)
            model = load_graph(file)
            change(component, model)
            save_graph(model, file)
        return OnnxRunner(replace(artifact, path=folder), threads, optimized=False)


def _unknown(component: str, found: Saturating) -> list[str]:
    return [_layer(component, one) for one in found.unknown]


def _layer(component: str, node: str) -> str:
    """A node without the endings that onnxruntime's quantizer puts behind a product, and behind one out of a Gemm."""
    quantized = node.endswith("_quant")
    return f"{component}/{node.removesuffix('_quant').removesuffix(PRODUCT) if quantized else node}"
