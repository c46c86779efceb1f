"""The picture of a retention curve: an SVG that brings its own ground, light or dark as the reader's system is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 736, 24, 356
LEGEND, LEGEND_ROW = 404, 20
NOTE = "times faster than the original; dashed: BERT-base on other devices, as published: only shapes compare"
# The colours of Okabe and Ito's palette (jfly.uni-koeln.de/color), which colour-blind readers tell apart, the darkest
# of them lighter on dark ground; and a form of its own for each curve.
COLOURS = (("#0072b2", "#56b4e9"), ("#d55e00", "#e69f00"), ("#009e73", "#2fc79a"), ("#a64d79", "#cc79a7"))
FORMS = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True)
class Curve:
    """Points of one method.

    Attributes:
        name: as the legend has it.
        points: how many times faster than its original, and the share of the original's score.
        own: whether it is edgekit's, with a line in place of dashes.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    own: bool = False


@dataclass(frozen=True)
class Frame:
    """Where values lie: times faster by its logarithm from 1, shares by their size."""

    most: float
    low: float
    high: float

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Frame:
        """Ends that hold all points: doublings, and whole hundredths with 1 among them."""
        faster = max(x for curve in curves for x, _ in curve.points)
        shares = [1.0, *(y for curve in curves for _, y in curve.points)]
        low, high = math.floor(100 * min(shares) - 0.5), math.ceil(100 * max(shares) + 0.5)
        return cls(2.0 ** math.ceil(math.log2(faster * 1.02)), low / 100, high / 100)

    def x(self, faster: float) -> float:
        return LEFT + (RIGHT - LEFT) * math.log2(faster) / math.log2(self.most)

    def y(self, share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (share - self.low) / (self.high - self.low)


def draw(curves: Sequence[Curve]) -> str:
    """The picture of some curves, at most as many as there are forms."""
    if len(curves) > len(FORMS):
        raise ValueError(f"{len(curves)} curves were given, and there are forms for {len(FORMS)}")
    frame = Frame.of(curves)
    described = "; ".join(
        f"{curve.name}: " + ", ".join(f"{share:.1%} kept at {faster:.1f} times" for faster, share in curve.points)
        for curve in curves
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            "<title>Accuracy kept by times faster than the original</title>",
            f"<desc>{escape(described)}</desc>",
            f"<style>{style(len(curves))}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
            *scales(frame),
            *(shape for number, curve in enumerate(curves) for shape in drawn(number, curve, frame)),
            *(shape for number, curve in enumerate(curves) for shape in legend(number, curve)),
            "</svg>\n",
        ]
    )


def style(count: int) -> str:
    """Colours for light ground, and for dark ground where the reader's system asks for it."""

    def rules(which: int, ground: str, ink: str, grid: str) -> str:
        marks = "".join(
            f".c{number} .mark{{fill:{pair[which]}}}.c{number} .line{{stroke:{pair[which]}}}"
            for number, pair in enumerate(COLOURS[:count])
        )
        return f".ground{{fill:{ground}}}text{{fill:{ink}}}.grid{{stroke:{grid}}}{marks}"

    common = (
        "text{font:13px sans-serif}.line{fill:none;stroke-width:2}.dashed{stroke-dasharray:5 4}.whole{stroke-width:2}"
    )
    light, dark = rules(0, "#ffffff", "#24292f", "#d0d7de"), rules(1, "#161b22", "#e6edf3", "#3d444d")
    return f"{common}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def scales(frame: Frame) -> Iterator[str]:
    """Lines with their values: every doubling, and shares at round steps; that of the original is thicker."""
    for power in range(round(math.log2(frame.most)) + 1):
        at = frame.x(2.0**power)
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{2**power}x</text>'
    low, high = round(100 * frame.low), round(100 * frame.high)
    step = next(step for step in (1, 2, 5, 10, 20) if (high - low) / step <= 8)
    for percent in (value for value in range(low, high + 1) if (100 - value) % step == 0):
        at, class_ = frame.y(percent / 100), "grid whole" if percent == 100 else "grid"
        yield f'<line class="{class_}" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>'
    yield f'<text x="{RIGHT}" y="{BOTTOM + 36}" text-anchor="end">{escape(NOTE)}</text>'


def drawn(number: int, curve: Curve, frame: Frame) -> Iterator[str]:
    """A curve: its line, and a form at each point that tells its figures when it is pointed at."""
    places = [(frame.x(faster), frame.y(share)) for faster, share in curve.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<g class="c{number}"><polyline class="line{"" if curve.own else " dashed"}" points="{path}"/>'
    for (x, y), (faster, share) in zip(places, curve.points, strict=True):
        label = f"{curve.name}: {share:.1%} at {faster:.2f} times"
        yield f"<g><title>{escape(label)}</title>{mark(FORMS[number], x, y)}</g>"
    yield "</g>"


def legend(number: int, curve: Curve) -> Iterator[str]:
    """The form and the name of a curve, two in a row."""
    x, y = LEFT + (number % 2) * (RIGHT - LEFT) / 2, LEGEND + 10 + (number // 2) * LEGEND_ROW
    text = f'<text x="{x + 14:.1f}" y="{y:.1f}">{escape(curve.name)}</text>'
    yield f'<g class="c{number}">{mark(FORMS[number], x, y - 4)}{text}</g>'


def mark(form: str, x: float, y: float) -> str:
    """A form around a place."""
    if form == "circle":
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    corners = {
        "square": ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
        "triangle": ((0, -5.5), (5.5, 4.5), (-5.5, 4.5)),
        "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
    }[form]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="mark" points="{path}"/>'
