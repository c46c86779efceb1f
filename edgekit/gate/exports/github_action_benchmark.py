"""JSON of benchmark-action/github-action-benchmark's custom tools: a list of figures, of which all have one direction.

``customSmallerIsBetter`` takes latencies, memory, size and the like; ``customBiggerIsBetter`` throughput and accuracy.
It keeps its own history, so only the candidate's figures are in it; what was not measured is left out.
"""

from __future__ import annotations

import json

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord, Direction, Metric


def write_smaller(record: BenchRecord) -> str:
    """What is better when it is smaller."""
    return _write(record, "lower")


def write_bigger(record: BenchRecord) -> str:
    """What is better when it is bigger."""
    return _write(record, "higher")


def _write(record: BenchRecord, direction: Direction) -> str:
    entries = [
        _entry(metric) for metric in record.metrics if metric.direction == direction and metric.value is not None
    ]
    return json.dumps(entries, indent=2) + "\n"


def _entry(metric: Metric) -> dict[str, str | float | None]:
    entry: dict[str, str | float | None] = {
        "name": wording.label(metric),
        "unit": metric.unit,
        "value": metric.value,
    }
    if metric.ci_low is not None and metric.ci_high is not None:
        entry["range"] = f"{metric.ci_low:g} to {metric.ci_high:g}"
    extra = [f"n = {metric.n}"] if metric.n else []
    extra += [wording.sentence(metric)] if metric.delta is not None else []
    if extra:
        entry["extra"] = "\n".join(extra)
    return entry
