from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.samples import ELSEWHERE, HOST, QUALITY, make_ledger
from render.made import full_report
from render.reading import read, rows

from edgekit.ledger import LedgerRow, build_ledger
from edgekit.render.comparison import LATENCY_AXIS, SIZE_AXIS, Comparison, compare_reports
from edgekit.render.html.comparison import comparison_page
from edgekit.report import Report, TimedOn


def run(
    folder: Path, value: float = 0.91, latency_ms: float | None = 6.8, size: int = 17_100_000, **changes: Any
) -> Report:
    """A run that ends with these figures."""
    rows_ = [
        LedgerRow(stage="original", metric=0.9128, size_bytes=90_900_000, latency_ms=41.2 if latency_ms else None),
        LedgerRow(stage="quantize", metric=value, size_bytes=size, latency_ms=latency_ms),
    ]
    quality = QUALITY.model_copy(update={"after": value, "drop": 0.9128 - value})
    values: dict[str, Any] = {"ledger": build_ledger(rows_), "quality": quality}
    return full_report(folder, measured=latency_ms is not None, **(values | changes))


def names(comparison: Comparison, axis: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Runs and front of each group on an axis."""
    return [(group.runs, group.front) for group in comparison.groups if group.axis == axis]


def test_runs_of_one_machine_stand_on_one_axis_with_those_that_none_beats(tmp_path: Path) -> None:
    found = compare_reports(
        [
            run(tmp_path / "slow-good", 0.93, 20.0),
            run(tmp_path / "fast-bad", 0.89, 5.0),
            run(tmp_path / "beaten", 0.88, 6.0),
            run(tmp_path / "middle", 0.91, 7.0),
            run(tmp_path / "twin", 0.91, 7.0),
        ]
    )
    assert names(found, LATENCY_AXIS) == [
        (("slow-good", "fast-bad", "beaten", "middle", "twin"), ("fast-bad", "middle", "twin", "slow-good"))
    ]
    assert names(found, SIZE_AXIS) == []
    assert [run.unbeaten for run in found.runs] == [
        (LATENCY_AXIS,),
        (LATENCY_AXIS,),
        (),
        (LATENCY_AXIS,),
        (LATENCY_AXIS,),
    ]
    assert found.runs[0].speedup == pytest.approx(41.2 / 20)
    assert found.groups[0].what == (
        "accuracy on sst2, validation, all of it, 872 samples; a processor (x86_64), 2 cores, ONNX Runtime 1.23,"
        " batch 1, tokens 128, 1 thread"
    )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"host": HOST.model_copy(update={"processor": "another"})}, "machine"),
        ({"timed_on": TimedOn(device="a toy, over ssh")}, "machine"),
        ({"runtime": "onnxruntime 1.24"}, "runtime"),
        ({"workload": {"batch": 8, "tokens": 128, "image": None}}, "workload"),
        ({"threads": 2}, "threads"),
    ],
)
def test_latencies_of_another_kind_never_share_an_axis(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    here = [run(tmp_path / "a"), run(tmp_path / "b", 0.90, 5.0)]
    other = run(tmp_path / "c", 0.92, 1.0, 9_000_000, **changes)
    found = compare_reports([*here, other])
    assert names(found, LATENCY_AXIS) == [(("a", "b"), ("b", "a"))]
    assert names(found, SIZE_AXIS) == [(("a", "b", "c"), ("c",))]
    assert found.notes[0].startswith(f"Not all latencies are of the same {what}.")


def test_a_run_without_latency_is_compared_by_size_and_said_to_be(tmp_path: Path) -> None:
    found = compare_reports([run(tmp_path / "a"), run(tmp_path / "b", 0.92, None)])
    assert names(found, LATENCY_AXIS) == []
    assert names(found, SIZE_AXIS) == [(("a", "b"), ("b",))]
    assert found.notes[0] == f"Latency was not measured, so that only size can be compared: b ({ELSEWHERE})."
    assert (found.runs[1].latency_ms, found.runs[1].speedup) == (None, None)


@pytest.mark.parametrize(
    "quality",
    [
        QUALITY.model_copy(update={"metric": "f1"}),
        QUALITY.model_copy(update={"n": 100}),
        QUALITY.model_copy(update={"split": "test"}),
        None,
    ],
)
def test_quality_of_another_kind_is_in_no_chart(tmp_path: Path, quality: Any) -> None:
    found = compare_reports([run(tmp_path / "a"), run(tmp_path / "b"), run(tmp_path / "c", quality=quality)])
    assert [group.runs for group in found.groups] == [("a", "b")]
    assert "In no chart, since no other run has the same metric on the same data: c." in found.notes


def test_what_the_machine_drifted_is_told(tmp_path: Path) -> None:
    drifted = [row.model_copy(update={"latency_ms": row.latency_ms and row.latency_ms * 1.1}) for row in make_ledger()]
    found = compare_reports([full_report(tmp_path / "a"), full_report(tmp_path / "b", ledger=build_ledger(drifted))])
    assert found.notes == (
        "Each run was timed on its own. The same original, minilm-sst2, took 41.20 to 45.32 ms: what differs by less"
        " than 10% may be the machine's doing.",
    )


def test_a_run_that_goes_on_is_told(tmp_path: Path) -> None:
    found = compare_reports([run(tmp_path / "a"), run(tmp_path / "b", status="in progress")])
    assert found.notes[-1] == "Not finished, the best so far: b."


def test_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    found = compare_reports([run(tmp_path / place / "out") for place in ("a", "b")])
    assert [one.name for one in found.runs] == ["a/out", "b/out"]


def test_the_page_has_the_table_the_charts_and_the_details(tmp_path: Path) -> None:
    reports = [
        run(tmp_path / "fast", 0.90, 5.0),
        run(tmp_path / "good", 0.92, 8.0),
        run(tmp_path / "elsewhere", 0.91, None),
    ]
    page = read(comparison_page(compare_reports(reports)))
    assert page.all("h1")[0].text == "3 runs side by side"
    first, second, third = rows(page.one("table").all("table")[0])
    assert first[0] == "1 fast \N{CHECK MARK} passed , unbeaten in speed"
    assert first[1:] == ["90.0% \N{MINUS SIGN}1.3 pp", "5.00 8.2x faster", "17.1 5.3x smaller"]
    assert second[0] == "2 good \N{CHECK MARK} passed , unbeaten in speed and size"
    assert third[2] == "-"
    by_speed, by_size = page.one("charts").all("figure")
    scatter = next(svg for svg in by_speed.all("svg") if svg.attributes.get("class") == "scatter")
    assert scatter.all("desc")[0].text == "1 fast: 90.0% at 5 ms; 2 good: 92.0% at 8 ms"
    circles = [(node.attributes["class"], node.attributes["cx"]) for node in scatter.all("circle")]
    assert circles == [("hollow", "82.4%"), ("spot", "10%"), ("spot", "16%")]
    assert len([node for node in scatter.all("line") if node.attributes["class"] == "front"]) == 3
    assert "Unbeaten, the cheapest first: 1 fast, 2 good." in by_speed.text
    # Of the same size, the two that are worse are beaten: one number does for marks that cover each other.
    assert [node.text for node in by_size.all("text") if node.attributes.get("class") == "number"] == ["1", "2", "3"]
    assert f"not measured: {ELSEWHERE}" in page.one("details").text
    assert [node.text for node in page.one("details").all("h3")] == ["1 fast", "2 good", "3 elsewhere"]


def test_marks_that_cover_each_other_have_one_number(tmp_path: Path) -> None:
    page = read(comparison_page(compare_reports([run(tmp_path / name) for name in ("a", "b")])))
    assert [node.text for node in page.all("text") if node.attributes.get("class") == "number"] == ["1, 2"]


def test_without_a_chart_the_page_says_so(tmp_path: Path) -> None:
    reports = [run(tmp_path / "a"), run(tmp_path / "b", quality=None)]
    page = read(comparison_page(compare_reports(reports)))
    assert "No two of these runs can stand in one chart." in page.one("charts").text


def test_names_on_the_page_are_text(tmp_path: Path) -> None:
    hostile = "</script><b>x"
    reports = [run(tmp_path / name, target=hostile, runtime=hostile) for name in ("a", "<b>b")]
    page = read(comparison_page(compare_reports(reports)))
    assert page.all("b") == page.all("script") == []
    assert hostile in page.one("details").text


def test_other_data_of_the_same_name_is_on_no_common_axis(tmp_path: Path) -> None:
    digests = [{"name": "sst2", "digest": one * 64} for one in "ab"]
    found = compare_reports([run(tmp_path / f"run{index}", data=data) for index, data in enumerate(digests)])
    assert found.groups == ()
    assert "In no chart, since no other run has the same metric on the same data: run0, run1." in found.notes


def test_agreement_with_another_original_is_another_metric(tmp_path: Path) -> None:
    quality = QUALITY.model_copy(update={"metric": "agreement", "against": "original"})
    sources = [{"name": "a model", "digest": one * 64} for one in "ab"]
    reports = [run(tmp_path / f"run{index}", quality=quality, source=one) for index, one in enumerate(sources)]
    assert compare_reports(reports).groups == ()
    same = [run(tmp_path / f"same{index}", quality=quality, source=sources[0]) for index in range(2)]
    assert len(compare_reports(same).groups) == 1
