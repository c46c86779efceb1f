"""JSON of google/benchmark, for its ``compare.py``: each sample is a repetition, candidate and baseline by their names.

It knows times only. ``cpu_time`` is 0: the time of a processor is not measured. To compare both sides of one file:
``compare.py filters FILE baseline candidate``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord

# Its compare.py prints whole numbers, whatever the unit.
NS_PER_MS = 1e6
AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.mean,
    "median": statistics.median,
    "stddev": lambda samples: statistics.stdev(samples) if len(samples) > 1 else 0.0,
}


def write(record: BenchRecord) -> str:
    """The document."""
    cores = str(wording.machine_facts(record).get("cores"))
    entries = []
    for family, (name, series, samples_ms) in enumerate(wording.timed(record)):
        samples = [one * NS_PER_MS for one in samples_ms]
        shared = {
            "family_index": family,
            "per_family_instance_index": 0,
            "run_name": f"{name}/{series.side}",
            "repetitions": len(samples),
            "threads": record.runtime.threads,
            "cpu_time": 0.0,
            "time_unit": "ns",
        }
        entries += [_repetition(shared, index, sample) for index, sample in enumerate(samples)]
        entries += [_aggregate(shared, kind, compute(samples)) for kind, compute in AGGREGATES.items()]
    document = {
        "context": {
            "date": record.created,
            "host_name": record.machine[:12],
            "executable": f"edgekit bench {record.subject.name}",
            "num_cpus": int(cores) if cores.isdecimal() else 1,
            "mhz_per_cpu": 0,
            "cpu_scaling_enabled": False,
            "caches": [],
            "load_avg": [],
            "library_build_type": "release",
            "json_schema_version": 1,
        },
        "benchmarks": entries,
    }
    return json.dumps(document, indent=2) + "\n"


def _repetition(shared: dict[str, Any], index: int, sample: float) -> dict[str, Any]:
    own = {"run_type": "iteration", "repetition_index": index, "iterations": 1, "real_time": sample}
    return {"name": shared["run_name"], **shared, **own}


def _aggregate(shared: dict[str, Any], kind: str, value: float) -> dict[str, Any]:
    own = {"run_type": "aggregate", "aggregate_name": kind, "aggregate_unit": "time", "iterations": 1}
    return {"name": f"{shared['run_name']}_{kind}", **shared, **own, "real_time": value}
