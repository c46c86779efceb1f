"""Bencher Metric Format (bencher.dev/docs/reference/bencher-metric-format): a benchmark a metric, each with a measure.

Bencher's own measures are in nanoseconds (``latency``), operations a second (``throughput``) and bytes (``file-size``);
the others are made when they are first seen. It keeps its own history, so only the candidate's figures are in it.
"""

from __future__ import annotations

import json

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord, Metric

# By the first part of a metric's name: the measure, and what one unit of the metric is in the measure's unit.
MEASURES = {
    "latency": ("latency", 1e6),
    "cold_start": ("latency", 1e6),
    "load": ("latency", 1e6),
    "throughput": ("throughput", 1.0),
    "memory": ("memory", 1.0),
    "size": ("file-size", 1.0),
    "instructions": ("instructions", 1.0),
    "energy": ("energy", 1.0),
    "accuracy": ("accuracy", 1.0),
}


def write(record: BenchRecord) -> str:
    """The document."""
    found = {wording.label(metric): _measure(metric) for metric in record.metrics if metric.value is not None}
    return json.dumps(found, indent=2) + "\n"


def _measure(metric: Metric) -> dict[str, dict[str, float]]:
    name, scale = MEASURES[metric.name.partition(".")[0]]
    given = {"value": metric.value, "lower_value": metric.ci_low, "upper_value": metric.ci_high}
    return {name: {key: value * scale for key, value in given.items() if value is not None}}
