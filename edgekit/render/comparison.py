"""Several runs side by side: as records, and which of them no other beats in both quality and cost.

Two latencies are put on one axis only where the same machine took them, of the same workload on as many threads. Runs
that have no such company are shown by their size, which is the same everywhere, and the comparison says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field, JsonValue

from edgekit.render import wording
from edgekit.render.parts import workload_of
from edgekit.report import Report
from edgekit.settings import Record

AxisName = Literal["latency.p50", "size"]
LATENCY_AXIS: AxisName = "latency.p50"
SIZE_AXIS: AxisName = "size"
COMPANY = 2  # runs that a chart needs


class ComparedRun(Record):
    """One run of a comparison.

    Attributes:
        name: of its folder, with as many folders above it as tell it from the others.
        passed: whether every limit is met (under ``strict``: proven).
        source, source_digest: the model.
        data: which samples the metric is of.
        data_digest: of the data; where the metric compares with the original's answers, of the original, too.
        value, original_value: of the metric; None without data.
        drop_low, drop_high: 90 % interval of the drop.
        n: samples.
        latency_ms, original_latency_ms: p50, all components together; None where it was not measured.
        machine, fingerprint: what it was measured on.
        unbeaten: the axes on which no other run of its chart is better in one and as good in the other.
    """

    name: str
    passed: bool
    status: str
    created: str
    source: str
    source_digest: str
    target: str
    recipe: str
    data: str
    data_digest: str = ""
    metric: str | None = None
    value: float | None = None
    original_value: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    n: int = 0
    latency_ms: float | None = None
    original_latency_ms: float | None = None
    speedup: float | None = None
    size_bytes: int
    original_size_bytes: int
    machine: str
    fingerprint: str
    work: str
    threads: int
    runtime: str
    not_measured_because: str = ""
    unbeaten: tuple[AxisName, ...] = ()

    def cost(self, axis: AxisName) -> float:
        """Milliseconds or bytes."""
        return float(self.size_bytes) if axis == SIZE_AXIS else self.latency_ms or 0.0

    def original_cost(self, axis: AxisName) -> float:
        """The same of the original."""
        return float(self.original_size_bytes) if axis == SIZE_AXIS else self.original_latency_ms or 0.0


class Group(Record):
    """Runs that one chart holds.

    Attributes:
        axis: what stands against the metric.
        metric: its name.
        what: where and how the figures were taken.
        runs: names, in the order given.
        front: those that no other beats, cheapest first.
    """

    axis: AxisName
    metric: str
    what: str
    runs: tuple[str, ...]
    front: tuple[str, ...]


class Comparison(Record):
    """Several runs side by side."""

    schema_: Literal["edgekit.comparison/1"] = Field("edgekit.comparison/1", alias="schema")
    runs: tuple[ComparedRun, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


Key = tuple[JsonValue, ...]


def compare_reports(reports: Sequence[Report]) -> Comparison:
    """Runs side by side, in groups whose figures may stand on one axis.

    Args:
        reports: those that know where their artifacts lie.
    """
    names = _names(reports)
    runs = [_run(name, report) for name, report in zip(names, reports, strict=True)]
    groups = list(_groups(runs))
    placed = [
        run.model_copy(update={"unbeaten": tuple(group.axis for group in groups if run.name in group.front)})
        for run in runs
    ]
    return Comparison(runs=tuple(placed), groups=tuple(groups), notes=tuple(_notes(runs, groups)))


def _run(name: str, report: Report) -> ComparedRun:
    first, last, quality = report.ledger[0], wording.last_kept(report), report.quality
    timed = first.latency_ms is not None and last.latency_ms is not None
    cores = report.timed_on.facts.get("cores") if report.timed_on else report.host.cores
    return ComparedRun(
        name=name,
        passed=report.passed,
        status=report.status,
        created=report.created,
        source=str(report.source.get("name") or ""),
        source_digest=str(report.source.get("digest") or ""),
        target=report.target,
        recipe=str(report.recipe.get("name") or ""),
        data=f"{report.data.get('name') or 'data'}, {quality.split}" if quality else "",
        data_digest=_data_digest(report),
        metric=quality.metric if quality else None,
        value=quality.after if quality else None,
        original_value=quality.before if quality else None,
        drop_low=quality.drop_low if quality else None,
        drop_high=quality.drop_high if quality else None,
        n=quality.n if quality else 0,
        latency_ms=last.latency_ms if timed else None,
        original_latency_ms=first.latency_ms if timed else None,
        speedup=(first.latency_ms or 0) / last.latency_ms if timed and last.latency_ms else None,
        size_bytes=last.size_bytes,
        original_size_bytes=first.size_bytes,
        machine=f"{wording.timed_on(report)}, {cores} cores" if cores else wording.timed_on(report),
        fingerprint=(report.timed_on or report.host).fingerprint,
        work=workload_of(report.task, report.workload),
        threads=report.threads,
        runtime=report.runtime,
        not_measured_because="" if timed else report.not_measured_because or "its report has no latency",
    )


def _data_digest(report: Report) -> str:
    """What a metric is of beside the samples' names: other data may be called the same."""
    said = [report.data.get("digest"), *([report.source.get("digest")] if _by_original(report) else [])]
    return " ".join(str(digest) for digest in said if digest)


def _by_original(report: Report) -> bool:
    """Whether the metric compares with the original's answers, which another original does not give."""
    return report.quality is not None and report.quality.against == "original"


def _names(reports: Sequence[Report]) -> list[str]:
    """Names of the folders, with folders above them while two are the same."""
    parts = [report.artifact.path.resolve().parts for report in reports]
    depth = 1
    while depth < max(map(len, parts)) and len({part[-depth:] for part in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _groups(runs: Sequence[ComparedRun]) -> Iterator[Group]:
    """For runs with the same metric on the same data: their latencies by kind, and sizes where those leave one out."""
    for quality in dict.fromkeys(map(_quality_key, runs)):
        peers = [run for run in runs if _quality_key(run) == quality]
        if quality is None or len(peers) < COMPANY:
            continue
        charted: set[str] = set()
        for kind in dict.fromkeys(map(_latency_key, peers)):
            members = [run for run in peers if _latency_key(run) == kind]
            if kind is not None and len(members) >= COMPANY:
                charted.update(run.name for run in members)
                yield _group(LATENCY_AXIS, members)
        if any(run.name not in charted for run in peers):
            yield _group(SIZE_AXIS, peers)


def _quality_key(run: ComparedRun) -> Key | None:
    """Metrics of one key may be compared; None where there is none."""
    return None if run.value is None else (run.metric, run.data, run.data_digest, run.n)


def _latency_key(run: ComparedRun) -> Key | None:
    """Latencies of one key may stand on one axis; None where there is none."""
    return None if run.latency_ms is None else (run.fingerprint, run.runtime, run.work, run.threads)


def _group(axis: AxisName, runs: Sequence[ComparedRun]) -> Group:
    one = runs[0]
    what = f"{one.metric} on {one.data}, {one.n} samples"
    if axis == LATENCY_AXIS:
        work = f"{wording.runtime_text(one.runtime)}, {one.work}, {wording.threads_text(one.threads)}"
        what = f"{what}; {one.machine}, {work}"
    front = _front(runs, axis)
    return Group(axis=axis, metric=str(one.metric), what=what, runs=tuple(run.name for run in runs), front=tuple(front))


def _front(runs: Sequence[ComparedRun], axis: AxisName) -> list[str]:
    """Runs that no other beats: none is at least as good in both and better in one. The cheapest first."""

    def beats(other: ComparedRun, run: ComparedRun) -> bool:
        mine, theirs = (run.cost(axis), -(run.value or 0)), (other.cost(axis), -(other.value or 0))
        return theirs[0] <= mine[0] and theirs[1] <= mine[1] and theirs != mine

    ordered = sorted(runs, key=lambda run: run.cost(axis))
    return [run.name for run in ordered if not any(beats(other, run) for other in runs)]


def _notes(runs: Sequence[ComparedRun], groups: Sequence[Group]) -> Iterator[str]:
    timed = [run for run in runs if run.latency_ms is not None]
    kinds = {
        "machine": {run.fingerprint for run in timed},
        "runtime": {run.runtime for run in timed},
        "workload": {run.work for run in timed},
        "threads": {str(run.threads) for run in timed},
    }
    differing = [name for name, values in kinds.items() if len(values) > 1]
    if differing:
        yield (
            f"Not all latencies are of the same {' and '.join(differing)}. Those that are not never share an axis, and"
            " their milliseconds cannot be compared."
        )
    untimed = [run for run in runs if run.latency_ms is None]
    for reason in dict.fromkeys(run.not_measured_because for run in untimed):
        names = ", ".join(run.name for run in untimed if run.not_measured_because == reason)
        yield f"Latency was not measured, so that only size can be compared: {names} ({reason})."
    charted = {name for group in groups for name in group.runs}
    alone = [run.name for run in runs if run.name not in charted]
    if alone:
        yield f"In no chart, since no other run has the same metric on the same data: {', '.join(alone)}."
    yield from _drifts(runs, groups)
    interim = [run.name for run in runs if run.status != "complete"]
    if interim:
        yield f"Not finished, the best so far: {', '.join(interim)}."


def _drifts(runs: Sequence[ComparedRun], groups: Sequence[Group]) -> Iterator[str]:
    """How much one and the same original differed between the sessions of the runs in a chart."""
    for group in groups:
        if group.axis != LATENCY_AXIS:
            continue
        members = [run for run in runs if run.name in group.runs]
        for digest in dict.fromkeys(run.source_digest for run in members):
            same = [run for run in members if run.source_digest == digest]
            times = [run.original_cost(LATENCY_AXIS) for run in same]
            if len(times) > 1:
                yield (
                    f"Each run was timed on its own. The same original, {same[0].source}, took {min(times):.2f} to"
                    f" {max(times):.2f} ms: what differs by less than {max(times) / min(times) - 1:.0%} may be the"
                    " machine's doing."
                )
