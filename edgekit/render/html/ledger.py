"""What each stage did: the ledger as a waterfall for each figure, and what was decided, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from edgekit.ledger import ORIGINAL, LedgerRow
from edgekit.render import figures, wording
from edgekit.render.html.charts import LEAST_METRIC, ROW, Axis, axis_row, box, figure, upright
from edgekit.render.html.markup import Child, Html, element, join, minus, note, section, table
from edgekit.render.stages import row_lines
from edgekit.report import Report

_Read = Callable[[LedgerRow], float | None]
_Write = Callable[[float | None], str]


@dataclass(frozen=True)
class Fall:
    """One figure of the ledger, as a waterfall shows it.

    Attributes:
        name: with its unit.
        value: reads it off a row.
        write: a value as text.
        write_change: a change as text.
        less_is_better: which direction is a gain.
    """

    name: str
    value: _Read
    write: _Write
    write_change: _Write
    less_is_better: bool

    def gain(self, change: float) -> bool:
        """Whether a change is for the better."""
        return (change < 0) == self.less_is_better


def ledger(report: Report) -> Html:
    """The section."""
    falls = [fall for fall in _falls(report) if any(fall.value(row) is not None for row in report.ledger)]
    charts = [_waterfall(fall, report.ledger) for fall in falls]
    undone = any(not row.kept for row in report.ledger)
    return section(
        "stages",
        "What each stage did",
        element("div", *charts, class_="three"),
        _missing(report, falls),
        note(
            "Green is a gain and orange a loss; the sign of the change says the same.",
            " In brackets, with a dashed bar: what an undone stage would have changed. It changed nothing."
            if undone
            else None,
        ),
        table(
            ("stage", "outcome", "why, and what it left"),
            list(_outcomes(report)),
            kinds="ttt",
            caption="what became of each stage",
        ),
        lead="From the original, stage by stage, to the result. The changes of the stages that were kept add up.",
    )


def _falls(report: Report) -> list[Fall]:
    metric = report.quality.metric if report.quality else "metric"
    digits = figures.size_digits(report.ledger[0].size_bytes)

    def megabytes(value: float | None) -> str:
        return "" if value is None else figures.megabytes(value, digits)

    size_change = partial(figures.megabytes_change, digits=digits)

    def metric_change(change: float | None) -> str:
        return figures.quality_change(metric, change).removesuffix(" pp")

    unit = ", % and points" if figures.is_share(metric) else ""
    return [
        Fall("Latency p50, ms", lambda row: row.latency_ms, figures.milliseconds, figures.milliseconds_change, True),
        Fall("Size, MB", lambda row: row.size_bytes, megabytes, size_change, True),
        Fall(
            f"{metric.replace('_', ' ').capitalize()}{unit}",
            lambda row: row.metric,
            partial(_metric_value, metric),
            metric_change,
            False,
        ),
        *[_instructions(device) for device in report.ledger[0].instructions],
    ]


def _instructions(device: str) -> Fall:
    def value(row: LedgerRow) -> float | None:
        return row.instructions.get(device)

    name = f"Instructions, millions, {wording.processor(device)}"
    return Fall(name, value, figures.millions, figures.millions_change, True)


def _metric_value(metric: str, value: float | None) -> str:
    return figures.quality(metric, value).removesuffix("%")


def _missing(report: Report, falls: list[Fall]) -> Html | None:
    shown = {fall.name for fall in falls}
    missing = [fall.name.partition(",")[0].removesuffix(" p50") for fall in _falls(report) if fall.name not in shown]
    if not missing:
        return None
    reason = f": {report.not_measured_because}" if report.not_measured_because and "Latency" in missing else ""
    return note(f"Not measured, so not shown: {' and '.join(name.lower() for name in missing)}{reason}.")


def _waterfall(fall: Fall, rows: tuple[LedgerRow, ...]) -> Html:
    """A table with a bar in each row; bars of changes begin where the row above ended."""
    values = [value for row in rows if (value := fall.value(row)) is not None]
    axis = Axis.around(values, zero=fall.less_is_better, least=0.0 if fall.less_is_better else LEAST_METRIC)
    body: list[tuple[Child, ...]] = []
    at: float | None = None
    for row in rows:
        value = fall.value(row)
        if value is None:
            body.append((row.stage, None, "-", None))
            continue
        body.append(_step(fall, axis, row, at))
        at = value if row.kept else at
    last = next(row for row in reversed(rows) if row.kept)
    if at is not None and len(rows) > 1:
        total = fall.write_change(at - values[0])
        bar = _level(fall, axis, "result", at)
        body.append((element("strong", "result"), bar, element("strong", fall.write(fall.value(last))), minus(total)))
    from_zero = axis.low == 0
    scale = "" if from_zero else f" The scale begins at {fall.write(axis.low)}, not at zero."
    body.append(("", axis_row(axis, lambda value: _short(fall, value), fall.name), "", ""))
    return element(
        "figure",
        element("figcaption", element("h3", fall.name)),
        table(("stage", "", "after", "change"), body, kinds="tbnn", caption=f"{fall.name}, stage by stage.{scale}"),
        element("p", scale.strip(), class_="note") if scale else None,
        class_="fall",
    )


def _step(fall: Fall, axis: Axis, row: LedgerRow, at: float | None) -> tuple[Child, ...]:
    value = fall.value(row)
    assert value is not None  # the caller has looked
    if at is None:
        return row.stage, _level(fall, axis, ORIGINAL, value), fall.write(value), ""
    change = value - at
    written = fall.write_change(change)
    said = f"{row.stage}: {written or 'no change'}"
    if not row.kept:
        shapes = [upright(axis.at(at), 0, ROW, "link"), box(axis.at(at), axis.at(value), "undone")]
        bar = figure(f"{row.stage}, undone", f"would have changed {fall.name} by {written}", *shapes, height=ROW)
        return element("s", row.stage), bar, f"({fall.write(value)})", minus(f"({written})")
    kind = "same" if float(written or 0) == 0 else "gain" if fall.gain(change) else "loss"
    shapes = [
        upright(axis.at(at), 0, ROW / 2, "link"),
        upright(axis.at(value), ROW / 2, ROW, "link"),
        box(axis.at(at), axis.at(value), kind),
    ]
    bar = figure(said, f"{fall.name} from {fall.write(at)} to {fall.write(value)}", *shapes, height=ROW)
    return row.stage, bar, fall.write(value), minus(written)


def _level(fall: Fall, axis: Axis, name: str, value: float) -> Html:
    """A whole bar from zero; on a scale without zero, a mark."""
    kind = "before" if name == ORIGINAL else "after"
    at = axis.at(value)
    shape = box(0, at, kind) if axis.low == 0 else box(max(0.0, at - 0.75), min(100.0, at + 0.75), kind)
    link = upright(at, 6, ROW, "link") if name == ORIGINAL else upright(at, 0, 20, "link")
    return figure(name, f"{fall.name}: {fall.write(value)}", link, shape, height=ROW)


def _short(fall: Fall, value: float) -> str:
    """A value below a scale, without decimals that say nothing."""
    written = fall.write(value)
    return written.rstrip("0").rstrip(".") if "." in written else written


def _outcomes(report: Report) -> Iterator[tuple[Child, ...]]:
    for row, line in zip(report.ledger[1:], row_lines(report), strict=True):
        mark = ("\N{CHECK MARK}", "kept", "good") if row.kept else ("\N{BALLOT X}", "undone", "doubt")
        sign = element("span", element("span", mark[0], aria_hidden="true"), " ", mark[1], class_=f"badge {mark[2]}")
        left = element("div", line, class_="small") if line else None
        yield row.stage, sign, join((row.reason, left))
