"""Quality against cost as numbered points, with steps between those that no other one beats in both."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit.render.html.charts import (
    LEAST_METRIC,
    Axis,
    Write,
    axis_row,
    figure,
    level,
    percent,
    upright,
    words,
)
from edgekit.render.html.markup import Html, element

HEIGHT, PAD = 320, 30
# A number stands below its point when another point is above it and nearer than this.
NEAR_PERCENT, NEAR_PIXELS = 6.0, 30.0
SAME_PERCENT, SAME_PIXELS = 2.0, 8.0

Place = tuple[float, float]


@dataclass(frozen=True)
class Spot:
    """A point of the chart.

    Attributes:
        label: its number.
        cost: to the right.
        quality: upwards.
        unbeaten: whether it is on the front.
        told: what it is, in words.
    """

    label: str
    cost: float
    quality: float
    unbeaten: bool
    told: str


@dataclass(frozen=True)
class Scale:
    """One direction: its name, and how its values are written."""

    name: str
    write: Write


def scatter(spots: Sequence[Spot], rings: Iterable[tuple[float, float]], cost: Scale, quality: Scale) -> Html:
    """The chart with both of its scales.

    Args:
        spots: at least one.
        rings: cost and quality of what the spots are compared with.
        cost: to the right.
        quality: upwards.
    """
    beside = sorted(set(rings))
    across = Axis.around([*(spot.cost for spot in spots), *(x for x, _ in beside)])
    up = Axis.around([*(spot.quality for spot in spots), *(y for _, y in beside)], zero=False, least=LEAST_METRIC)
    places = [(across.at(spot.cost), _down(up, spot.quality)) for spot in spots]
    front = sorted({place for place, spot in zip(places, spots, strict=True) if spot.unbeaten})
    shapes = [*_grid(up), *_steps(front)]
    shapes += [element("circle", cx=percent(across.at(x)), cy=_down(up, y), r=5.0, class_="hollow") for x, y in beside]
    spotted: dict[Place, list[str]] = {}
    for spot, place in zip(spots, places, strict=True):
        near = next((other for other in spotted if _is_same(other, place)), place)
        spotted.setdefault(near, []).append(spot.label)
        shapes.append(_mark(place, place in front))
    shapes += [_number(place, ", ".join(labels), list(spotted)) for place, labels in spotted.items()]
    ticks = [words(100, _down(up, value) + 4, quality.write(value), dx=-8) for value in up.ticks()]
    said = "; ".join(spot.told for spot in spots)
    return element(
        "div",
        figure(f"scale of {quality.name}", "round values", *ticks, height=HEIGHT, class_="axis"),
        figure(f"{quality.name} against {cost.name}", said, *shapes, height=HEIGHT, class_="scatter"),
        element("span"),
        axis_row(across, cost.write, cost.name),
        class_="plot",
    )


def _down(axis: Axis, value: float) -> float:
    return HEIGHT - PAD - (HEIGHT - 2 * PAD) * axis.at(value) / 100


def _grid(axis: Axis) -> list[Html]:
    return [level(_down(axis, value), "grid") for value in axis.ticks()]


def _steps(front: Sequence[Place]) -> list[Html]:
    """From one unbeaten point to the next, first to the right, then up: the best that can be had at each cost."""
    shapes: list[Html] = []
    for (x1, y1), (x2, y2) in itertools.pairwise(front):
        shapes += [_across(x1, x2, y1), upright(x2, y1, y2, "front")]
    return [*shapes, _across(front[-1][0], 100, front[-1][1])] if front else shapes


def _across(start: float, end: float, y: float) -> Html:
    return element("line", x1=percent(start), x2=percent(end), y1=y, y2=y, class_="front")


def _is_same(one: Place, other: Place) -> bool:
    """Whether two marks would cover each other, so that one number has to do for both."""
    return abs(one[0] - other[0]) < SAME_PERCENT and abs(one[1] - other[1]) < SAME_PIXELS


def _mark(place: Place, unbeaten: bool) -> Html:
    kind, radius = ("spot", 6.0) if unbeaten else ("beaten", 5.0)
    return element("circle", cx=percent(place[0]), cy=place[1], r=radius, class_=kind)


def _number(place: Place, label: str, marks: Sequence[Place]) -> Html:
    """The number of a point above its mark, or below it where another one is above."""
    x, y = place
    crowded = any(abs(ox - x) < NEAR_PERCENT and 0 < y - oy < NEAR_PIXELS for ox, oy in marks) or y < PAD - 12
    return words(x, y + (21 if crowded else -11), label, "number", anchor="middle")
