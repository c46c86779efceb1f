from __future__ import annotations

from pathlib import Path

import pytest
from cli.samples import make_report

from edgekit.render.stages import DESCRIPTIONS, Details, overflow_lines, rescaled_lines, row_lines
from edgekit.report import StageReport


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


@pytest.mark.parametrize(
    ("details", "lines"),
    [
        ({}, []),
        ({"equalized": []}, ["no pair of convolutions to equalize"]),
        ({"equalized": [["model/a", "model/b"]] * 2}, ["2 pairs of convolutions equalized"]),
        ({"smoothed": {"layers": ["model/a"], "left": [], "because": "x"}}, ["1 layer smoothed"]),
        (
            {"smoothed": {"layers": ["model/a"] * 3, "left": ["model/b"], "because": "no norm precedes them"}},
            ["3 layers smoothed", "1 not, since no norm precedes them: model/b"],
        ),
    ],
)
def test_what_was_rescaled_before_is_told(details: Details, lines: list[str]) -> None:
    assert rescaled_lines(details) == lines
    whole: Details = {"scheme": {"method": "static"}, "layers": 4, "fallback_layers": [], **details}
    assert DESCRIPTIONS["quantize"](whole) == "; ".join(["all 4 layers in INT8, static", *lines])


def test_layers_that_were_pruned_before_are_told_of_what_each_had() -> None:
    row = {"layer": 0, "heads": 6, "neurons": 64, "heads_of": 8, "neurons_of": 96}
    other = {"layer": 1, "heads": 11, "neurons": 64, "heads_of": 12, "neurons_of": 96}
    details: Details = {"before": {"layers": 2, "heads": 8, "neurons": 96}, "kept": [row, other]}  # type: ignore[dict-item]  # a table is JSON
    assert DESCRIPTIONS["prune"](details) == "2 of 2 layers; heads 6 11 of 8 12; neurons 64 each of 96"


def test_that_less_went_than_was_asked_for_is_told() -> None:
    before: Details = {"layers": 2, "heads": 4, "neurons": 64}
    details: Details = {"before": before, "kept": [{"layer": 0, "heads": 1, "neurons": 16}], "macs_before": 200}  # type: ignore[dict-item]  # a table is JSON
    told = DESCRIPTIONS["prune"]({**details, "macs_after": 26, "macs_asked": 10})
    assert told.endswith("13% of the encoder's multiply-accumulates, where 5% was asked for")
    assert DESCRIPTIONS["prune"]({**details, "macs_after": 26}).endswith("13% of the encoder's multiply-accumulates")


def test_a_hidden_size_that_was_pruned_is_told() -> None:
    before: Details = {"layers": 2, "heads": 4, "neurons": 64}
    details: Details = {"before": before, "kept": [{"layer": 0, "heads": 2, "neurons": 32}]}  # type: ignore[dict-item]  # a table is JSON
    told = DESCRIPTIONS["prune"]({**details, "hidden": 16, "hidden_of": 32})
    assert told == "1 of 2 layers; hidden size 16 of 32; heads 2 each of 4; neurons 32 each of 64"
    assert "hidden size" not in DESCRIPTIONS["prune"](details)


def test_tokens_that_are_left_out_are_told() -> None:
    before: Details = {"layers": 2, "heads": 4, "neurons": 64}
    details: Details = {"before": before, "kept": [{"layer": 0, "heads": 2, "neurons": 32}]}  # type: ignore[dict-item]  # a table is JSON
    told = DESCRIPTIONS["prune"]({**details, "tokens": [1.0, 0.397, 0.25]})
    assert told == "1 of 2 layers; tokens 100 % 39.7 % 25 %; heads 2 each of 4; neurons 32 each of 64"
    assert "; tokens 100 %; " in DESCRIPTIONS["prune"]({**details, "tokens": []})
    assert "tokens" not in DESCRIPTIONS["prune"](details)


def test_a_stage_that_ran_twice_has_a_sentence_for_each_time(tmp_path: Path) -> None:
    report = make_report(tmp_path)
    twice = (*report.ledger[:2], *report.ledger[1:])
    first, second = ({"channels": left, "of": 8} for left in (6, 4))
    stages = tuple(StageReport(stage="prune", settings={}, details={"kept": [row]}) for row in (first, second))
    assert row_lines(report.model_copy(update={"ledger": twice, "stages": stages}))[:3] == [
        "6 of 8 channels",
        "4 of 8 channels",
        "",
    ]
