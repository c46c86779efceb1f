"""Reports with everything that a page can show, as records: no model is made for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cli.samples import QUALITY, STAGES, make_report

from edgekit.artifact import WHOLE, Artifact, Component, TensorSpec
from edgekit.measure.quality import compare_classes
from edgekit.profiles import OperatorTime, Profile, Profiles, Rate
from edgekit.report import Classes, Graph, Measurement, Report, StageReport
from edgekit.trials import SearchRecord, TrialRecord

LABELS = ("negative", "positive")
SIGNATURE = {
    "inputs": (TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
    "outputs": (TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
}
DISTILL = StageReport(
    stage="distill",
    settings={},
    details={"selection_losses": [[100, 0.6], [200, 0.4], [300, 0.3], [400, 0.35]], "stopped_early": True},
)
CHANNELS = StageReport(
    stage="prune",
    settings={},
    details={
        "kept": [
            {"layer": "stem.conv", "channels": 12, "of": 16},
            {"layer": "head.conv", "channels": 32, "of": 32, "whole": "its output is added to the input"},
            {"layer": "mixer", "whole": "layers of the kind Mixer stay whole"},
        ],
        "macs_before": 2_000_000,
        "macs_after": 1_500_000,
    },
)


def profile(kinds: dict[str, tuple[int, float, int | None]], *, macs: int, latency_ms: float) -> Profile:
    """A profile of nodes, milliseconds and multiply-accumulates by kind, on a machine of 200 and 50 GMAC/s."""
    total = sum(ms for _, ms, _ in kinds.values())
    operators = tuple(
        OperatorTime(
            operator=name,
            provider="CPUExecutionProvider",
            nodes=nodes,
            ms=ms,
            share=ms / total,
            product=work is not None,
            macs=work,
            gmacs_per_s=work / ms / 1e6 if work else None,
        )
        for name, (nodes, ms, work) in kinds.items()
    )
    rate = macs / latency_ms / 1e6
    return Profile(
        component=WHOLE,
        operators=operators,
        operators_ms=total,
        profiled_ms=total + 1 if total < 10 else total + 2,
        latency_ms=latency_ms,
        n=18,
        macs=macs,
        gmacs_per_s=rate,
        products_gmacs_per_s=macs / sum(one.ms for one in operators if one.product) / 1e6 if macs > 1 else None,
        int8_share=rate / 200,
        fp32_share=rate / 50,
    )


_LIMITS = (
    Rate(precision="int8", operator="MatMulInteger", types="u8s8", shape=(512, 512, 512), gmacs_per_s=200.0),
    Rate(precision="int8", operator="DynamicQuantizeMatMul", types="u8s8", shape=(128, 768, 3072), gmacs_per_s=120.0),
    Rate(precision="fp32", operator="MatMul", types="fp32", shape=(512, 512, 512), gmacs_per_s=50.0),
)
PROFILES = Profiles(
    runtime="onnxruntime 1.32.0",
    before=(
        profile({"MatMul": (36, 30.0, 1_200_000_000), "Softmax": (6, 10.0, None)}, macs=1_200_000_000, latency_ms=40.0),
    ),
    after=(
        profile(
            {"DynamicQuantizeMatMul": (24, 3.0, 300_000_000), "Softmax": (6, 2.0, None)},
            macs=300_000_000,
            latency_ms=5.0,
        ),
    ),
    rates=_LIMITS,
    int8=_LIMITS[0],
    fp32=_LIMITS[2],
    warnings=("the machine was busy",),
)


GRAPH = ({"stage": "export"}, {"stage": "optimize"}, {"stage": "quantize"}, {"stage": "verify"})
FULL: dict[str, Any] = {"stages": ({"stage": "prune", "ratio": 0.7}, {"stage": "distill"}, *GRAPH), "kept": 0.3}


def trial(number: int, kind: str, **figures: Any) -> TrialRecord:
    return TrialRecord.model_validate({"number": number, "kind": kind, "stages": GRAPH, "state": "kept", **figures})


TRIALS = (
    trial(0, "quantized", latency_ms=14.0, size_bytes=22_900_000, selection_drop=0.002, drop=0.001, pareto=True),
    trial(1, "pace", steps=12, state="timed", kept=1.0),
    trial(2, "proxy", latency_ms=3.1, selection_drop=0.09, layers=4, steps=200, **(FULL | {"state": "dominated"})),
    trial(3, "full", latency_ms=3.0, selection_drop=0.02, drop=-0.001, layers=4, steps=4200, pareto=True, **FULL),
    trial(
        4, "full", parent=3, layers=4, steps=2100, **(FULL | {"kept": 0.21, "state": "failed", "reason": "<b>no</b>"})
    ),
)
SEARCH = SearchRecord(
    objective="latency",
    fill=False,
    metric="accuracy",
    seconds=3600.0,
    spent=3000.0,
    attempts=2,
    looks=3,
    trials=TRIALS,
    chosen=3,
    ended="the time is up",
)


def classes(count: int, *, samples: int = 2000, seed: int = 0) -> Classes:
    """What changed between two answers of which one in ten differs."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, count, samples)
    before = np.where(draw.random(samples) < 0.9, labels, draw.integers(0, count, samples))
    after = np.where(draw.random(samples) < 0.9, before, draw.integers(0, count, samples))
    return compare_classes(np.eye(count)[before], np.eye(count)[after], labels)


def latencies(p50: float, count: int = 200, seed: int = 0) -> tuple[float, ...]:
    """Samples about a median, some of them much slower."""
    draw = random.Random(seed)
    return tuple(p50 * draw.lognormvariate(0, 0.03) * (1.4 if draw.random() < 0.03 else 1) for _ in range(count))


def full_report(folder: Path, *, labels: Sequence[str] = LABELS, measured: bool = True, **changes: Any) -> Report:
    """A report with classes, graphs and samples; ``changes`` replace its fields.

    Args:
        folder: where its artifact is made.
        labels: of the model.
        measured: whether this machine could measure the target.
        **changes: fields of the report.
    """
    base = make_report(folder, measured=measured)
    quality = QUALITY.model_copy(update={"classes": classes(len(labels))})
    if measured:
        base = base.model_copy(
            update={
                "before": tuple(_with_samples(one) for one in base.before),
                "after": tuple(_with_samples(one) for one in base.after),
            }
        )
    values: dict[str, Any] = {
        "quality": quality,
        "data": {"name": "sst2", "digest": "ab" * 32, "evaluation_split": "validation", "samples": {"train": 100}},
        "source": {"kind": "transformers", "name": "minilm-sst2", "commit": None, "digest": "cd" * 32},
        "versions": {"edgekit": "0.1.0", "onnxruntime": "1.23.0"},
        "stages": (STAGES[0], DISTILL, *STAGES[1:]),
        "graphs_before": (Graph(component=WHOLE, operators={"MatMul": 36, "Add": 40}, weight_bytes={"float32": 90}),),
        "graphs_after": (
            Graph(
                component=WHOLE,
                operators={"MatMulInteger": 24, "Add": 30},
                weight_bytes={"int8": 16_000_000, "float32": 1_000_000},
            ),
        ),
    }
    report = base.model_copy(update=values | changes)
    return report.located(describe(base.artifact, labels))


def describe(artifact: Artifact, labels: Sequence[str]) -> Artifact:
    """An artifact with a signature, labels and a tokenizer in its manifest."""
    manifest = artifact.manifest.model_copy(
        update={
            "labels": tuple(labels),
            "components": {WHOLE: Component(files=("model.onnx",), precision="int8", **SIGNATURE)},  # type: ignore[arg-type]
            "preprocessing": {"kind": "tokenizer", "max_length": 512},
            "files": {"model.onnx": "0" * 64, "tokenizer.json": "1" * 64},
        }
    )
    return Artifact(artifact.path, manifest)


def _with_samples(one: Measurement) -> Measurement:
    if one.name != "latency.p50" or one.value is None:
        return one
    return one.model_copy(update={"samples": latencies(one.value)})
