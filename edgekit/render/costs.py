"""A cost table on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.pruning.encoders.table import CostTable, Curve, MeasuredEncoder
from edgekit.render.parts import DOUBT, STRONG, items, make_grid, make_table, pairs, title

# Above this a table is of little use: what the issue of cost tables asks for.
MOST_ERROR = 0.10


def costs_view(table: CostTable) -> RenderableType:
    """What ``costs`` prints: each part by its width, and how well the sums of them predict."""
    scope, shape = table.scope, table.scope.geometry
    facts = make_grid(
        [
            ("shape", f"{shape.architecture}, {shape.hidden} wide, heads of {shape.head_width}"),
            ("on", f"{scope.device}, {scope.runtime} {scope.runtime_version}, threads {scope.threads}"),
            ("workload", pairs(scope.workload)),
            ("rewrites", ", ".join(table.rewrites) or "none pays"),
            ("unit", table.unit),
        ]
    )
    curves = make_table("part", "cost by width")
    curves.add_row("base", figure(table.base))
    for name, curve in (("attention", table.attention), ("feed-forward", table.feed_forward)):
        curves.add_row(name, _points(curve))
    if shape.first_token_only:
        curves.add_row("attention, last layer", _points(table.last_attention))
        curves.add_row("feed-forward, last layer", _points(table.last_feed_forward))
    parts: list[RenderableType] = [Text(f"Costs for {scope.target}", style=STRONG), facts, title("Parts"), curves]
    checked = [one for one in table.encoders if not one.fitted]
    if checked:
        parts += [title("Predicted and measured, of encoders that the table was not made of"), _checks(checked)]
    if (table.largest_error or 0) > MOST_ERROR:
        parts.append(
            Text(f"an error above {MOST_ERROR:.0%}: the machine was busy, or costs do not add up", style=DOUBT)
        )
    if table.warnings:
        parts += [title("Warnings"), items(table.warnings, DOUBT)]
    return Group(*parts)


def _checks(checked: list[MeasuredEncoder]) -> RenderableType:
    rows = make_table("heads x neurons", "predicted", "measured", "error", right=("predicted", "measured", "error"))
    for one in checked:
        widths = "  ".join(f"{heads}x{neurons}" for heads, neurons in one.widths)
        rows.add_row(widths, figure(one.predicted), figure(one.cost), f"{one.error:+.1%}")
    return rows


def _points(curve: Curve) -> str:
    return "  ".join(f"{width}: {figure(cost)}" for width, cost in curve)


def figure(cost: float) -> str:
    """A cost with as many digits as it is known to."""
    return f"{cost:.3f}" if abs(cost) < 10 else f"{cost:.1f}"
