"""The page of several runs: a table, and quality against latency with the runs that no other beats."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from edgekit.render import figures, wording
from edgekit.render.comparison import LATENCY_AXIS, SIZE_AXIS, AxisName, ComparedRun, Comparison, Group
from edgekit.render.html.charts import LEAST_METRIC, Axis, axis_row, figure, level, percent, upright, words
from edgekit.render.html.document import document
from edgekit.render.html.markup import Child, Html, element, facts, items, join, minus, note, section, table
from edgekit.render.html.verdict import badge, when
from edgekit.report import MEGABYTE

HEIGHT, PAD = 320, 30
# A number stands below its point when another point is above it and nearer than this.
NEAR_PERCENT, NEAR_PIXELS = 6.0, 30.0
SAME_PERCENT, SAME_PIXELS = 2.0, 8.0
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
    spots = {run.name: (run.cost(group.axis) / scale, float(run.value or 0)) for run in runs}
    originals = {(run.original_cost(group.axis) / scale, float(run.original_value or 0)) for run in runs}
    everything = [*spots.values(), *originals]
    across = Axis.around([x for x, _ in everything])
    up = Axis.around([y for _, y in everything], zero=False, least=LEAST_METRIC)
    places = {run: (across.at(x), _down(up, y)) for run, (x, y) in spots.items()}
    shapes = [*_grid(up), *_steps([places[run] for run in group.front])]
    shapes += [
        element("circle", cx=percent(across.at(x)), cy=_down(up, y), r=5.0, class_="hollow")
        for x, y in sorted(originals)
    ]
    front = {places[run] for run in group.front}
    spotted: dict[tuple[float, float], list[str]] = {}
    for run, place in places.items():
        near = next((other for other in spotted if _is_same(other, place)), place)
        spotted.setdefault(near, []).append(str(numbers[run]))
        shapes.append(_mark(place, place in front))
    shapes += [_number(place, ", ".join(labels), list(spotted)) for place, labels in spotted.items()]
    said = "; ".join(
        f"{numbers[run]} {run}: {figures.quality(group.metric, y)} at {x:.4g} {unit}" for run, (x, y) in spots.items()
    )
    ticks = [words(100, _down(up, value) + 4, figures.quality(group.metric, value), dx=-8) for value in up.ticks()]
    return element(
        "figure",
        element("figcaption", element("strong", f"{group.metric} against {name}"), f". {group.what}."),
        element(
            "div",
            figure(f"scale of {group.metric}", "round values", *ticks, height=HEIGHT, class_="axis"),
            figure(f"{group.metric} against {name}", said, *shapes, height=HEIGHT, class_="scatter"),
            element("span"),
            axis_row(across, lambda value: f"{value:g} {unit}", name),
            class_="plot",
        ),
        note("Unbeaten, the cheapest first: ", ", ".join(f"{numbers[run]} {run}" for run in group.front), "."),
        class_="wide",
    )


def _down(axis: Axis, value: float) -> float:
    return HEIGHT - PAD - (HEIGHT - 2 * PAD) * axis.at(value) / 100


def _grid(axis: Axis) -> list[Html]:
    return [level(_down(axis, value), "grid") for value in axis.ticks()]


def _steps(front: Sequence[tuple[float, float]]) -> list[Html]:
    """From one unbeaten run to the next, first to the right, then up: the best that can be had at each cost."""
    shapes: list[Html] = []
    for (x1, y1), (x2, y2) in itertools.pairwise(front):
        shapes += [_across(x1, x2, y1), upright(x2, y1, y2, "front")]
    return [*shapes, _across(front[-1][0], 100, front[-1][1])] if front else shapes


def _across(start: float, end: float, y: float) -> Html:
    return element("line", x1=percent(start), x2=percent(end), y1=y, y2=y, class_="front")


def _is_same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two marks would cover each other, so that one number has to do for both."""
    return abs(one[0] - other[0]) < SAME_PERCENT and abs(one[1] - other[1]) < SAME_PIXELS


def _mark(place: tuple[float, float], unbeaten: bool) -> Html:
    kind, radius = ("spot", 6.0) if unbeaten else ("beaten", 5.0)
    return element("circle", cx=percent(place[0]), cy=place[1], r=radius, class_=kind)


def _number(place: tuple[float, float], label: str, marks: Sequence[tuple[float, float]]) -> Html:
    """The number of a run above its mark, or below it where another one is above."""
    x, y = place
    crowded = any(abs(ox - x) < NEAR_PERCENT and 0 < y - oy < NEAR_PIXELS for ox, oy in marks) or y < PAD - 12
    return words(x, y + (21 if crowded else -11), label, "number", anchor="middle")


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
