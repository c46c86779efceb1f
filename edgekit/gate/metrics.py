"""The metrics of a benchmark: their units, which is better, and how they are shown to be worse."""

from __future__ import annotations

from typing import NamedTuple

from edgekit.gate.record import Direction


class Kind(NamedTuple):
    """What a metric is.

    Attributes:
        unit: as the record has it.
        direction: which is better.
        points: whether a change of it is a difference on its own scale, and not relative.
    """

    unit: str
    direction: Direction = "lower"
    points: bool = False


METRICS: dict[str, Kind] = {
    "latency.p50": Kind("ms"),
    "latency.p90": Kind("ms"),
    "latency.p99": Kind("ms"),
    "throughput": Kind("1/s", "higher"),
    "cold_start": Kind("ms"),
    "load": Kind("ms"),
    "memory.peak": Kind("bytes"),
    "size": Kind("bytes"),
    "instructions": Kind("instructions"),
    "energy": Kind("uJ"),
    "accuracy": Kind("1", "higher", points=True),
}
# What the blocks of an inference's time give, and what fresh processes of one model give.
TIMED = ("latency.p50", "latency.p90", "latency.p99", "throughput", "energy")
STARTED = ("cold_start", "load", "memory.peak")
