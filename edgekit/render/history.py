"""A metric over time on a terminal: one line a result, with its interval drawn on a common scale."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.artifact import WHOLE
from edgekit.gate.history import History, Point
from edgekit.gate.record import Metric
from edgekit.gate.wording import value_text
from edgekit.render.bench import STYLES
from edgekit.render.parts import FAINT, STRONG, items, make_table, pairs, title

# Columns of a terminal that all but the plot take, and the least and most that the plot does.
BESIDE, NARROWEST, WIDEST = 62, 12, 60


def history_view(history: History, width: int) -> RenderableType:
    """What ``history`` prints: of each machine, runtime and workload the results, the oldest first.

    Args:
        history: at least one point, or none of the metric.
        width: columns of the terminal.
    """
    parts: list[RenderableType] = []
    for place in dict.fromkeys(map(_place, history.points)):
        points = [point for point in history.points if _place(point) == place]
        parts += [title(f"{history.metric} on the machine {place}"), _table(history, points, width)]
    notes = [f"{name} has no {history.metric}" for name in history.without]
    notes += [f"{name} is no result of bench" for name in history.others]
    notes += [f"{name} cannot be read: {why}" for name, why in history.unreadable.items()]
    if notes:
        parts += [title("Left out"), items(notes, FAINT)]
    return Group(*parts)


def _place(point: Point) -> str:
    """What points have to share for one scale."""
    return "; ".join(part for part in (point.machine, point.runtime, pairs(point.workload)) if part)


def _table(history: History, points: Sequence[Point], width: int) -> RenderableType:
    columns = max(NARROWEST, min(WIDEST, width - BESIDE))
    table = make_table("created", "model", "value", "", "verdict", right=("value",), unbroken=("created", "value", ""))
    ends = [end for point in points for end in (point.ci_low, point.value, point.ci_high) if end is not None]
    for point in points:
        metric = Metric(name=history.metric, unit=point.unit, value=point.value)
        name = point.subject if point.component == WHOLE else f"{point.subject}, {point.component}"
        table.add_row(
            Text(point.created.removesuffix("Z").replace("T", " ")),
            Text(name),
            Text(value_text(metric, point.value)),
            Text(mark(point, min(ends), max(ends), columns), style=STRONG),
            Text(point.verdict or "", style=STYLES[point.verdict] if point.verdict else ""),
        )
    return table


def mark(point: Point, least: float, most: float, columns: int) -> str:
    """A value as a dot, and its interval as a line, in so many columns from the least to the most.

    >>> mark(Point(created="", file="", subject="", sha256="", component="", machine="", unit="", value=2), 1, 3, 5)
    '  ●'
    """
    span = most - least

    def at(value: float) -> int:
        return round((value - least) / span * (columns - 1)) if span > 0 else 0

    low, middle, high = (at(point.value if end is None else end) for end in (point.ci_low, point.value, point.ci_high))
    line = " " * low + "─" * (middle - low) + "●" + "─" * (high - middle)
    return line.rstrip()
