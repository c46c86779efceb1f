"""Records of gates as tests of exports and of the command line use them."""

from __future__ import annotations

from typing import Any

from edgekit.gate.record import Accuracy, BenchRecord, HostRecord, Metric, Protocol, Runtime, Series, Subject, Tool

BLOCKS = ((1.20, 1.24, 1.22, 1.31), (1.25, 1.21, 1.23))
SLOWER = ((1.38, 1.41, 1.40, 1.52), (1.42, 1.37, 1.39))


def gated(name: str, unit: str, verdict: str | None, **fields: Any) -> Metric:
    values = {"value": 1.0, "baseline": 1.0, "delta": 0.0, "delta_ci": (-0.001, 0.001), "level": 0.99, "margin": 0.01}
    return Metric.model_validate({"name": name, "unit": unit, "verdict": verdict, **values, **fields})


METRICS = (
    gated(
        "latency.p50",
        "ms",
        "regression",
        value=1.40,
        ci_low=1.38,
        ci_high=1.42,
        n=84,
        baseline=1.23,
        delta=0.138,
        delta_ci=(0.13, 0.146),
    ),
    gated("size", "bytes", "improvement", value=17_100_000, baseline=90_000_000, delta=-0.81, delta_ci=None, n=1),
    gated("memory.peak", "bytes", "pass", value=81e6, baseline=81e6, n=5, margin=0.03),
    gated(
        "accuracy",
        "1",
        "inconclusive",
        direction="higher",
        value=0.912,
        baseline=0.914,
        delta=-0.002,
        delta_ci=(-0.012, 0.008),
        margin=0.005,
        n=500,
        reason="500 samples are too few",
    ),
    Metric(
        name="throughput", unit="1/s", direction="higher", value=714.2, ci_low=704.0, ci_high=724.0, level=0.99, n=7
    ),
    Metric(name="latency.p99", unit="ms", value=None, n=84, reason="662 inferences are needed"),
)
SERIES = (
    Series(metric="latency.p50", unit="ms", processes=SLOWER),
    Series(metric="latency.p50", unit="ms", side="baseline", processes=BLOCKS),
    Series(metric="memory.peak", unit="bytes", processes=((81e6,),)),
)


def gate(**changes: Any) -> BenchRecord:
    """A gate with a regression, a warning, and names that are markup."""
    fields: dict[str, Any] = {
        "tool": Tool(version="0.1.0"),
        "created": "2026-01-02T03:04:05Z",
        "host": HostRecord.model_validate({"fingerprint": "ab" * 32, "processor": "A <b>CPU</b> | fast", "cores": 2}),
        "subject": Subject(name="new_model.onnx", sha256="11" * 32, bytes=17_100_000, format="onnx"),
        "baseline": Subject(name="old.onnx", sha256="22" * 32, bytes=90_000_000, format="onnx"),
        "runtime": Runtime(name="onnxruntime", version="1.32.0", provider="CPUExecutionProvider"),
        "protocol": Protocol(budget_s=60.0, spent_s=12.5, processes=2, rounds=7, inferences=84, baseline="beside"),
        "metrics": METRICS,
        "accuracy": Accuracy(
            metric="accuracy",
            candidate=0.912,
            baseline=0.914,
            delta=-0.002,
            delta_ci=(-0.012, 0.008),
            level=0.99,
            n=500,
            lost=4,
            gained=3,
            p_value=1.0,
        ),
        "samples": SERIES,
        "warnings": ("other processes used 12% of the processors",),
        "verdict": "regression",
    }
    return BenchRecord.model_validate({**fields, **changes})


def alone(**changes: Any) -> BenchRecord:
    """One model, compared with none."""
    metrics = (
        Metric(name="latency.p50", unit="ms", value=1.40, ci_low=1.38, ci_high=1.42, level=0.99, n=84),
        *METRICS[4:],
    )
    without = {"baseline": None, "metrics": metrics, "accuracy": None, "samples": SERIES[:1], "verdict": None}
    return gate(**{**without, "warnings": (), **changes})
