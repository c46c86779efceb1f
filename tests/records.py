"""Records of benchmarks for tests, and a plan that takes no time."""

from __future__ import annotations

from typing import Any

from edgekit.gate.metrics import STARTED, TIMED
from edgekit.gate.protocol import Plan
from edgekit.gate.record import BenchRecord, HostRecord, Metric, Runtime, Subject, Tool

# Short by its numbers of processes; the budget is what a busy machine may take to start them.
SHORTLY = Plan(budget_s=600.0, process_s=0.05, processes=1, starts=1)
# What a machine without counters of energy tells of a model; one that has them tells that, too.
ALWAYS = {*TIMED[:4], *STARTED}
MODEL = Subject(name="model.onnx", sha256="00" * 32, bytes=17_100_000, format="onnx")


def make_record(*metrics: Metric, **fields: Any) -> BenchRecord:
    """A record of one model, with what is given of it."""
    given: dict[str, Any] = {
        "tool": Tool(version="0.1.0"),
        "created": "2026-01-02T03:04:05Z",
        "host": HostRecord.model_validate({"fingerprint": "ab", "processor": "a processor", "cores": 2}),
        "subject": MODEL,
        "runtime": Runtime(name="onnxruntime", version="1.30.0", provider="CPUExecutionProvider"),
        "metrics": metrics,
    }
    return BenchRecord(**{**given, **fields})


def p50(value: float | None, **fields: Any) -> Metric:
    """A median latency in milliseconds."""
    return Metric(name="latency.p50", unit="ms", value=value, **fields)
