"""Quantize: INT8 as the target wants it, or FP16; a layer that loses too much falls back and is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import Field, JsonValue

from edgekit.artifact import Artifact
from edgekit.errors import ModelError, UsageError
from edgekit.formats.graph import tidy
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.formats.torch import load_model
from edgekit.measure.latency import time_artifacts
from edgekit.measure.quality import Outputs, collect_outputs
from edgekit.optimization import REWRITES
from edgekit.progress import Silent
from edgekit.quantization import neural_compressor
from edgekit.quantization.calibration import calibrate, draw_samples, record_feeds
from edgekit.quantization.engines import Candidate, EngineName, compare_candidates
from edgekit.quantization.half import find_overflows, halve_graph, holders
from edgekit.quantization.litert import (
    LiteRTScheme,
    quantize_model,
    refuse_onnx_choices,
    resolve_method,
    true_ranges,
    weighted_layers,
)
from edgekit.quantization.makers import AnyScheme, Maker, Selection, Write, open_selection
from edgekit.quantization.saturating import SaturatingRunner, count_saturated, open_as_on
from edgekit.quantization.schemes import (
    EMBEDDING_KIND,
    Embeddings,
    Method,
    Scheme,
    SchemeName,
    WeightedNode,
    is_convolutional,
    name_nodes,
    quantize_graph,
    resolve_scheme,
    static_kinds,
    weighted_nodes,
)
from edgekit.quantization.sensitivity import fall_back
from edgekit.quantization.shadows import LayerError, Rounding, layer_errors, read_ranges
from edgekit.quantization.tables import narrow
from edgekit.quantization.widths import EIGHT, SEVEN, Range, Width, candidate_widths, choose_width, describe_saturation
from edgekit.runtimes import LITERT, open_runner
from edgekit.runtimes.measuring import Timing
from edgekit.stages.base import Goal, Job, Stage, StageSettings, finish
from edgekit.target import Precision, Target
from edgekit.tasks.base import Examples

ONNXRUNTIME, AI_EDGE_QUANTIZER, BOTH = "onnxruntime", "ai-edge-quantizer", "both"
ENGINES: dict[EngineName, tuple[str, ...]] = {
    "onnxruntime": (ONNXRUNTIME,),
    "neural-compressor": (neural_compressor.NAME,),
    "both": (ONNXRUNTIME, neural_compressor.NAME),
}
COMPARING = Timing(seconds=6.0, rounds=25)
# How many training samples show which sums saturate, and how far layers move: what activations are like.
PROBED = 64
UNCALIBRATED = "convolutions, most of the weights, stay float: their static INT8 is calibrated on data (--data)"
UNPACKED = "convolutions, most of the weights, stay float: INT4 is for products of matrices"


class QuantizeSettings(StageSettings):
    engine: EngineName = Field(
        "onnxruntime",
        description="onnxruntime, neural-compressor (static INT8; the extra [inc]), or both, of which the better stays",
    )
    method: Method = Field(
        "auto",
        description="dynamic, static, fp16, int4 (weights of products alone), auto (what the target takes); TFLite:"
        " weight-only too",
    )
    scheme: SchemeName = Field(
        "auto", description="types of activations and weights: u8s8, s8s8, u8u8, or the target's own"
    )
    reduce_range: Range = Field(
        "auto", description="whether weights use 7 of their 8 bits: always, never, or auto, as the target needs"
    )
    embeddings: Embeddings = Field(
        "int8", description="type of embedding tables: int8, float, or int4 for words (onnxruntime on a CPU)"
    )
    samples: int = Field(
        256, ge=1, description="training samples that are run for static ranges, and for what overflows in FP16"
    )
    fallback: bool = Field(
        True, description="whether layers that lose too much stay float, and tables in INT4 that do stay INT8"
    )
    tolerance: float = Field(0.005, ge=0, description="drop of the metric on the selection split that calls for it")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("QuantizeSettings", settings)
    made: list[Candidate] = []
    failed: list[JsonValue] = []
    for engine in ENGINES[settings.engine]:
        try:
            made.append(_candidate(engine, artifact, settings, job))
        except ModelError as error:
            if settings.engine != BOTH:
                raise
            failed.append({"engine": engine, "failed": f"{error.what}: {error.why}"})
    if not made:
        raise ModelError(
            "neither quantizer takes this model",
            id="model.export-fails",
            why="; ".join(str(cast("dict[str, JsonValue]", entry)["failed"]) for entry in failed),
        )
    details: dict[str, JsonValue] = {}
    chosen = made[0]
    if settings.engine == BOTH:
        answer = cast(
            "dict[str, JsonValue]", job.decisions.decide("quantize.engine", lambda: _compare(made, settings, job))
        )
        chosen = next(candidate for candidate in made if candidate.engine == answer["engine"])
        details = {"engine_reason": answer["reason"], "engines": [*cast("list[JsonValue]", answer["engines"]), *failed]}
    details |= chosen.details()
    components = {name: part.model_dump() for name, part in chosen.artifact.manifest.components.items()}
    return finish(
        chosen.artifact.path, artifact, QUANTIZE, settings, changes={"components": components}, details=details
    )


def check(settings: StageSettings, goal: Goal) -> None:
    settings = cast("QuantizeSettings", settings)
    if goal.format == "tflite":
        refuse_onnx_choices(
            engine=settings.engine,
            scheme=settings.scheme,
            reduce_range=settings.reduce_range,
            embeddings=settings.embeddings,
        )
        resolve_method(settings.method, goal.target, goal.runtime)
        return
    _scheme(settings, goal.target)
    if settings.engine == ONNXRUNTIME:
        return
    method = settings.method
    if settings.engine == neural_compressor.NAME and method not in ("auto", "static"):
        raise UsageError(
            f"quantize.method={method} cannot go with quantize.engine={settings.engine}",
            id="usage.settings-conflict",
            why="neural-compressor's dynamic INT8 does not export to ONNX, and its FP16 is for graphics cards",
            hint="Use --set quantize.method=static, or leave the method to auto.",
        )
    _neural_scheme(settings, goal.target)
    neural_compressor.require()


def _scheme(settings: QuantizeSettings, target: Target, *, convolutional: bool = False) -> Scheme:
    scheme = resolve_scheme(settings.method, settings.scheme, settings.embeddings, target, convolutional=convolutional)
    return _ranged(scheme, settings)


def _ranged(scheme: Scheme, settings: QuantizeSettings) -> Scheme:
    """With weights of 7 or 8 bits where the user said so."""
    if settings.reduce_range == "auto":
        return scheme
    return scheme.model_copy(update={"reduce_range": settings.reduce_range == "always"})


def _neural_scheme(settings: QuantizeSettings, target: Target, *, convolutional: bool = False) -> Scheme:
    """What neural-compressor is asked for: the same scheme, static; its weights are always s8."""
    scheme = resolve_scheme("static", settings.scheme, settings.embeddings, target, convolutional=convolutional)
    if scheme.weights != "s8":
        raise UsageError(
            f"quantize.scheme={settings.scheme} cannot go with quantize.engine={settings.engine}",
            id="usage.settings-conflict",
            why="neural-compressor makes weights s8",
            hint="Use --set quantize.scheme=u8s8, or --set quantize.engine=onnxruntime.",
        )
    return _ranged(scheme, settings)


def _needs_data(settings: StageSettings, goal: Goal) -> bool:
    settings, target = cast("QuantizeSettings", settings), goal.target
    if goal.format == "tflite":
        return resolve_method(settings.method, goal.target, goal.runtime) == "static"
    return settings.engine != ONNXRUNTIME or _scheme(settings, target).method == "static"


def _precision(settings: StageSettings, goal: Goal) -> Precision:
    settings = cast("QuantizeSettings", settings)
    if goal.format == "tflite":
        return "fp16" if settings.method == "fp16" else "int8"
    halved = settings.engine == ONNXRUNTIME and _scheme(settings, goal.target).method == "fp16"
    return "fp16" if halved else "int8"


def _compare(made: Sequence[Candidate], settings: QuantizeSettings, job: Job) -> JsonValue:
    """Which of the candidates stays; timed interleaved where the target can be timed."""
    timings = None
    if job.clock is not None and len(made) > 1 and len(made[0].artifact.manifest.components) == 1:
        job.progress.start("quantize: which engine", None)
        artifacts = {candidate.engine: candidate.artifact for candidate in made}
        timings = time_artifacts(artifacts, lambda _: job.task, job.workload, job.clock, COMPARING)
        job.progress.finish()
    return compare_candidates(made, timings, settings.tolerance)


def _candidate(engine: str, artifact: Artifact, settings: QuantizeSettings, job: Job) -> Candidate:
    if artifact.format == "tflite":
        engine, maker = AI_EDGE_QUANTIZER, _tflite(artifact, settings, job)
    else:
        maker = _ours(artifact, settings, job) if engine == ONNXRUNTIME else _theirs(artifact, settings, job)
    selection = _open_selection(maker, settings, job)
    maker, width = _fit(engine, maker, settings, job, selection)
    if settings.embeddings == "int4":
        maker = narrow(maker, selection if settings.fallback else None, settings.tolerance, job.progress)
    fallbacks: list[str] = []
    seen: dict[str, JsonValue] | None = None
    if selection is not None and settings.fallback:
        fallbacks, seen = fall_back(maker, selection, settings.tolerance, job.progress)
    job.progress.start(f"quantize: {maker.scheme.method}, {engine}", None)
    quantized = maker.make(fallbacks)
    layers, unasked = maker.census(quantized, fallbacks)
    floats = len(fallbacks) + len(unasked)
    job.progress.finish(f"{floats} layers left in float" if floats else "")
    notes = maker.notes | {"float_layers": cast("JsonValue", unasked)}
    return Candidate(engine, quantized, maker.scheme, layers, fallbacks, seen, width, notes)


def _maker(
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


def _open_selection(maker: Maker, settings: QuantizeSettings, job: Job) -> Selection | None:
    """The selection split, where something is decided on it."""
    deciding = settings.fallback or job.target.int8.saturates
    if job.data is None or maker.scheme.method == "fp16" or not deciding:
        return None
    examples = job.data.selection
    runner = open_runner(maker.artifact, job.jobs, job.answers_in)
    reference = collect_outputs(runner, job.task, examples, job.workload.batch, Silent())
    return open_selection(maker, examples, reference, job.task)


def _fit(
    engine: str, maker: Maker, settings: QuantizeSettings, job: Job, selection: Selection | None
) -> tuple[Maker, dict[str, JsonValue] | None]:
    """Weights as wide as sums of the target's 16 bits can bear, and why; nothing where its sums are wider."""
    scheme = maker.scheme
    if not isinstance(scheme, Scheme) or scheme.method in ("fp16", "int4") or scheme.weights != "s8":
        return maker, None
    if not job.target.int8.saturates:
        return maker, None
    wide = replace(maker, scheme=scheme.model_copy(update={"reduce_range": False}))
    seen, samples = None, 0
    if job.data is not None:
        chosen = _calibration_samples(settings, job)[:PROBED]
        samples = len(chosen)
        job.progress.start("quantize: which sums saturate", samples)
        runner = SaturatingRunner(wide.make([]), job.jobs)
        seen = count_saturated(runner, job.task, [job.data.train.batch([index]) for index in chosen], job.progress)
        job.progress.finish(f"in {len(seen)} of {len(maker.names())} layers")
    clause = describe_saturation(seen, samples)
    if settings.reduce_range != "auto":
        name = SEVEN if scheme.reduce_range else EIGHT
        width = Width(scheme, name, f"{name}, as was asked for; {clause}")
    else:
        saturated = {name for one in seen or () for name in (one.layer, f"{one.layer}_MatMul")}
        layers = [f"{part}/{node.name}" for part, nodes in maker.nodes.items() for node in nodes if node.multiplies]
        candidates = candidate_widths(scheme, layers, saturated)
        if engine == neural_compressor.NAME:  # its weights are s8, and of one width
            candidates = {SEVEN: candidates[SEVEN]}
        drop = None if selection is None else lambda one: selection.drop(replace(maker, scheme=one))
        width = choose_width(candidates, clause, drop, settings.tolerance)
    return replace(maker, scheme=width.scheme), width.details(seen, samples)


def _ours(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Maker:
    """onnxruntime's tools on the graph as it is."""
    prepared = name_nodes(artifact, job.scratch())
    graphs = {name: load_graph(prepared.file(name)) for name in prepared.manifest.components}
    found = [node for graph in graphs.values() for node in weighted_nodes(graph, embeddings=False)]
    # without data a convolution cannot be scaled: it stays float, and the products of matrices are quantized
    convolutional = is_convolutional(found)
    uncalibrated = convolutional and job.data is None
    scheme = _scheme(settings, job.target, convolutional=convolutional and not uncalibrated)
    if scheme.method == "fp16":
        return _half(prepared, scheme, job, _calibration_samples(settings, job) if job.data else [])
    weighted = {
        name: weighted_nodes(graph, embeddings=scheme.embeddings, convolutions=scheme.convolutions)
        for name, graph in graphs.items()
    }
    nodes = {name: [node for node in part if scheme.takes(node)] for name, part in weighted.items()}
    ranges = _calibrate(prepared, scheme, settings, job) if scheme.method == "static" else {}
    left = UNPACKED if convolutional and scheme.method == "int4" else UNCALIBRATED if uncalibrated else ""
    notes: dict[str, JsonValue] = {"left_float": left} if left else {}
    if job.data is not None:
        errors = _layer_errors(prepared, nodes, scheme, ranges, _calibration_samples(settings, job)[:PROBED], job)
        notes["layer_errors"] = [list(one) for one in errors]

    def write(asked: Scheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        quantize_graph(prepared.file(component), file, asked.within(component), chosen, ranges.get(component))

    return replace(_maker(prepared, scheme, nodes, write, job), notes=notes)


def _layer_errors(
    artifact: Artifact,
    nodes: dict[str, list[WeightedNode]],
    scheme: Scheme,
    ranges: dict[str, Path],
    samples: Sequence[int],
    job: Job,
) -> list[LayerError]:
    job.progress.start("quantize: how far each layer moves", None)
    fed = record_feeds(artifact, job.task, job.need_data().train, samples, job.jobs)
    asked = Rounding(scheme, {name: read_ranges(file) for name, file in ranges.items()})
    found = layer_errors(artifact, nodes, asked, fed, scratch=job.scratch, threads=job.jobs)
    job.progress.finish(f"{len(found)} layers")
    return found


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
    return replace(_maker(artifact, scheme, nodes, write, job), notes=notes)


def _tflite(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Maker:
    """ai-edge-quantizer on a TFLite file as it is."""
    parts = artifact.manifest.components
    method = resolve_method(settings.method, job.target, job.runtime)
    scheme = LiteRTScheme(method=method, embeddings=settings.embeddings != "float", hybrid=job.runtime == LITERT)
    nodes = {name: weighted_layers(artifact.file(name)) for name in parts}
    ranges = {}
    if scheme.method == "static":
        chosen, train = _calibration_samples(settings, job), job.need_data().train
        ranges = true_ranges(artifact, job.task, (train.batch([index]) for index in chosen), job.jobs)

    def write(asked: LiteRTScheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        keep = tuple(node.name for node in nodes[component] if node.name not in chosen)
        quantize_model(artifact.file(component), file, asked.model_copy(update={"keep": keep}), ranges.get(component))

    return _maker(artifact, scheme, nodes, write, job)


def _theirs(artifact: Artifact, settings: QuantizeSettings, job: Job) -> Maker:
    """neural-compressor on the torch model that the graph was exported from, with every rewrite of the graph."""
    assert job.trained is not None  # the pipeline knows what it has exported
    task, folder = job.task_for(job.trained), job.scratch()
    chosen = _calibration_samples(settings, job)
    job.progress.start("quantize: neural-compressor", len(chosen))
    found = neural_compressor.Calibration(job.task, job.need_data().train, chosen, job.progress)
    specs = task.components(load_model(task)[0])
    scheme = _neural_scheme(settings, job.target)
    files = neural_compressor.mark(specs, found, scheme, job.target.opset, folder)
    job.progress.finish(f"{len(chosen)} samples")
    nodes = {name: _rewrite(file, settings) for name, file in files.items()}
    whole = [node for part in nodes.values() for node in part]
    scheme = _neural_scheme(settings, job.target, convolutional=is_convolutional(whole))
    tables = scheme.model_copy(update={"method": "dynamic", "convolutions": False})

    def write(asked: Scheme, component: str, file: Path, chosen: Sequence[str]) -> None:
        folded = job.scratch() / file.name
        neural_compressor.fold(files[component], folded, asked, chosen)
        looked_up = [node.name for node in nodes[component] if node.kind == EMBEDDING_KIND and node.name in chosen]
        narrowed = tables.model_copy(update={"int4": asked.within(component).int4})
        quantize_graph(folded, file, narrowed, looked_up, None)

    return _maker(artifact, scheme, nodes, write, job)


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
        _calibration_samples(settings, job),
        job.work,
        kinds=static_kinds(scheme),
        threads=job.jobs,
        progress=job.progress,
        note=job.note,
    )


def _calibration_samples(settings: QuantizeSettings, job: Job) -> list[int]:
    return draw_samples(len(job.need_data().train), settings.samples, job.seed)


QUANTIZE = Stage(
    "quantize",
    version=3,
    accepts="graph",
    produces="graph",
    settings=QuantizeSettings,
    uses=("int8", "format", "data", "workload", "seed", "jobs", "opset", "threads", "host"),
    needs_data=_needs_data,
    run=run,
    precision=_precision,
    check=check,
)
