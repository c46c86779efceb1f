from __future__ import annotations

import pytest

from edgekit.measure.statistics import Interval
from edgekit.quantization.engines import Choice, Standing, choose_engine

MB = 10**6


def standing(engine: str, megabytes: float = 10, drop: float | None = 0.001) -> Standing:
    return Standing(engine, int(megabytes * MB), drop)


def slowdown(ratio: float, spread: float = 0.002) -> tuple[float, Interval]:
    return ratio, Interval(ratio - spread, ratio + spread, 0.99)


OURS, THEIRS = "onnxruntime", "neural-compressor"


@pytest.mark.parametrize(
    ("ours", "theirs", "timed", "expected"),
    [
        # the tolerance comes before the clock
        ({"drop": 0.02}, {}, 1.5, (THEIRS, "onnxruntime loses 2.00 points on the selection split, allowed 0.50")),
        ({}, {"drop": 0.02}, 0.5, (OURS, "neural-compressor loses 2.00 points on the selection split, allowed 0.50")),
        # then the faster, whatever its size and drop within the tolerance
        ({}, {"megabytes": 20, "drop": 0.004}, 0.8, (THEIRS, "1.25x as fast as onnxruntime")),
        ({"megabytes": 20, "drop": 0.004}, {}, 1.25, (OURS, "1.25x as fast as neural-compressor")),
        # both outside the tolerance: judged by the same rule
        ({"drop": 0.02}, {"drop": 0.03}, 0.5, (THEIRS, "2.00x as fast as onnxruntime")),
        # a change within the margin is none: then the smaller
        ({}, {"megabytes": 5}, 1.008, (THEIRS, "smaller, 5.0 against 10.0 MB; as fast")),
        ({}, {"megabytes": 20}, 0.995, (OURS, "smaller, 10.0 against 20.0 MB; as fast")),
        ({}, {"megabytes": 5}, None, (THEIRS, "smaller, 5.0 against 10.0 MB; not timed")),
        # then the closer, and the default where nothing tells them apart
        (
            {"drop": 0.004},
            {"drop": 0.001},
            1.0,
            (THEIRS, "loses 0.30 points less on the selection split than onnxruntime; as fast, as small"),
        ),
        ({}, {}, 1.0, (OURS, "neural-compressor is no better; as fast, as small")),
        ({"drop": None}, {"drop": None}, None, (OURS, "neural-compressor is no better; not timed, as small")),
    ],
)
def test_the_tolerance_then_the_clock_then_the_size_then_the_drop(
    ours: dict[str, float], theirs: dict[str, float], timed: float | None, expected: tuple[str, str]
) -> None:
    found = choose_engine(
        standing(OURS, **ours), standing(THEIRS, **theirs), None if timed is None else slowdown(timed), 0.005
    )
    assert found == Choice(*expected)


def test_a_ratio_whose_interval_holds_one_decides_nothing() -> None:
    found = choose_engine(standing(OURS), standing(THEIRS), slowdown(0.9, spread=0.2), 0.005)
    assert found == Choice(OURS, "neural-compressor is no better; as fast, as small")
