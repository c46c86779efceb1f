"""A cost table on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.pruning.encoders.table import CostTable, Curve, HiddenCosts, MeasuredEncoder
from edgekit.render.parts import DOUBT, STRONG, items, make_grid, make_table, pairs, title

# Above this a table is of little use: what the issue of cost tables asks for.
MOST_ERROR = 0.10


def costs_view(table: CostTable) -> RenderableType:
    """What ``costs`` prints: each part by its width, and how well the sums of them predict."""
    scope, shape = table.scope, table.scope.geometry
    facts = make_grid(
        [
            ("shape", f"{shape.architecture}, {_sizes(table)} wide, heads of {shape.head_width}"),
            ("on", f"{scope.device}, {scope.runtime} {scope.runtime_version}, threads {scope.threads}"),
            ("workload", pairs(scope.workload)),
            ("rewrites", ", ".join(table.rewrites) or "none pays"),
            ("unit", table.unit),
        ]
    )
    parts: list[RenderableType] = [Text(f"Costs for {scope.target}", style=STRONG), facts]
    parts += [title("Parts"), _curves(table, last=shape.first_token_only)]
    for narrower in reversed(table.narrower):
        parts.append(title(f"Parts, at a hidden size of {narrower.hidden}"))
        parts.append(_curves(narrower, last=shape.first_token_only))
    checked = [one for one in table.encoders if not one.fitted]
    if checked:
        parts.append(title("Predicted and measured, of encoders that the table was not made of"))
        parts.append(_checks(checked, shape.hidden))
    if (table.largest_error or 0) > MOST_ERROR:
        parts.append(
            Text(f"an error above {MOST_ERROR:.0%}: the machine was busy, or costs do not add up", style=DOUBT)
        )
    if table.warnings:
        parts += [title("Warnings"), items(table.warnings, DOUBT)]
    return Group(*parts)


def _sizes(table: CostTable) -> str:
    """``384``, or ``384, 288 and 192``: every hidden size that was measured."""
    *others, last = map(str, reversed(table.hidden_sizes))
    return f"{', '.join(others)} and {last}" if others else last


def _curves(costs: CostTable | HiddenCosts, *, last: bool) -> RenderableType:
    """The costs of each part at one hidden size; of the last layer where it is not like the others."""
    curves = make_table("part", "cost by width")
    curves.add_row("base", figure(costs.base))
    for name, curve in (("attention", costs.attention), ("feed-forward", costs.feed_forward)):
        curves.add_row(name, _points(curve))
    if last:
        curves.add_row("attention, last layer", _points(costs.last_attention))
        curves.add_row("feed-forward, last layer", _points(costs.last_feed_forward))
    return curves


def _checks(checked: list[MeasuredEncoder], hidden: int) -> RenderableType:
    """Figures of each encoder; with its hidden size where one of them has not the model's."""
    numbers = ["hidden size"] if any(one.hidden for one in checked) else []
    numbers += ["predicted", "measured", "error"]
    rows = make_table("heads x neurons", *numbers, right=numbers)
    for one in checked:
        widths = "  ".join(f"{heads}x{neurons}" for heads, neurons in one.widths)
        size = [str(one.hidden or hidden)] if "hidden size" in numbers else []
        rows.add_row(widths, *size, figure(one.predicted), figure(one.cost), f"{one.error:+.1%}")
    return rows


def _points(curve: Curve) -> str:
    return "  ".join(f"{width}: {figure(cost)}" for width, cost in curve)


def figure(cost: float) -> str:
    """A cost with as many digits as it is known to."""
    return f"{cost:.3f}" if abs(cost) < 10 else f"{cost:.1f}"
