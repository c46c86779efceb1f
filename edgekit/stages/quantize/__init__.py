"""Quantize: INT8 as the target wants it, or FP16; a layer that loses too much falls back and is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from pydantic import JsonValue

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.measure.latency import time_artifacts
from edgekit.measure.quality import collect_outputs
from edgekit.progress import Silent
from edgekit.quantization import neural_compressor
from edgekit.quantization.dynamic import PRODUCT
from edgekit.quantization.engines import Candidate, EngineName, compare_candidates
from edgekit.quantization.makers import Maker, Selection, open_selection
from edgekit.quantization.saturating import SaturatingRunner, count_saturated
from edgekit.quantization.schemes import Scheme
from edgekit.quantization.sensitivity import fall_back
from edgekit.quantization.tables import narrow
from edgekit.quantization.widths import EIGHT, SEVEN, Width, candidate_widths, choose_width, describe_saturation
from edgekit.runtimes import open_runner
from edgekit.runtimes.measuring import Timing
from edgekit.stages.base import Job, Stage, StageSettings, finish
from edgekit.stages.quantize.makers import PROBED, calibration_samples, ours, tflite, theirs
from edgekit.stages.quantize.preview import preview
from edgekit.stages.quantize.settings import (
    BOTH,
    ONNXRUNTIME,
    QuantizeSettings,
    check,
    needs_data,
    precision_of,
)

AI_EDGE_QUANTIZER = "ai-edge-quantizer"
ENGINES: dict[EngineName, tuple[str, ...]] = {
    "onnxruntime": (ONNXRUNTIME,),
    "neural-compressor": (neural_compressor.NAME,),
    "both": (ONNXRUNTIME, neural_compressor.NAME),
}
COMPARING = Timing(seconds=6.0, rounds=25)


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
        chosen = _decided(made, failed, str(answer["engine"]))
        details = {"engine_reason": answer["reason"], "engines": [*cast("list[JsonValue]", answer["engines"]), *failed]}
    details |= chosen.details()
    components = {name: part.model_dump() for name, part in chosen.artifact.manifest.components.items()}
    return finish(
        chosen.artifact.path, artifact, QUANTIZE, settings, changes={"components": components}, details=details
    )


def _decided(made: Sequence[Candidate], failed: Sequence[JsonValue], engine: str) -> Candidate:
    """The candidate of an engine that was decided on, here or in a lock."""
    found = next((candidate for candidate in made if candidate.engine == engine), None)
    if found is None:
        raise ModelError(
            f"the lock has the quantizer {engine!r}, which does not take this model here",
            id="model.quantize-fails",
            why="; ".join(str(cast("dict[str, JsonValue]", entry)["failed"]) for entry in failed),
            hint="Use the recipe without its lock, or the versions that the lock names.",
        )
    return found


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
        engine, maker = AI_EDGE_QUANTIZER, tflite(artifact, settings, job)
    else:
        maker = ours(artifact, settings, job) if engine == ONNXRUNTIME else theirs(artifact, settings, job)
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
        chosen = calibration_samples(settings, job)[:PROBED]
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
        # a product that was found by the name which that of a Gemm would have
        saturated = {name for one in seen or () for name in (one.layer, f"{one.layer}{PRODUCT}")}
        layers = [f"{part}/{node.name}" for part, nodes in maker.nodes.items() for node in nodes if node.multiplies]
        candidates = candidate_widths(scheme, layers, saturated)
        if engine == neural_compressor.NAME:  # its weights are s8, and of one width
            candidates = {SEVEN: candidates[SEVEN]}
        drop = None if selection is None else lambda one: selection.drop(replace(maker, scheme=one))
        width = choose_width(candidates, clause, drop, settings.tolerance)
    return replace(maker, scheme=width.scheme), width.details(seen, samples)


QUANTIZE = Stage(
    "quantize",
    version=3,
    accepts="graph",
    produces="graph",
    settings=QuantizeSettings,
    uses=("int8", "format", "data", "workload", "seed", "jobs", "opset", "threads", "host"),
    needs_data=needs_data,
    run=run,
    precision=precision_of,
    check=check,
    preview=preview,
)
