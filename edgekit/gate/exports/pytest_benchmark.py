"""JSON of pytest-benchmark, for ``pytest-benchmark compare``: times in seconds, candidate and baseline as two.

It knows times only. A round is one sample of the record (of the latency, the median of a block), and its statistics are
those of pytest-benchmark's ``stats.py``: quartiles by halves, outliers beyond 1.5 interquartile ranges.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord

# The version of pytest-benchmark whose files these are like.
VERSION = "5.1.0"
SUITE = "edgekit bench"
FENCE = 1.5


def write(record: BenchRecord) -> str:
    """The document."""
    facts = wording.machine_facts(record)
    benchmarks = [
        {
            "group": name,
            "name": f"{name}[{series.side}]",
            "fullname": f"{SUITE}::{name}[{series.side}]",
            "params": {"side": series.side},
            "param": series.side,
            "extra_info": {"subject": _subject(record, series.side)},
            "options": {
                "disable_gc": False,
                "timer": "perf_counter",
                "min_rounds": 1,
                "max_time": record.protocol.budget_s or 0.0,
                "min_time": 0.0,
                "warmup": bool(record.protocol.trimmed),
            },
            "stats": summarize([one / 1e3 for one in samples]),
        }
        for name, series, samples in wording.timed(record)
    ]
    document = {
        "machine_info": {
            "node": record.machine[:12],
            "processor": facts.get("processor", ""),
            "machine": facts.get("architecture", ""),
            "python_version": facts.get("python", ""),
            "system": facts.get("system", ""),
        },
        "commit_info": {"id": "unversioned", "time": None, "author_time": None, "dirty": False, "branch": "(unknown)"},
        "benchmarks": benchmarks,
        "datetime": record.created,
        "version": VERSION,
    }
    return json.dumps(document, indent=2) + "\n"


def _subject(record: BenchRecord, side: str) -> str:
    subject = record.baseline if side == "baseline" and record.baseline else record.subject
    return f"{subject.name} {subject.sha256}"


def summarize(seconds: Sequence[float]) -> dict[str, Any]:
    """Statistics of a series, at least one sample."""
    ordered = sorted(seconds)
    count, total, mean = len(ordered), sum(ordered), statistics.mean(ordered)
    spread = statistics.stdev(ordered) if count > 1 else 0.0
    low, high = _quartiles(ordered)
    iqr = high - low
    fences = low - FENCE * iqr, high + FENCE * iqr
    inside = [one for one in ordered if fences[0] <= one <= fences[1]]
    far = sum(abs(one - mean) > spread for one in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": count,
        "median": statistics.median(ordered),
        "iqr": iqr,
        "q1": low,
        "q3": high,
        "iqr_outliers": count - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{count - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": count / total if total else 0.0,
        "total": total,
        "iterations": 1,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Medians of the lower and of the upper half, the middle one in both by a quarter (method 3 of the usual names)."""
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    if count % 2 == 0:
        return statistics.median(ordered[: count // 2]), statistics.median(ordered[count // 2 :])
    n, rest = divmod(count, 4)
    if rest == 1:
        return (
            0.25 * ordered[n - 1] + 0.75 * ordered[n],
            0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1],
        )
    return (
        0.75 * ordered[n] + 0.25 * ordered[n + 1],
        0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2],
    )
