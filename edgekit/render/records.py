"""Every other record on a terminal: a plan, a bench, an evaluation, predictions, a verification, a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.artifact import WHOLE
from edgekit.render import figures, wording
from edgekit.render.comparison import LATENCY_AXIS, Comparison
from edgekit.render.facts import facts, machine_facts, named, titled
from edgekit.render.parts import (
    BAD,
    DOUBT,
    FAINT,
    GOOD,
    STRONG,
    items,
    make_grid,
    make_table,
    pairs,
    title,
    whole_line,
    workload_of,
)
from edgekit.report import EvalRecord, Measurement


class StepFacts(Protocol):
    """What a view needs of one step of a plan."""

    @property
    def stage(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, JsonValue]: ...
    @property
    def cached(self) -> bool: ...
    @property
    def seconds(self) -> float | None: ...


class EmulationFacts(Protocol):
    """What emulated processors take in a plan."""

    @property
    def devices(self) -> Sequence[str]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def download_bytes(self) -> int: ...


class PlanFacts(Protocol):
    """What a view needs of a plan; `edgekit.api` lies above this package, so its class is not named here."""

    @property
    def source(self) -> Mapping[str, object]: ...
    @property
    def target(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def measured(self) -> bool: ...
    @property
    def not_measured_because(self) -> str: ...
    @property
    def devices(self) -> Sequence[str]: ...
    @property
    def emulation(self) -> EmulationFacts | None: ...
    @property
    def workload(self) -> Mapping[str, object]: ...
    @property
    def output(self) -> str: ...
    @property
    def steps(self) -> Sequence[StepFacts]: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def disk_bytes(self) -> int: ...
    @property
    def disk_free_bytes(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...


class VerifyFacts(Protocol):
    """What a view needs of a verification."""

    @property
    def files(self) -> int: ...
    @property
    def golden(self) -> Mapping[str, float]: ...
    @property
    def tolerance(self) -> float | None: ...
    @property
    def signed(self) -> bool: ...


def plan_view(plan: PlanFacts) -> RenderableType:
    """What ``compress --dry-run`` prints: the resolved chain with its time and disk."""
    name = plan.source.get("name") or plan.source.get("location") or "the model"
    table = make_table("stage", "settings", "time", unbroken=("stage", "time"))
    for step in plan.steps:
        table.add_row(Text(step.stage), Text(pairs(step.settings), style=FAINT), Text(_step_time(step)))
    measured = f"on {plan.devices[0]}" if plan.measured else f"not measured: {plan.not_measured_because}"
    if plan.devices and not plan.measured:
        measured += f"; instructions are counted on {' and '.join(plan.devices)}"
    facts = make_grid(
        [
            ("task", plan.task),
            ("latency", measured),
            *([("emulation", _emulation(plan.emulation))] if plan.emulation else []),
            ("workload", workload_of(plan.task, plan.workload)),
            ("time", "unknown" if plan.seconds is None else f"about {figures.roughly(plan.seconds)}"),
            ("disk", f"{figures.storage(plan.disk_bytes)} needed, {figures.storage(plan.disk_free_bytes)} free"),
            ("output", plan.output),
        ]
    )
    parts: list[RenderableType] = [Text(f"Plan: {name} for {plan.target}", style=STRONG), facts, title("Stages"), table]
    if plan.disk_bytes > plan.disk_free_bytes:
        parts.append(Text("there is not enough room on the disk", style=DOUBT))
    if plan.notes:
        parts += [title("Notes"), items(plan.notes)]
    return Group(*parts)


def _emulation(planned: EmulationFacts) -> str:
    """How long, on what, and what is fetched first."""
    time = f"about {figures.roughly(planned.seconds)}" if planned.seconds else "cached"
    fetched = figures.storage(planned.download_bytes)
    first = f"; first about {fetched} are downloaded to set it up" if planned.download_bytes else ""
    return f"{time}, on {' and '.join(planned.devices)}{first}"


def eval_view(record: EvalRecord) -> RenderableType:
    """What ``eval`` prints."""
    return Group(
        facts({"subject": record.subject}),
        metrics_table(record.metrics),
        Text(),
        facts({"data": record.data, "runtime": named(record.runtime), "host": machine_facts(record.host)}),
        *titled("On other devices", [wording.check_text(check) for check in record.devices]),
        *titled("Warnings", record.warnings, DOUBT),
    )


def metrics_table(metrics: Sequence[Measurement]) -> Table:
    """Measurements with their intervals and sample sizes."""
    table = make_table("metric", "value", "interval", "n", right=("value", "n"), unbroken=("metric", "n"))
    for one in metrics:
        name = one.name if one.component == WHOLE else f"{one.name}, {one.component}"
        value = (
            f"not measured: {one.reason}" if one.value is None else figures.measurement(one.name, one.unit, one.value)
        )
        table.add_row(Text(name), Text(value), Text(_interval(one), style=FAINT), Text(str(one.n) if one.n else ""))
    return table


def predictions_view(inputs: Sequence[str], answers: Sequence[Sequence[tuple[str, float]]]) -> RenderableType:
    """What ``predict`` prints: each input, and under it its labels, best first."""
    table = make_table("input", "label", "score", right=("score",), unbroken=("score",))
    for text, labels in zip(inputs, answers, strict=True):
        for index, (label, score) in enumerate(labels):
            table.add_row(Text(text if index == 0 else ""), Text(label), Text(f"{score:.4f}"))
    return table


def verify_view(path: str, record: VerifyFacts) -> RenderableType:
    """What ``verify`` prints when all is well."""
    largest = max(record.golden.values(), default=0.0)
    tolerance = "" if record.tolerance is None else f" (tolerance {record.tolerance:.0e})"
    lines = [
        f"{record.files} files are as they were sealed, nothing is missing and nothing was added",
        f"golden outputs: largest difference {largest:.1e}{tolerance}"
        if record.golden
        else "golden outputs: none in this artifact",
        *(["the signature is of this key and of these files"] if record.signed else []),
    ]
    return Group(whole_line(("verified", f"{STRONG} {GOOD}"), f"  {path}"), items(lines))


def comparison_view(comparison: Comparison) -> RenderableType:
    """What ``report`` prints of several runs."""
    metrics = dict.fromkeys(run.metric for run in comparison.runs if run.metric)
    metric = next(iter(metrics)) if len(metrics) == 1 else "metric"
    figured = (metric, "p50 ms", "faster", "MB", "smaller")
    table = make_table("run", "limits", *figured, "unbeaten in", right=figured, unbroken=figured)
    for run in comparison.runs:
        passed = Text("passed", style=GOOD) if run.passed else Text("missed", style=BAD)
        cells = (
            figures.quality(run.metric or "", run.value),
            figures.milliseconds(run.latency_ms),
            _times(run.original_latency_ms, run.latency_ms),
            figures.megabytes(run.size_bytes),
            _times(run.original_size_bytes, run.size_bytes),
        )
        unbeaten = ", ".join("speed" if axis == LATENCY_AXIS else "size" for axis in run.unbeaten)
        table.add_row(Text(run.name), passed, *map(Text, cells), Text(unbeaten))
    parts: list[RenderableType] = [table]
    if comparison.notes:
        parts += [title("Notes"), items(comparison.notes, DOUBT)]
    return Group(*parts)


def _times(before: float | None, after: float | None) -> str:
    return f"{before / after:.1f}x" if before and after else "-"


def table_view(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A catalogue: the first column keeps to one line, the others wrap."""
    table = make_table(*columns, unbroken=columns[:1])
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _step_time(step: StepFacts) -> str:
    if step.cached:
        return "cached"
    return "unknown" if step.seconds is None else f"about {figures.roughly(step.seconds)}"


def _interval(one: Measurement) -> str:
    if one.ci_low is None or one.ci_high is None:
        return ""
    low, high = (figures.measurement(one.name, one.unit, end) for end in (one.ci_low, one.ci_high))
    level = f" ({one.level:.0%})" if one.level is not None else ""
    return f"{low} to {high}{level}"
