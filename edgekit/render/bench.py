"""A benchmark on a terminal: every figure, and of a gate the change, its interval, the margin and the verdict."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.gate.record import Accuracy, BenchRecord, Metric, Subject, Verdict
from edgekit.gate.wording import change_text, label, margin_text, percent, value_text
from edgekit.render import figures, wording
from edgekit.render.facts import facts, machine_facts, named, titled
from edgekit.render.parts import BAD, DOUBT, FAINT, GOOD, STRONG, make_table

STYLES: dict[Verdict, str] = {
    "pass": GOOD,
    "improvement": GOOD,
    "regression": BAD,
    "inconclusive": DOUBT,
    "invalid": BAD,
}


def bench_view(record: BenchRecord) -> RenderableType:
    """What ``bench`` prints."""
    there: dict[str, object] = {"device": record.timed_on.device, **record.timed_on.facts} if record.timed_on else {}
    told: dict[str, Mapping[str, object]] = {
        "host": machine_facts(record.host.model_dump(mode="json")),
        "timed on": there,
        "runtime": named(record.runtime.model_dump()),
        "protocol": record.protocol.model_dump(exclude_defaults=True),
    }
    sides = {"subject": _subject(record.subject)} | ({"baseline": _subject(record.baseline)} if record.baseline else {})
    parts: list[RenderableType] = [facts(sides)]
    parts.append(metrics_table(record) if record.verdict is None else gate_table(record))
    reasons = [f"{label(one)}: {one.reason}" for one in record.metrics if one.reason]
    parts += titled("Not told", reasons if record.verdict is not None else [])
    parts += [Text(), facts(told), *titled("Emulated", [wording.counted_once(count) for count in record.counts])]
    parts += titled("Accuracy", [accuracy_text(record.accuracy)] if record.accuracy else [])
    parts += titled("Warnings", record.warnings, DOUBT)
    if record.verdict is not None:
        parts += [Text(), Text.assemble("verdict: ", (record.verdict, f"{STRONG} {STYLES[record.verdict]}"))]
    return Group(*parts)


def _subject(subject: Subject) -> dict[str, object]:
    return subject.model_dump(exclude_none=True)


def metrics_table(record: BenchRecord) -> Table:
    """Figures with their intervals and sample sizes."""
    table = make_table("metric", "value", "interval", "n", right=("value", "n"), unbroken=("metric", "n"))
    for one in record.metrics:
        value = f"not measured: {one.reason}" if one.value is None else value_text(one, one.value)
        table.add_row(Text(label(one)), Text(value), Text(_interval(one), style=FAINT), Text(str(one.n or "")))
    return table


def gate_table(record: BenchRecord) -> Table:
    """Figures of both sides, the change with its interval, and the verdict on what is gated; the gated ones first."""
    right = ("baseline", "candidate", "change", "margin")
    table = make_table(
        "metric", *right, "verdict", right=right, unbroken=("baseline", "candidate", "margin", "verdict")
    )
    for one in sorted(record.metrics, key=lambda metric: (metric.verdict is None, metric.margin is None)):
        unmeasured = Text("not measured" if one.margin is not None else "", style=DOUBT)
        verdict = unmeasured if one.verdict is None else Text(one.verdict, style=STYLES[one.verdict])
        cells = [value_text(one, value) for value in (one.baseline, one.value)]
        table.add_row(Text(label(one)), *map(Text, cells), Text(change(one)), Text(margin_text(one)), verdict)
    return table


def change(metric: Metric) -> str:
    """The change of a metric with its interval: ``+3.10% (+2.60 to +3.70)``."""
    text = change_text(metric, metric.delta)
    if metric.delta_ci is None or metric.delta_ci[0] == metric.delta_ci[1]:
        return text
    low, high = map(percent, metric.delta_ci)
    return f"{text} ({low} to {high})"


def accuracy_text(found: Accuracy) -> str:
    """The quality of both sides in one line."""
    text = f"{found.metric} {figures.quality(found.metric, found.candidate)} on {found.n} samples ({found.split})"
    if found.baseline is None:
        return text
    text += f", and the baseline {figures.quality(found.metric, found.baseline)}"
    if found.identical:
        text += "; both gave the same numbers for every sample"
    if found.lost is None or found.gained is None or found.p_value is None:
        return text
    counts = f"{found.lost} answered right by the baseline only, {found.gained} by the candidate only"
    return f"{text}; {counts}; McNemar's p = {found.p_value:.3g}"


def _interval(one: Metric) -> str:
    if one.ci_low is None or one.ci_high is None:
        return ""
    level = f" ({one.level:.0%})" if one.level is not None else ""
    return f"{value_text(one, one.ci_low)} to {value_text(one, one.ci_high)}{level}"
