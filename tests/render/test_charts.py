from __future__ import annotations

import pytest
from render.reading import Node, read

from edgekit.render.html.charts import (
    HISTOGRAM,
    STRIP_BINS,
    Axis,
    axis_row,
    box,
    curve,
    figure,
    histogram,
    share_bar,
    strip,
    words,
)


def only(markup: str) -> Node:
    (node,) = read(markup).children
    return node


@pytest.mark.parametrize(
    ("values", "zero", "least", "ends"),
    [
        ([3.0, 33.0], True, 0.0, (0.0, 40.0)),
        ([4.3, 5.9], False, 0.0, (4.0, 6.0)),
        ([0.798, 0.905], False, 0.0, (0.75, 0.95)),
        ([0.9, 0.9], False, 0.005, (0.897, 0.903)),
        ([7.0, 7.0], True, 0.0, (0.0, 8.0)),
        ([5.0, 5.0], False, 0.0, (4.4, 5.6)),
        ([-2.0, -1.0], True, 0.0, (-2.0, 0.0)),
    ],
)
def test_a_scale_holds_its_values_and_ends_in_round_numbers(
    values: list[float], zero: bool, least: float, ends: tuple[float, float]
) -> None:
    axis = Axis.around(values, zero=zero, least=least)
    assert (axis.low, axis.high) == pytest.approx(ends)
    assert axis.low <= min(values) <= max(values) <= axis.high


@pytest.mark.parametrize("low", [0.0, 5e-324, -5e-324, 1.0, 1e300, -1e300])
@pytest.mark.parametrize("high", [0.0, 5e-324, 1e-320, 1.0, 1.0 + 2**-52, 1e300])
@pytest.mark.parametrize("zero", [True, False])
def test_any_numbers_have_a_scale(low: float, high: float, zero: bool) -> None:
    for axis in (Axis.around([low, high], zero=zero), Axis(low, high)):
        assert 0 <= axis.at(low) <= 100
        assert len(axis.ticks()) < 10
        assert "NaN" not in histogram(axis, [low, high], [("p50", high)], "kept", "x")


def test_positions_are_percent_and_stay_inside() -> None:
    axis = Axis(0.0, 40.0)
    assert [axis.at(value) for value in (0, 10, 40, 50, -1)] == [0.0, 25.0, 100.0, 100.0, 0.0]


def test_ticks_are_round_and_between_the_ends() -> None:
    assert Axis(0.0, 40.0).ticks() == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert Axis(300.0, 4146.0).ticks() == [1000.0, 2000.0, 3000.0, 4000.0]
    assert Axis(-0.011, 0.019).ticks() == pytest.approx([-0.01, 0.0, 0.01])


def test_every_chart_has_a_title_and_a_description_and_no_view_box() -> None:
    svg = only(figure("size", "from 9 to 1", box(10, 20, "gain"), height=26))
    assert [(child.name, child.text) for child in svg.children[:2]] == [("title", "size"), ("desc", "from 9 to 1")]
    assert svg.attributes == {"width": "100%", "height": "26", "role": "img"}


def test_a_bar_that_is_too_thin_to_see_is_a_line() -> None:
    bar, line = only(box(30, 10, "loss")), only(box(10, 10.1, "loss"))
    assert (bar.name, bar.attributes["x"], bar.attributes["width"]) == ("rect", "10%", "20%")
    assert (line.name, line.attributes["x1"], line.attributes["class"]) == ("line", "10%", "loss thin")


@pytest.mark.parametrize(("at", "anchor"), [(0.0, "start"), (50.0, "middle"), (100.0, "end")])
def test_text_at_the_ends_stays_inside(at: float, anchor: str) -> None:
    assert only(words(at, 10, "x")).attributes["text-anchor"] == anchor


def test_a_scale_is_written_below() -> None:
    svg = only(axis_row(Axis(0.0, 40.0), lambda value: f"{value:g} ms", "latency"))
    assert [node.text for node in svg.all("text")] == ["0 ms", "10 ms", "20 ms", "30 ms", "40 ms"]
    assert svg.all("desc")[0].text == "from 0 ms to 40 ms"


def test_a_strip_is_darker_where_there_are_more_samples() -> None:
    svg = only(strip(Axis(0.0, STRIP_BINS), [1.5] * 4 + [7.5, 9.5, 9.5], [("p50", 1.5)], "before", "original"))
    bins = [(node.attributes["x"], float(node.attributes["fill-opacity"])) for node in svg.all("rect")]
    assert bins == [("0.833%", 1.0), ("5.833%", pytest.approx(0.475)), ("7.5%", pytest.approx(0.65))]
    (mark,) = svg.all("line")
    assert mark.attributes["x1"] == "1.25%"
    assert svg.all("desc")[0].text == "7 samples; p50 1.5"


def test_a_histogram_counts_every_sample_once() -> None:
    samples = [4.05] * 10 + [5.0] * 5 + [5.95]
    svg = only(histogram(Axis(4.0, 6.0), samples, [("p50", 4.05), ("p90", 5.0)], "after", "result"))
    heights = [float(node.attributes["height"]) for node in svg.all("rect")]
    assert [round(height / max(heights) * 10) for height in heights] == [10, 5, 1]
    assert max(heights) < HISTOGRAM
    assert [(node.text, node.attributes["text-anchor"]) for node in svg.all("text")] == [
        ("p50", "start"),  # too near to the left end to stand on the left of its mark
        ("p90", "start"),
    ]


def test_names_of_near_marks_do_not_cover_each_other() -> None:
    svg = only(histogram(Axis(0.0, 100.0), [1.0, 5.0], [("p50", 1.0), ("p90", 5.0)], "after", "result"))
    assert [(node.text, node.attributes["text-anchor"], node.attributes["dx"]) for node in svg.all("text")] == [
        ("p50", "start", "0"),
        ("p90", "start", "26"),
    ]
    svg = only(histogram(Axis(0.0, 100.0), [40.0, 44.0], [("p50", 40.0), ("p90", 44.0)], "after", "result"))
    assert [(node.attributes["text-anchor"], node.attributes["dx"]) for node in svg.all("text")] == [
        ("end", "0"),
        ("start", "0"),
    ]


def test_a_sample_beyond_the_scale_is_in_the_last_bar() -> None:
    svg = only(histogram(Axis(0.0, 10.0), [1.0, 99.0], [], "after", "result"))
    assert [node.attributes["x"] for node in svg.all("rect")] == ["10.15%", "97.65%"]


def test_a_curve_marks_its_lowest_point() -> None:
    svg = only(curve([(100, 0.6), (200, 0.3), (300, 0.4)], "loss", "down, then up"))
    assert len([node for node in svg.all("line") if node.attributes["class"] == "line"]) == 2
    (spot,) = svg.all("circle")
    assert spot.attributes["cx"] == "50%"


def test_a_share_is_a_part_of_its_frame() -> None:
    frame, part = only(share_bar(0.25, "heads")).all("rect")
    assert (frame.attributes["width"], part.attributes["width"]) == ("100%", "25%")
