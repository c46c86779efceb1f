"""How fast: the distributions of original and result on one scale, then each on its own."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.artifact import WHOLE
from edgekit.render import figures, wording
from edgekit.render.html.charts import Axis, axis_row, histogram, strip
from edgekit.render.html.markup import Child, Html, element, items, note, section, table
from edgekit.report import Measurement, Report

COUNTED = (
    "Instructions were counted under emulation. They compare kernels and graphs on that processor; how long they take"
    " there, only the processor itself can tell."
)
Side = tuple[str, str, Measurement, Measurement | None]  # name, class of its marks, p50 with the samples, p90


def latency(report: Report) -> Html:
    """The section: for each component, both distributions."""
    parts: list[Child] = []
    for component in dict.fromkeys(one.component for one in report.after if one.name == "latency.p50"):
        sides = [
            side
            for side in (
                _side(report.before, component, "original", "before"),
                _side(report.after, component, "result", "after"),
            )
            if side is not None
        ]
        if sides:
            parts += [None if component == WHOLE else element("h3", component), *_distributions(sides)]
    rows = [row for one in sorted(report.after, key=wording.order) if (row := _row(report, one)) is not None]
    parts.append(table(("", "original", "result", "change"), rows, kinds="tnnt", caption="speed, memory and size"))
    said = [*wording.counted(report), *wording.checked(report)]
    if said:
        parts += [element("h3", "On the device"), items(said), note(COUNTED) if report.counts_after else None]
    missing = wording.not_measured(report)
    if missing:
        parts.append(items(missing, "doubts"))
    if not report.measured:
        lead = "Latency was not measured, and is not guessed."
    else:
        lead = (
            f"One inference is {wording.timing(report)}. Both were timed in turns, in one run,"
            " so that what slows the machine slows both."
        )
    return section("latency", "Latency and memory", *parts, lead=lead)


def _side(measurements: Sequence[Measurement], component: str, name: str, kind: str) -> Side | None:
    found = {one.name: one for one in measurements if one.component == component}
    p50 = found.get("latency.p50")
    return None if p50 is None or p50.value is None else (name, kind, p50, found.get("latency.p90"))


def _distributions(sides: Sequence[Side]) -> list[Child]:
    drawn = [side for side in sides if len(side[2].samples) > 1]
    if not drawn:
        return [note("The samples are not in this report, so there is no distribution to show.")]
    shared = Axis.around([sample for side in drawn for sample in side[2].samples])
    rows: list[Child] = []
    for name, kind, p50, p90 in drawn:
        title = f"{name}, latency on the shared scale"
        rows += [element("p", name, class_="tag"), strip(shared, p50.samples, _marks(p50, p90), kind, title)]
    together = element(
        "figure",
        *rows,
        axis_row(shared, lambda value: f"{value:g} ms", "latency"),
        element("figcaption", "Every inference on one scale from zero; the lines are p50 and p90."),
        class_="wide",
    )
    alone = [_alone(side) for side in drawn]
    return [together, element("div", *alone, class_="two")]


def _alone(side: Side) -> Html:
    name, kind, p50, p90 = side
    axis = Axis.around(_bulk(p50.samples), zero=False)
    beyond = sum(sample > axis.high for sample in p50.samples)
    more = f" {beyond} slower than the scale are in its last bar." if beyond else ""
    digits = 2 if axis.high - axis.low < 1 else 1
    return element(
        "figure",
        histogram(axis, p50.samples, _marks(p50, p90), kind, f"{name}, histogram of its latency"),
        axis_row(axis, lambda value: f"{value:.{digits}f} ms", f"latency of the {name}"),
        element("figcaption", f"{name.capitalize()}: {len(p50.samples)} inferences on a scale of its own.{more}"),
    )


def _bulk(samples: Sequence[float]) -> list[float]:
    """All samples but the slowest hundredth where that stretches the scale to more than double."""
    ordered = sorted(samples)
    most = ordered[int(len(ordered) * 0.99)]
    return (
        [sample for sample in ordered if sample <= most]
        if ordered[-1] > ordered[0] + 2 * (most - ordered[0])
        else ordered
    )


def _marks(p50: Measurement, p90: Measurement | None) -> list[tuple[str, float]]:
    values = (("p50", p50.value), ("p90", p90.value if p90 else None))
    return [(name, value) for name, value in values if value is not None]


def _row(report: Report, one: Measurement) -> tuple[Child, ...] | None:
    if one.value is None:
        return None
    old = next((m.value for m in report.before if (m.name, m.component) == (one.name, one.component)), None)
    before, after = (figures.measurement(one.name, one.unit, value) for value in (old, one.value))
    return wording.label(one).replace(".", " "), before, after, wording.change(one, old)
