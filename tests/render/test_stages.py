from __future__ import annotations

import pytest

from edgekit.render.stages import Details, overflow_lines


@pytest.mark.parametrize(
    ("details", "lines"),
    [
        ({}, []),
        ({"overflow": {}, "overflow_samples": 8}, ["nothing overflows on 8 training samples"]),
        (
            {"overflow": {}, "overflow_samples": 0, "holders": ["model/If_1", "model/Loop_2"]},
            ["nothing overflows on made-up inputs", "in FP32 with what is inside: model/If_1, model/Loop_2"],
        ),
        (
            {"overflow": {"model/a": 4e5}, "overflow_samples": 8, "holders": []},
            ["in FP32, since on 8 training samples they exceed half of FP16's range: a (4e+05)"],
        ),
    ],
)
def test_what_stays_in_fp32_is_named(details: Details, lines: list[str]) -> None:
    assert overflow_lines(details) == lines
