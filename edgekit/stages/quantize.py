"""Quantize: INT8 as the target wants it, or FP16; a layer that loses too much falls back and is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import Field, JsonValue

from edgekit.artifact import Artifact, Manifest
from edgekit.formats.onnx import count_operators, describe_component, load_graph, save_graph
from edgekit.measure.quality import Outputs, collect_outputs
from edgekit.progress import Silent
from edgekit.quantization.calibration import calibrate
from edgekit.quantization.schemes import (
    Method,
    Scheme,
    SchemeName,
    WeightedNode,
    is_convolutional,
    quantize_graph,
    resolve_scheme,
    static_kinds,
    weighted_nodes,
)
from edgekit.quantization.sensitivity import choose_fallbacks, rank_sensitivity
from edgekit.runtimes import open_runner
from edgekit.stages.base import Job, Stage, StageSettings, finish
from edgekit.target import Target
from edgekit.tasks.base import Array, Examples


class QuantizeSettings(StageSettings):
    method: Method = Field("auto", description="dynamic, static, fp16, or auto: what the target's scheme allows")
    scheme: SchemeName = Field(
        "auto", description="types of activations and weights: u8s8, s8s8, u8u8, or the target's own"
    )
    embeddings: bool = Field(True, description="whether embedding tables are quantized too")
    samples: int = Field(256, ge=1, description="training samples that static ranges are calibrated on")
    fallback: bool = Field(True, description="whether layers that lose too much stay float")
    tolerance: float = Field(0.005, ge=0, description="drop of the metric on the selection split that calls for it")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("QuantizeSettings", settings)
    folder, prepared = job.scratch(), _name_nodes(artifact, job)
    graphs = {name: load_graph(prepared.file(name)) for name in prepared.manifest.components}
    found = [node for graph in graphs.values() for node in weighted_nodes(graph, embeddings=False)]
    # without data a convolution cannot be scaled: it stays float, and the products of matrices are quantized
    scheme = _scheme(settings, job.target, convolutional=is_convolutional(found) and job.data is not None)
    nodes = {
        name: weighted_nodes(graph, embeddings=scheme.embeddings, convolutions=scheme.convolutions)
        for name, graph in graphs.items()
    }
    ranges = _calibrate(prepared, scheme, settings, job) if scheme.method == "static" else {}
    maker = _Maker(prepared, scheme, nodes, ranges, job)
    fallbacks, check = _fall_back(maker, settings, job)
    job.progress.start(f"quantize: {scheme.method}", None)
    quantized = maker.make(folder, fallbacks)
    job.progress.finish(f"{len(fallbacks)} layers left in float" if fallbacks else "")
    details: dict[str, JsonValue] = {
        "scheme": scheme.model_dump(mode="json"),
        "layers": sum(len(part) for part in nodes.values()),
        "fallback_layers": cast("JsonValue", fallbacks),
        "selection_check": check,
        "operators": {name: cast("JsonValue", count_operators(load_graph(quantized.file(name)))) for name in nodes},
    }
    components = {name: part.model_dump() for name, part in quantized.manifest.components.items()}
    return finish(folder, artifact, QUANTIZE, settings, changes={"components": components}, details=details)


def _scheme(settings: QuantizeSettings, target: Target, *, convolutional: bool = False) -> Scheme:
    return resolve_scheme(settings.method, settings.scheme, settings.embeddings, target, convolutional=convolutional)


@dataclass(frozen=True)
class _Maker:
    """Makes the artifact with some of its layers quantized."""

    artifact: Artifact
    scheme: Scheme
    nodes: dict[str, list[WeightedNode]]
    ranges: dict[str, Path]
    job: Job

    def names(self) -> list[str]:
        """Every layer that can be quantized, as component/node."""
        return [f"{component}/{node.name}" for component, nodes in self.nodes.items() for node in nodes]

    def make(self, folder: Path, fallbacks: Sequence[str]) -> Artifact:
        """Quantize everything but the fall-backs into a folder."""
        components = {}
        for component, nodes in self.nodes.items():
            source = self.artifact.file(component)
            chosen = [node.name for node in nodes if f"{component}/{node.name}" not in fallbacks]
            quantize_graph(source, folder / source.name, self.scheme, chosen, self.ranges.get(component))
            described = describe_component(folder / source.name, self.artifact.manifest.components[component].states)
            components[component] = described.model_dump()
        changed = self.artifact.manifest.model_dump(by_alias=True) | {"components": components}
        return Artifact(folder, Manifest.model_validate(changed))

    def outputs(self, fallbacks: Sequence[str], examples: Examples) -> Outputs:
        """The logits of the artifact with everything but the fall-backs quantized."""
        made = self.make(self.job.scratch(), fallbacks)
        return collect_outputs(
            open_runner(made, self.job.jobs), self.job.task, examples, self.job.workload.batch, Silent()
        )


def _name_nodes(artifact: Artifact, job: Job) -> Artifact:
    """A copy of the graphs in which every node has a name, since the tools choose nodes by name."""
    folder = job.scratch()
    for name in artifact.manifest.components:
        model = load_graph(artifact.file(name))
        weighted_nodes(model, embeddings=True)
        save_graph(model, folder / artifact.file(name).name)
    return Artifact(folder, artifact.manifest)


def _calibrate(artifact: Artifact, scheme: Scheme, settings: QuantizeSettings, job: Job) -> dict[str, Path]:
    import numpy as np

    examples = job.need_data().train
    chosen = np.random.default_rng([job.seed, 2]).permutation(len(examples))[: settings.samples].tolist()
    return calibrate(
        artifact,
        job.task,
        examples,
        chosen,
        job.work,
        kinds=static_kinds(scheme),
        threads=job.jobs,
        progress=job.progress,
        note=job.note,
    )


def _fall_back(maker: _Maker, settings: QuantizeSettings, job: Job) -> tuple[list[str], JsonValue]:
    """The layers that stay float so that the selection split loses no more than the tolerance, and what was seen."""
    if job.data is None or maker.scheme.method == "fp16" or not settings.fallback:
        return [], None
    examples = job.data.selection
    reference = collect_outputs(open_runner(maker.artifact, job.jobs), job.task, examples, job.workload.batch, Silent())
    before = reference.score(job.task)
    if before is None:
        return [], None

    def drop(fallbacks: Sequence[str]) -> float:
        return before - cast("float", maker.outputs(fallbacks, examples).score(job.task))

    first = drop([])
    seen: dict[str, JsonValue] = {
        "samples": len(examples),
        "float": before,
        "drop": first,
        "tolerance": settings.tolerance,
    }
    if first <= settings.tolerance:
        return [], seen
    job.progress.start("quantize: which layers lose too much", len(maker.names()))
    ranked = rank_sensitivity(maker.names(), reference.logits, lambda nodes: _alone(maker, nodes, examples, job))
    fallbacks = choose_fallbacks(ranked, lambda kept: drop(kept) <= settings.tolerance)
    job.progress.finish(f"{len(fallbacks)} fall back")
    seen["sensitivity"] = [[name, error] for name, error in ranked]
    seen["drop_with_fallback"] = drop(fallbacks)
    return fallbacks, seen


def _alone(maker: _Maker, nodes: Sequence[str], examples: Examples, job: Job) -> Array:
    job.progress.advance()
    return maker.outputs([name for name in maker.names() if name not in nodes], examples).logits


QUANTIZE = Stage(
    "quantize",
    version=1,
    accepts="onnx",
    produces="onnx",
    settings=QuantizeSettings,
    uses=("int8", "data", "workload", "seed", "jobs"),
    needs_data=lambda settings, target: _scheme(cast("QuantizeSettings", settings), target).method == "static",
    run=run,
    precision=lambda settings: "fp16" if cast("QuantizeSettings", settings).method == "fp16" else "int8",
)
