"""Making an artifact with some of its layers quantized, and how much it loses on the selection split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from pydantic import JsonValue

from edgekit.artifact import Artifact, Manifest
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.graphs import describe_like
from edgekit.formats.tflite import float_layers
from edgekit.measure.quality import Outputs
from edgekit.quantization.litert import LiteRTScheme, left_in_float
from edgekit.quantization.schemes import Scheme, WeightedNode
from edgekit.tasks.base import Examples, Task

# The note that names the layers which stay float in any case, and why they do.
SPARED, MOST_MOVED = "spared", "INT8 moves them most, and quantize.float_share spares those"
AnyScheme = TypeVar("AnyScheme", Scheme, LiteRTScheme)
# Writes a component's graph to a file with some of its nodes quantized, by a scheme.
Write = Callable[[Scheme | LiteRTScheme, str, Path, Sequence[str]], None]


@dataclass(frozen=True)
class Maker:
    """Makes the artifact with some of its layers quantized.

    Attributes:
        artifact: in float; what the result is compared with.
        scheme: how.
        nodes: of each component, those that can be quantized.
        write: makes the file.
        scratch: makes an empty folder.
        answer: an artifact's answers to samples, as the target would give them.
        notes: what the report says beside the rest.
    """

    artifact: Artifact
    scheme: Scheme | LiteRTScheme
    nodes: dict[str, list[WeightedNode]]
    write: Write
    scratch: Callable[[], Path]
    answer: Callable[[Artifact, Examples], Outputs]
    notes: dict[str, JsonValue] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every layer that can be quantized, as component/node."""
        return [f"{component}/{node.name}" for component, nodes in self.nodes.items() for node in nodes]

    def make(self, fallbacks: Sequence[str]) -> Artifact:
        """Quantize everything but the fall-backs, into a new folder."""
        folder, components = self.scratch(), {}
        for component, nodes in self.nodes.items():
            file = folder / self.artifact.file(component).name
            chosen = [node.name for node in nodes if f"{component}/{node.name}" not in fallbacks]
            self.write(self.scheme, component, file, chosen)
            described = describe_like(file, self.artifact.manifest.components[component])
            components[component] = described.model_dump() | {"integers": integers_of(self.scheme)}
        changed = self.artifact.manifest.model_dump(by_alias=True) | {"components": components}
        return Artifact(folder, Manifest.model_validate(changed))

    def census(self, made: Artifact, fallbacks: Sequence[str]) -> tuple[int, dict[str, str]]:
        """How many layers there are, and those in float that did not fall back, by component/layer with the reason.

        Args:
            made: what ``make`` gave; of TFLite its files are counted, since ai-edge-quantizer leaves what it has no
                kernel for without a word.
            fallbacks: that it was made with.
        """
        if not isinstance(self.scheme, LiteRTScheme):
            spared = cast("list[str]", self.notes.get(SPARED, []))
            return len(self.names()) + len(spared), dict.fromkeys(spared, MOST_MOVED)
        layers, left = 0, {}
        for component in self.artifact.manifest.components:
            before, after = (load_model(artifact.file(component)) for artifact in (self.artifact, made))
            layers += len(float_layers(before))
            for name, reason in left_in_float(before, after, self.scheme).items():
                if f"{component}/{name}" not in fallbacks:
                    left[f"{component}/{name}"] = reason
        return layers, left

    def outputs(self, fallbacks: Sequence[str], examples: Examples) -> Outputs:
        """The answers of the artifact with everything but the fall-backs quantized."""
        return self.answer(self.make(fallbacks), examples)


def integers_of(scheme: Scheme | LiteRTScheme) -> str:
    """Types of activations and weights in a word, and how wide weights are that are not of 8 bits.

    For example ``u8s8, weights of 7 bits``, or ``u8s8, tables of 4 bits``.
    """
    if isinstance(scheme, LiteRTScheme) or scheme.method == "fp16":
        return ""
    parts = ["weights of 4 bits"] if scheme.method == "int4" else [f"{scheme.activations}{scheme.weights}"]
    if scheme.reduce_range:
        parts += ["weights of 7 bits", *(["of 8 in some layers"] if scheme.full_range else [])]
    return ", ".join([*parts, *(["tables of 4 bits"] if scheme.int4 else [])])


@dataclass(frozen=True)
class Selection:
    """The selection split, on which candidates are compared with the graph in float.

    Attributes:
        examples: its samples.
        reference: the answers in float, beside themselves where there are no labels.
        task: scores.
        before: the metric in float.
    """

    examples: Examples
    reference: Outputs
    task: Task
    before: float
    _drops: dict[tuple[object, tuple[str, ...]], float] = field(default_factory=dict)

    def drop(self, maker: Maker, fallbacks: Sequence[str] = ()) -> float:
        """How much of the metric a maker's artifact loses, its fall-backs in float."""
        key = maker.scheme, tuple(fallbacks)
        if key not in self._drops:
            found = maker.outputs(fallbacks, self.examples)
            if self.reference.against == "original":
                found = found.beside(self.reference)
            self._drops[key] = self.before - cast("float", found.score(self.task))
        return self._drops[key]


def open_selection(maker: Maker, examples: Examples, reference: Outputs, task: Task) -> Selection | None:
    """The selection split with its answers in float; None where nothing can be scored."""
    if reference.labels is None and task.compares:
        reference = reference.beside(reference)
    before = reference.score(task)
    return None if before is None else Selection(examples, reference, task, before)
