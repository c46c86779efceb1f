"""The page of several runs: a table, and quality against latency with the runs that no other beats."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.render import figures, wording
from edgekit.render.comparison import LATENCY_AXIS, SIZE_AXIS, AxisName, ComparedRun, Comparison, Group
from edgekit.render.html.document import document
from edgekit.render.html.markup import Child, Html, element, facts, items, join, minus, note, section, table
from edgekit.render.html.scatter import Scale, Spot, scatter
from edgekit.render.html.verdict import badge, when
from edgekit.report import MEGABYTE

# What an axis is called where a run is best, its unit, and its name.
AXES: dict[AxisName, tuple[str, str, str]] = {
    LATENCY_AXIS: ("speed", "ms", "latency p50"),
    SIZE_AXIS: ("size", "MB", "size"),
}
CONTENTS = (("table", "Table"), ("charts", "Quality against cost"), ("details", "Details"))


def comparison_page(comparison: Comparison) -> str:
    """Several runs as one HTML file."""
    runs = comparison.runs
    head = element(
        "header",
        element("p", "edgekit comparison", class_="eyebrow"),
        element("h1", f"{len(runs)} runs side by side"),
        items(comparison.notes, "doubts") if comparison.notes else None,
    )
    charts = [_chart(group, comparison) for group in comparison.groups]
    return document(
        f"{len(runs)} runs compared",
        head,
        section("table", "Table", _table(comparison), lead="In the order given. The numbers are those in the charts."),
        section(
            "charts",
            "Quality against cost",
            *(charts or [element("p", "No two of these runs can stand in one chart.")]),
            lead=(
                "Up is better, left is cheaper. Full circles on the line are the runs that no other run of the chart"
                " beats in both; the other runs are rings, and originals are dashed rings."
            ),
        ),
        section("details", "Details", *_details(comparison)),
        contents=CONTENTS,
        foot="Made by edgekit from the report.json of each run.",
    )


def _table(comparison: Comparison) -> Html:
    rows: list[tuple[Child, ...]] = []
    for number, run in enumerate(comparison.runs, 1):
        metric = run.metric or "metric"
        change = None if run.value is None or run.original_value is None else run.value - run.original_value
        unbeaten = " and ".join(AXES[axis][0] for axis in run.unbeaten)
        verdict = badge("met" if run.passed else "missed", "passed" if run.passed else "missed")
        said = element("div", verdict, f", unbeaten in {unbeaten}" if unbeaten else None, class_="small")
        rows.append(
            (
                join((f"{number}  ", run.name, said)),
                join((figures.quality(metric, run.value), _small(minus(figures.quality_change(metric, change))))),
                join((figures.milliseconds(run.latency_ms), _small(wording.faster(*_latencies(run))))),
                join((figures.megabytes(run.size_bytes), _small(wording.smaller(*_sizes(run))))),
            )
        )
    names = dict.fromkeys(run.metric for run in comparison.runs if run.metric)
    metric = next(iter(names)) if len(names) == 1 else "metric"
    head = ("run", metric, "p50 ms", "MB")
    return table(head, rows, kinds="tnnn", caption="the runs with their figures, each against its original")


def _latencies(run: ComparedRun) -> tuple[float | None, float | None]:
    return run.original_latency_ms, run.latency_ms


def _sizes(run: ComparedRun) -> tuple[int, int]:
    return run.original_size_bytes, run.size_bytes


def _small(written: str) -> Html | None:
    return element("div", written, class_="small") if written else None


def _chart(group: Group, comparison: Comparison) -> Html:
    """Runs as numbered points, the front as steps between them."""
    unit, name = AXES[group.axis][1:]
    scale = 1.0 if group.axis == LATENCY_AXIS else MEGABYTE
    numbers = {run.name: index for index, run in enumerate(comparison.runs, 1)}
    runs = [run for run in comparison.runs if run.name in group.runs]
    spots = [_spot(run, str(numbers[run.name]), group) for run in runs]
    originals = {(run.original_cost(group.axis) / scale, float(run.original_value or 0)) for run in runs}
    return element(
        "figure",
        element("figcaption", element("strong", f"{group.metric} against {name}"), f". {group.what}."),
        scatter(
            spots,
            originals,
            Scale(name, lambda value: f"{value:g} {unit}"),
            Scale(group.metric, lambda value: figures.quality(group.metric, value)),
        ),
        note("Unbeaten, the cheapest first: ", ", ".join(f"{numbers[run]} {run}" for run in group.front), "."),
        class_="wide",
    )


def _spot(run: ComparedRun, label: str, group: Group) -> Spot:
    unit = AXES[group.axis][1]
    cost = run.cost(group.axis) / (1.0 if group.axis == LATENCY_AXIS else MEGABYTE)
    quality = float(run.value or 0)
    told = f"{label} {run.name}: {figures.quality(group.metric, quality)} at {cost:.4g} {unit}"
    return Spot(label, cost, quality, run.name in group.front, told)


def _details(comparison: Comparison) -> Iterator[Child]:
    for number, run in enumerate(comparison.runs, 1):
        latency = f"not measured: {run.not_measured_because}" if run.latency_ms is None else run.machine
        yield element("h3", f"{number}  {run.name}")
        yield facts(
            (
                ("model", run.source),
                ("target", run.target),
                ("recipe", run.recipe or "-"),
                ("quality on", run.data or "not measured"),
                ("latency on", latency),
                ("one inference", f"{run.work}, {wording.threads_text(run.threads)}"),
                ("runtime", wording.runtime_text(run.runtime)),
                ("made", when(run.created)),
            )
        )
