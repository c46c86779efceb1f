"""Reports built by hand: what a run on the MiniLM would say, with a stage undone, and one that was not measured."""

from __future__ import annotations

from pathlib import Path

from edgekit.artifact import WHOLE, Artifact, Component, Manifest
from edgekit.environment import Host
from edgekit.ledger import LedgerRow, build_ledger
from edgekit.report import LimitVerdict, Measurement, Quality, Report, StageReport

HOST = Host(
    architecture="x86_64",
    processor="a processor",
    features=("avx2", "fma"),
    cores=2,
    memory_bytes=8_000_000_000,
    system="Linux",
    python="3.11.9",
)
ELSEWHERE = "the target is aarch64 and this machine is x86_64"
QUALITY = Quality(
    metric="accuracy",
    before=0.9128,
    after=0.9106,
    drop=0.0022,
    drop_low=-0.0051,
    drop_high=0.0084,
    n=872,
    flips=12,
    cosine=0.9987,
    split="validation, all of it",
    looks=2,
)
STAGES = (
    StageReport(
        stage="prune",
        settings={"ratio": 0.74},
        details={
            "before": {"layers": 6, "heads": 12, "neurons": 1536},
            "kept": [
                {"layer": 0, "heads": 6, "neurons": 512},
                {"layer": 2, "heads": 4, "neurons": 384},
                {"layer": 3, "heads": 4, "neurons": 384},
                {"layer": 5, "heads": 3, "neurons": 416},
            ],
            "macs_before": 1000,
            "macs_after": 260,
        },
    ),
    StageReport(
        stage="optimize",
        settings={},
        details={
            "model": {
                "timed_as": "dynamic INT8",
                "rewrites": [
                    {"rewrite": "gelu", "nodes": 4, "kept": True},
                    {"rewrite": "attention", "nodes": 4, "kept": False},
                    {"rewrite": "constants", "nodes": 0, "kept": False},
                ],
            }
        },
    ),
    StageReport(
        stage="quantize",
        settings={},
        details={"scheme": {"method": "dynamic"}, "layers": 28, "fallback_layers": ["model/pooler"]},
    ),
    StageReport(stage="verify", settings={}, details={"quality": None}),
)
DROP = LimitVerdict(limit="max_drop", bound=0.01, value=0.0022, met=True, proven=True)


def make_artifact(folder: Path) -> Artifact:
    """A folder with a model file of 17.1 MB, by its size alone, and 0.9 MB beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in (("model.onnx", 17_100_000), ("tokenizer.json", 900_000)):
        with (folder / name).open("wb") as stream:
            stream.truncate(size)
    component = Component(files=("model.onnx",), inputs=(), outputs=(), precision="int8")
    return Artifact(
        folder, Manifest(format="onnx", task="text-classification", source={}, components={WHOLE: component})
    )


def make_ledger(*, measured: bool = True) -> tuple[LedgerRow, ...]:
    """Five stages, of which optimize was undone."""
    rows = [
        LedgerRow(stage="original", metric=0.9128, size_bytes=90_900_000, latency_ms=41.2),
        LedgerRow(stage="prune", metric=0.8716, size_bytes=55_100_000, latency_ms=13.1, reason="judged with distill"),
        LedgerRow(
            stage="distill", metric=0.9117, size_bytes=55_100_000, latency_ms=13.0, reason="3.2x faster, 1.6x smaller"
        ),
        LedgerRow(stage="export", metric=0.9117, size_bytes=55_300_000, latency_ms=13.0, reason="never judged"),
        LedgerRow(
            stage="optimize",
            kept=False,
            metric=0.9117,
            size_bytes=55_300_000,
            latency_ms=13.4,
            reason="neither faster nor smaller: fused attention is slower at 128 tokens here",
        ),
        LedgerRow(
            stage="quantize", metric=0.9106, size_bytes=17_100_000, latency_ms=6.8, reason="1.9x faster, 3.2x smaller"
        ),
    ]
    return build_ledger([row if measured else row.model_copy(update={"latency_ms": None}) for row in rows])


def make_report(folder: Path, *, measured: bool = True, cached: bool = False, **changes: object) -> Report:
    """A report of a run whose artifact lies in ``folder``; ``changes`` replace its fields."""
    reason = "" if measured else ELSEWHERE

    def latency(name: str, value: float) -> Measurement:
        return Measurement(
            name=name, unit="ms", value=value if measured else None, n=200 if measured else 0, reason=reason
        )

    report = Report(
        edgekit="0.1.0",
        created="2026-01-01T00:00:00Z",
        source={"kind": "transformers", "name": "minilm-sst2"},
        source_size_bytes=90_900_000,
        task="text-classification",
        target="x86-64-vnni" if measured else "arm64",
        runtime="onnxruntime 1.23",
        measured=measured,
        not_measured_because=reason,
        workload={"batch": 1, "tokens": 128, "image": None},
        threads=1,
        jobs=2,
        seed=0,
        host=HOST,
        versions={},
        recipe={"name": "default"},
        ledger=make_ledger(measured=measured),
        before=(
            latency("latency.p50", 41.2),
            latency("latency.p90", 43.0),
            Measurement(name="size", unit="bytes", value=90_900_000),
            Measurement(name="memory.peak", unit="bytes", value=212_000_000 if measured else None, n=1, reason=reason),
            Measurement(name="accuracy", unit="1", value=0.9128, n=872),
        ),
        after=(
            latency("latency.p50", 6.8),
            latency("latency.p90", 7.1),
            Measurement(name="size", unit="bytes", value=17_100_000),
            Measurement(name="memory.peak", unit="bytes", value=81_000_000 if measured else None, n=1, reason=reason),
            Measurement(name="accuracy", unit="1", value=0.9106, n=872),
        ),
        quality=QUALITY,
        limits=(DROP,),
        stages=STAGES,
        notes=("the evaluation split was looked at twice of at most five times",),
        warnings=("the machine was busy: the p50 of two runs differs by 4%, so differences below that are noise",),
        seconds=1872.4,
    ).model_copy(update=changes)
    return report.located(make_artifact(folder), cached=cached)
