"""What makes the artifacts of the stage quantize: onnxruntime's tools, ai-edge-quantizer, or neural-compressor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from edgekit.artifact import Artifact
from edgekit.formats.graph import tidy
from edgekit.formats.onnx import load_graph, load_structure, save_graph
from edgekit.formats.torch import load_model
from edgekit.measure.quality import Outputs, collect_outputs
from edgekit.optimization import REWRITES
from edgekit.progress import Silent
from edgekit.quantization import neural_compressor
from edgekit.quantization.calibration import calibrate, draw_samples, record_feeds
from edgekit.quantization.equalization import equalize
from edgekit.quantization.half import find_overflows, halve_graph, holders
from edgekit.quantization.litert import LiteRTScheme, quantize_model, resolve_method, true_ranges, weighted_layers
from edgekit.quantization.makers import SPARED, AnyScheme, Maker, Write
from edgekit.quantization.saturating import open_as_on
from edgekit.quantization.schemes import (
    EMBEDDING_KIND,
    Scheme,
    WeightedNode,
    is_convolutional,
    name_nodes,
    quantize_graph,
    static_kinds,
    weighted_nodes,
)
from edgekit.quantization.shadows import LayerError, Ranges, Rounding, layer_errors, read_ranges
from edgekit.quantization.smoothing import NO_NORM, smooth
from edgekit.runtimes import LITERT
from edgekit.stages.base import Job
from edgekit.stages.quantize.settings import ONNXRUNTIME, QuantizeSettings, neural_scheme, scheme_for
from edgekit.tasks.base import Examples

# How many training samples show which sums saturate, and how far layers move: what activations are like.
PROBED = 64
# The detail that has the calibrated range of each activation, by component and tensor.
RANGES = "ranges"
UNCALIBRATED = "convolutions, most of the weights, stay float: their static INT8 is calibrated on data (--data)"
UNPACKED = "convolutions, most of the weights, stay float: INT4 is for products of matrices"


def maker_for(
    artifact: Artifact,
    scheme: AnyScheme,
    nodes: dict[str, list[WeightedNode]],
    write: Callable[[AnyScheme, str, Path, Sequence[str]], None],
    job: Job,
) -> Maker:
    """A maker whose artifacts answer as they would on the target."""

    def answer(made: Artifact, examples: Examples) -> Outputs:
        runner = open_as_on(made, job.target, job.jobs, job.answers_in)
        return collect_outputs(runner, job.task, examples, job.workload.batch, Silent())

    return Maker(artifact, scheme, nodes, cast("Write", write), job.scratch, answer)


class Prepared(NamedTuple):
    """A graph that onnxruntime's tools can quantize.

    Attributes:
        artifact: in float; every node has a name.
        scheme: how.
        nodes: of each component, those that it takes.
        notes: what the report says of it.
    """

    artifact: Artifact
    scheme: Scheme
    nodes: dict[str, list[WeightedNode]]
    notes: dict[str, JsonValue]


def ours(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Maker:
    """onnxruntime's tools on the graph as it is."""
    found = _prepare(artifact, settings, job)
    if found.scheme.method == "fp16":
        return _half(found.artifact, found.scheme, job, calibration_samples(settings, job) if job.data else [])
    ranges, notes = dict[str, Path](), dict(found.notes)
    if found.scheme.method == "static":
        ranges = _calibrate(found.artifact, found.scheme, settings, job)
        notes[RANGES] = {name: _as_json(read_ranges(file)) for name, file in ranges.items()}

    def write(asked: Scheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        source = found.artifact.file(component)
        quantize_graph(source, file, asked.within(component), chosen, ranges.get(component))

    maker = replace(maker_for(found.artifact, found.scheme, found.nodes, write, job), notes=notes)
    return _spare(maker, settings, job) if settings.float_share else maker


def _as_json(ranges: Ranges) -> JsonValue:
    return {name: list(ends) for name, ends in ranges.items()}


def layer_errors_of(
    parent: Artifact, settings: QuantizeSettings, details: Mapping[str, JsonValue], job: Job
) -> list[LayerError]:
    """How far quantization moves each layer of what the stage has made; nothing without data, or for other makers.

    It is of use to those who read a report, and takes a pass over samples: so the report asks for it.

    Args:
        parent: what the stage read.
        settings: of the stage.
        details: that it gave.
        job: that it had.
    """
    if job.data is None or parent.format != "onnx" or details.get("engine") != ONNXRUNTIME:
        return []
    scheme = Scheme.model_validate(details["scheme"])
    if scheme.method == "fp16":
        return []
    found = _prepare(parent, settings, job)
    job.progress.start("quantize: how far each layer moves", None)
    samples = calibration_samples(settings, job)[:PROBED]
    fed = record_feeds(found.artifact, job.task, job.data.train, samples, job.jobs)
    asked = Rounding(scheme, cast("dict[str, Ranges]", details.get(RANGES, {})))
    errors = layer_errors(found.artifact, found.nodes, asked, fed, scratch=job.scratch, threads=job.jobs)
    job.progress.finish(f"{len(errors)} layers")
    return errors


def _spare(maker: Maker, settings: QuantizeSettings, job: Job) -> Maker:
    """The same maker without the layers that stay float in any case: of those that multiply, the most moved ones.

    How far INT8 moves each is found in one pass over samples, as for a report (``layer_errors_of``).
    """
    assert isinstance(maker.scheme, Scheme)  # onnxruntime's
    job.progress.start("quantize: which layers INT8 moves most", None)
    samples = calibration_samples(settings, job)[:PROBED]
    fed = record_feeds(maker.artifact, job.task, job.need_data().train, samples, job.jobs)
    asked = Rounding(maker.scheme, cast("dict[str, Ranges]", maker.notes.get(RANGES, {})))
    nodes = maker.nodes
    multiplies = {f"{part}/{node.name}" for part, some in nodes.items() for node in some if node.multiplies}
    errors = layer_errors(maker.artifact, nodes, asked, fed, scratch=job.scratch, threads=job.jobs)
    ranked = [error.name for error in errors if error.name in multiplies]
    spared = ranked[: round(settings.float_share * len(ranked))]
    job.progress.finish(f"{len(spared)} of {len(ranked)} stay float")
    left = {part: [node for node in some if f"{part}/{node.name}" not in spared] for part, some in nodes.items()}
    return replace(maker, nodes=left, notes=maker.notes | {SPARED: cast("JsonValue", spared)})


def _prepare(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Prepared:
    """Name the nodes, choose the scheme, and rescale where that was asked for."""
    prepared = name_nodes(artifact, job.scratch())
    graphs = {name: load_structure(prepared.file(name)) for name in prepared.manifest.components}
    found = [node for graph in graphs.values() for node in weighted_nodes(graph, embeddings=False)]
    # without data a convolution cannot be scaled: it stays float, and the products of matrices are quantized
    convolutional = is_convolutional(found)
    uncalibrated = convolutional and job.data is None
    scheme = scheme_for(settings, job.target, convolutional=convolutional and not uncalibrated)
    if scheme.method == "fp16":
        return Prepared(prepared, scheme, {}, {})
    weighted = {
        name: weighted_nodes(graph, embeddings=scheme.embeddings, convolutions=scheme.convolutions)
        for name, graph in graphs.items()
    }
    nodes = {name: [node for node in part if scheme.takes(node)] for name, part in weighted.items()}
    left = UNPACKED if convolutional and scheme.method == "int4" else UNCALIBRATED if uncalibrated else ""
    prepared, notes = _rescale(prepared, nodes, settings, job)
    notes |= {"left_float": left} if left else {}
    return Prepared(prepared, scheme, nodes, notes)


def _rescale(
    artifact: Artifact, nodes: dict[str, list[WeightedNode]], settings: QuantizeSettings, job: Job
) -> tuple[Artifact, dict[str, JsonValue]]:
    """The same artifact, easier to quantize, in the ways that were asked for; and what was done."""
    notes: dict[str, JsonValue] = {}
    if settings.equalize:
        artifact, pairs = equalize(artifact, job.scratch())
        notes["equalized"] = [list(pair) for pair in pairs]
    if settings.smooth != "none":
        chosen = calibration_samples(settings, job)
        job.progress.start("quantize: smooth activations", None)
        fed = record_feeds(artifact, job.task, job.need_data().train, chosen, job.jobs)
        found = smooth(artifact, nodes, settings.smooth, fed, folder=job.scratch(), threads=job.jobs)
        job.progress.finish(f"{len(found.layers)} layers")
        artifact = found.artifact
        notes["smoothed"] = {"layers": list(found.layers), "left": list(found.left), "because": NO_NORM}
    return artifact, notes


def _half(artifact: Artifact, scheme: Scheme, job: Job, samples: Sequence[int]) -> Maker:
    """onnxruntime's converter to FP16; nodes that would overflow stay FP32."""
    parts = artifact.manifest.components
    job.progress.start("quantize: what overflows in FP16", None)
    made_up = {name: [feeds] for name, feeds in job.task.workload_feeds(job.workload).items()}
    fed = record_feeds(artifact, job.task, job.data.train, samples, job.jobs) if job.data else [made_up]
    found = find_overflows(artifact, fed, job.scratch, job.jobs)
    job.progress.finish(f"{sum(map(len, found.values()))} nodes stay FP32")

    def write(asked: Scheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        del asked, chosen  # every layer that can be
        halve_graph(artifact.file(component), file, list(found[component]))

    graphs = {name: load_graph(artifact.file(name)) for name in parts}
    nodes = {name: weighted_nodes(graph, embeddings=True) for name, graph in graphs.items()}
    unseen: list[JsonValue] = [f"{name}/{node}" for name, graph in graphs.items() for node in holders(graph)]
    overflow: JsonValue = {f"{name}/{node}": size for name, nodes in found.items() for node, size in nodes.items()}
    notes = {"overflow": overflow, "overflow_samples": len(samples), "holders": unseen}
    return replace(maker_for(artifact, scheme, nodes, write, job), notes=notes)


def tflite(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Maker:
    """ai-edge-quantizer on a TFLite file as it is."""
    parts = artifact.manifest.components
    method = resolve_method(settings.method, job.target, job.runtime)
    scheme = LiteRTScheme(method=method, embeddings=settings.embeddings != "float", hybrid=job.runtime == LITERT)
    nodes = {name: weighted_layers(artifact.file(name)) for name in parts}
    ranges = {}
    if scheme.method == "static":
        chosen, train = calibration_samples(settings, job), job.need_data().train
        ranges = true_ranges(artifact, job.task, (train.batch([index]) for index in chosen), job.jobs)

    def write(asked: LiteRTScheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        keep = tuple(node.name for node in nodes[component] if node.name not in chosen)
        quantize_model(artifact.file(component), file, asked.model_copy(update={"keep": keep}), ranges.get(component))

    return maker_for(artifact, scheme, nodes, write, job)


def theirs(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Maker:
    """neural-compressor on the torch model that the graph was exported from, with every rewrite of the graph."""
    assert job.trained is not None  # the pipeline knows what it has exported
    task, folder = job.task_for(job.trained), job.scratch()
    chosen = calibration_samples(settings, job)
    job.progress.start("quantize: neural-compressor", len(chosen))
    found = neural_compressor.Calibration(job.task, job.need_data().train, chosen, job.progress)
    specs = task.components(load_model(task)[0])
    scheme = neural_scheme(settings, job.target)
    files = neural_compressor.mark(specs, found, scheme, job.target.opset, folder)
    job.progress.finish(f"{len(chosen)} samples")
    nodes = {name: _rewrite(file, settings) for name, file in files.items()}
    whole = [node for part in nodes.values() for node in part]
    scheme = neural_scheme(settings, job.target, convolutional=is_convolutional(whole))
    tables = scheme.model_copy(update={"method": "dynamic", "convolutions": False})

    def write(asked: Scheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        folded = job.scratch() / file.name
        neural_compressor.fold(files[component], folded, asked, chosen)
        looked_up = [node.name for node in nodes[component] if node.kind == EMBEDDING_KIND and node.name in chosen]
        narrowed = tables.model_copy(update={"int4": asked.within(component).int4})
        quantize_graph(folded, file, narrowed, looked_up, None)

    return maker_for(artifact, scheme, nodes, write, job)


def _rewrite(file: Path, settings: QuantizeSettings) -> list[WeightedNode]:
    """Rewrite a marked graph in place; the nodes that neural-compressor quantizes, and embeddings."""
    model = load_graph(file)
    for rewrite in REWRITES.values():
        rewrite.apply(model.graph)
    tidy(model)
    nodes = weighted_nodes(model, embeddings=settings.embeddings != "float")
    marked = {str(node.name) for node in neural_compressor.marked_nodes(model)}
    save_graph(model, file)
    return [node for node in nodes if node.name in marked or node.kind == EMBEDDING_KIND]


def _calibrate(artifact: Artifact, scheme: Scheme, settings: QuantizeSettings, job: Job) -> dict[str, Path]:
    return calibrate(
        artifact,
        job.task,
        job.need_data().train,
        calibration_samples(settings, job),
        job.work,
        kinds=static_kinds(scheme),
        threads=job.jobs,
        progress=job.progress,
        note=job.note,
    )


def calibration_samples(settings: QuantizeSettings, job: Job) -> list[int]:
    return draw_samples(len(job.need_data().train), settings.samples, job.seed)
