"""Results of one metric over time, as ``bench --save`` kept them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from edgekit.bounds import MAX_REPORT_BYTES, visible
from edgekit.errors import ArtifactError, UnknownNameError
from edgekit.gate import wording
from edgekit.gate.metrics import METRICS
from edgekit.gate.record import SCHEMA, BenchRecord, Verdict, load_record
from edgekit.settings import Record, schema_said

FAMILY = SCHEMA.partition("/")[0]


class Point(Record):
    """One metric of one result.

    Attributes:
        created: when, in UTC.
        file: the name of the file.
        subject: the name of the model.
        sha256: its digest.
        component: the part of it.
        machine: fingerprint of the machine; points of two machines are not compared.
        runtime: what ran it, with its version and its threads.
        workload: what one inference was; nor are points compared of two runtimes or workloads.
        unit: of the value.
        value: of the metric.
        ci_low, ci_high: its interval, where it has one.
        verdict: of this metric, where it was gated.
    """

    created: str
    file: str
    subject: str
    sha256: str
    component: str
    machine: str
    runtime: str = ""
    workload: Mapping[str, JsonValue] = {}
    unit: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: Verdict | None = None


class History(Record):
    """All points of a metric, the oldest first.

    Attributes:
        metric: its name.
        points: of all results that have a value of it.
        without: names of files of results that have none.
        others: names of files that are no results.
        unreadable: names of files in a folder that say they are results and cannot be read, such as those of another
            version, and why.
    """

    schema_: Literal["edgekit.history/1"] = Field("edgekit.history/1", alias="schema")
    metric: str
    points: tuple[Point, ...]
    without: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = {}


def read_history(path: str | Path, metric: str = "latency.p50") -> History:
    """The history of a metric in a file, or in all files ``*.json`` of a folder, whose names may be any.

    Raises:
        UnknownNameError: there is no such metric.
        ArtifactError: there is nothing there, no result among it that can be read, or the one file is none.
    """
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS, id="unknown-name.metric")
    root = Path(path).expanduser()
    files = sorted(file for file in root.glob("*.json") if file.is_file()) if root.is_dir() else [root]
    others = [file for file in files if root.is_dir() and not _is_result(file)]
    records, unreadable = list[tuple[str, BenchRecord]](), dict[str, str]()
    for file in files:
        if file in others:
            continue
        try:
            records.append((visible(file.name), load_record(file)))
        except ArtifactError as error:
            if not root.is_dir():
                raise
            unreadable[visible(file.name)] = visible(error.why)
    if not records:
        raise ArtifactError(
            f"there are no results of bench in {str(path)!r}",
            id="artifact.missing",
            why="; ".join(f"{name}: {why}" for name, why in unreadable.items()),
            hint="Keep some: `edgekit bench PATH --save FILE`.",
        )
    points = [point for name, record in records for point in _points(name, record, metric)]
    known = {point.file for point in points}
    return History(
        metric=metric,
        points=tuple(sorted(points, key=lambda point: point.created)),
        without=tuple(name for name, _ in records if name not in known),
        others=tuple(visible(file.name) for file in others),
        unreadable=unreadable,
    )


def _is_result(file: Path) -> bool:
    """Whether a file says that it is a result, of whatever version."""
    said = schema_said(file.read_bytes()) if file.stat().st_size <= MAX_REPORT_BYTES else None
    return said is not None and said.partition("/")[0] == FAMILY


def _points(file: str, record: BenchRecord, metric: str) -> list[Point]:
    found = [one for one in record.metrics if one.name == metric and one.value is not None]
    return [
        Point(
            created=record.created,
            file=file,
            subject=record.subject.name,
            sha256=record.subject.sha256,
            component=one.component,
            machine=f"{record.machine[:12]}{f' {one.device}' if one.device else ''}",
            runtime=wording.runtime_text(record.runtime),
            workload=record.protocol.workload,
            unit=one.unit,
            value=one.value or 0.0,
            ci_low=one.ci_low,
            ci_high=one.ci_high,
            verdict=one.verdict,
        )
        for one in found
    ]
