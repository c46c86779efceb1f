"""Charts as inline SVG that is as wide as its place: positions in percent, heights and text in pixels.

No ``viewBox``, so text is never scaled, and a chart reads the same on a telephone and on a desk. Every chart has a
title and a description, and every mark a form or a label of its own beside its colour.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.render.html.markup import Html, element

Write = Callable[[float], str]
STRIP_BINS, HISTOGRAM_BINS = 120, 40
ROW, STRIP, HISTOGRAM, TICKS, INTERVAL = 26, 30, 96, 20, 66
NAME_WIDTH = 26  # of p50, in pixels
FINEST = 1e-12  # of the largest value: doubles of its size tell no finer steps
LEAST_METRIC = 0.005  # shortest scale of a metric: half a point
FAINTEST = 0.3  # opacity of a bin that holds one sample: seen, and less than any other


@dataclass(frozen=True)
class Axis:
    """A linear scale from ``low`` to ``high``, over the whole width."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float], *, zero: bool = True, least: float = 0.0) -> Axis:
        """A scale that holds the values with round ends.

        Args:
            values: at least one.
            zero: whether it begins at zero; not where that would hide what differs.
            least: how long it is at least, so that noise is not drawn as large as a change.
        """
        low, high = min(values), max(values)
        if zero:
            low, high = min(0.0, low), max(0.0, high)
        short = (least or (1.0 if low == high else 0.0)) - (high - low)
        if short > 0:
            low, high = (low, high + short) if zero else (low - short / 2, high + short / 2)
        step = _round_step(max((high - low) / 5, FINEST * max(abs(low), abs(high))))
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)

    @property
    def _length(self) -> float:
        """From end to end, and 1 where they are the same."""
        return self.high - self.low or 1.0

    def at(self, value: float) -> float:
        """Where a value stands, in percent of the width; at an end when it lies beyond."""
        return min(100.0, max(0.0, (value - self.low) / self._length * 100))

    def ticks(self, count: int = 4) -> list[float]:
        """Round values in order, about ``count`` of them, between the ends."""
        step = _round_step(self._length / count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def percent(value: float) -> str:
    """A position, or a part of the width."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "%"


def figure(title: str, description: str, *shapes: Html, height: int, class_: str | None = None) -> Html:
    """One SVG, as wide as its place."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *shapes,
        width="100%",
        height=str(height),
        role="img",
        class_=class_,
    )


def box(start: float, end: float, class_: str, *, y: float = 6, height: float = 14, **attributes: str | float) -> Html:
    """A bar between two positions in percent; what is too thin to see is a line of a pixel and a half."""
    low, width = min(start, end), abs(end - start)
    shape = element(
        "rect", x=percent(low), y=y, width=percent(width), height=height, class_=class_, rx="1", **attributes
    )
    return shape if width > 0.4 else upright(low, y, y + height, f"{class_} thin")


def upright(at: float, top: float, bottom: float, class_: str) -> Html:
    """A vertical line at a position in percent."""
    return element("line", x1=percent(at), x2=percent(at), y1=float(top), y2=float(bottom), class_=class_)


def level(y: float, class_: str) -> Html:
    """A horizontal line over the whole width, at a height in pixels."""
    return element("line", x1="0", x2="100%", y1=float(y), y2=float(y), class_=class_)


def words(at: float, y: float, written: str, class_: str | None = None, *, dx: float = 0, anchor: str = "") -> Html:
    """Text at a position in percent, inside the chart also at its ends."""
    place = anchor or ("start" if at < 6 else "end" if at > 94 else "middle")
    return element("text", written, x=percent(at), y=float(y), dx=float(dx), text_anchor=place, class_=class_)


def axis_row(axis: Axis, write: Write, name: str) -> Html:
    """The scale below a chart: round values under short lines."""
    marks = [shape for value in axis.ticks() for shape in _tick(axis, value, write)]
    ends = f"from {write(axis.low)} to {write(axis.high)}"
    return figure(f"scale of {name}", ends, *marks, height=TICKS, class_="axis")


def strip(axis: Axis, samples: Sequence[float], marks: Sequence[tuple[str, float]], class_: str, title: str) -> Html:
    """All samples on one line, darker where there are more of them.

    Args:
        axis: the scale.
        samples: in its unit.
        marks: values with their names, as upright lines.
        class_: of the bins.
        title: what it shows.
    """
    counts = _bins(axis, samples, STRIP_BINS)
    most, width = max(counts), 100 / STRIP_BINS
    bins = [
        element(
            "rect",
            x=percent(index * width),
            y=4.0,
            width=percent(width),
            height=float(STRIP - 8),
            class_=class_,
            fill_opacity=FAINTEST + (1 - FAINTEST) * count / most,
        )
        for index, count in enumerate(counts)
        if count
    ]
    lines = [upright(axis.at(value), 0, STRIP, "mark") for _, value in marks]
    said = ", ".join(f"{name} {value:.4g}" for name, value in marks)
    return figure(title, f"{len(samples)} samples; {said}", *bins, *lines, height=STRIP, class_="strip")


def histogram(
    axis: Axis, samples: Sequence[float], marks: Sequence[tuple[str, float]], class_: str, title: str
) -> Html:
    """How often each value was seen; arguments as for ``strip``."""
    counts = _bins(axis, samples, HISTOGRAM_BINS)
    most, width, foot = max(counts), 100 / HISTOGRAM_BINS, HISTOGRAM - 1
    bars = [
        element(
            "rect",
            x=percent(index * width + width * 0.06),
            y=foot - (foot - 16) * count / most,
            width=percent(width * 0.88),
            height=(foot - 16) * count / most,
            class_=class_,
        )
        for index, count in enumerate(counts)
        if count
    ]
    lines = [upright(axis.at(value), 14, foot, "mark") for _, value in marks]
    names = _mark_names([(name, axis.at(value)) for name, value in marks])
    shapes = [*bars, level(foot, "base"), *lines, *names]
    said = ", ".join(f"{name} {value:.4g}" for name, value in marks)
    return figure(title, f"{len(samples)} samples; {said}", *shapes, height=HISTOGRAM, class_="histogram")


def curve(points: Sequence[tuple[float, float]], title: str, description: str) -> Html:
    """A line through points (x ascending), over the whole width, its lowest point marked."""
    across = Axis(points[0][0], points[-1][0])
    up = Axis.around([y for _, y in points], zero=False)
    height = HISTOGRAM

    def down(value: float) -> float:
        return (height - 8) - (height - 16) * up.at(value) / 100

    segments = [
        element(
            "line",
            x1=percent(across.at(x1)),
            y1=down(y1),
            x2=percent(across.at(x2)),
            y2=down(y2),
            class_="line",
        )
        for (x1, y1), (x2, y2) in itertools.pairwise(points)
    ]
    best = min(points, key=lambda point: point[1])
    spot = element("circle", cx=percent(across.at(best[0])), cy=down(best[1]), r=4.0, class_="spot")
    return figure(title, description, level(height - 1, "base"), *segments, spot, height=height, class_="curve")


def share_bar(share: float, title: str, class_: str = "kept", *, height: int = 14) -> Html:
    """How much of a whole is left, as a bar in a frame."""
    return figure(
        title,
        f"{share:.0%}",
        element("rect", x="0", y="1", width="100%", height=float(height - 2), class_="frame", rx="1"),
        element("rect", x="0", y="1", width=percent(share * 100), height=float(height - 2), class_=class_, rx="1"),
        height=height,
        class_="share",
    )


def _mark_names(marks: Sequence[tuple[str, float]]) -> list[Html]:
    """Names above marks (position in percent, ascending): to the left of the first, to the right of the others."""
    shapes, last = [], ("", -100.0)
    for index, (name, at) in enumerate(marks):
        side = "start" if at < 10 else "end" if at > 88 or index == 0 else "start"
        pushed = side == last[0] and at - last[1] < 10  # both names on one side: the second goes behind the first
        shapes.append(words(at, 10, name, anchor=side, dx=NAME_WIDTH if pushed else 0))
        last = (side, at)
    return shapes


def _tick(axis: Axis, value: float, write: Write) -> tuple[Html, Html]:
    return upright(axis.at(value), 0, 4, "tick"), words(axis.at(value), 16, write(value))


def _bins(axis: Axis, samples: Sequence[float], count: int) -> list[int]:
    counts = [0] * count
    for sample in samples:
        counts[min(count - 1, int(axis.at(sample) / 100 * count))] += 1
    return counts


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10 times a power of ten that is not below ``rough``, nor too small to divide by."""
    rough = max(abs(rough), sys.float_info.min)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
