"""Each export against a file of how it was when it was looked at; `python tests/gate/exports/golden.py` writes them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gate.exports.golden import FILES, NAMES
from gate.records import METRICS, SLOWER, alone, gate, gated

from edgekit.gate.exports import EXPORTS
from edgekit.gate.exports.markdown import MOST_CHARACTERS, marker, plain
from edgekit.gate.exports.pytest_benchmark import summarize
from edgekit.gate.record import Metric, Protocol, Series
from edgekit.gate.wording import headline, interval_text, timed, value_text, where
from edgekit.render.bench import change
from edgekit.report import TimedOn

HOSTILE = 'a`b|c <img src=x>@team [x](http://evil) \x1b[31m\n::error::"x"'


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["gate", "alone"])
def test_an_export_is_what_it_was(name: str, kind: str) -> None:
    record = gate() if kind == "gate" else alone()
    assert EXPORTS[name].write(record) == FILES[kind, name].read_text(encoding="utf-8")


def test_every_format_has_a_golden_file() -> None:
    assert {file.name for file in FILES.values()} == {
        file.name for file in (Path(__file__).parent / "golden").iterdir()
    }
    assert set(NAMES) == EXPORTS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_others_do_no_harm(name: str) -> None:
    record = gate()
    subject = record.subject.model_copy(update={"name": HOSTILE})
    text = EXPORTS[name].write(record.model_copy(update={"subject": subject, "warnings": (HOSTILE,)}))
    if name == "junit":
        (case, *_) = ElementTree.fromstring(text).iter("testcase")
        assert case.get("classname", "").startswith("a`b|c <img src=x>@team")
    elif name == "markdown":
        assert "<img" not in text
        assert "@team" not in text
        assert "\x1b" not in text
        rows = [line for line in text.splitlines() if line.startswith("| latency")]
        assert rows[0].count(" | ") == 6
    else:
        json.loads(text)


def test_markdown_text_stays_text() -> None:
    assert plain("a_b|c") == r"a\_b\|c"
    assert plain("two\nlines") == "two lines"
    assert plain("see http://x") == "see http&#58;//x"
    assert plain("www.x GH-1 @a") == "www&#46;x GH-\u200b1 @\u200ba"
    assert plain("owner/name#12 # a") == "owner/name\\#\u200b12 \\# a"
    assert plain("a :+1: at 03:04:05") == "a :\u200b+1: at 03:04:05"
    assert len(plain("x" * 400)) == 300


def test_a_marker_ends_where_it_should() -> None:
    record = gate(subject=gate().subject.model_copy(update={"name": "a--><b>x</b>"}))
    assert marker(record) == "<!-- edgekit bench: a-b-x-b- -->"


def test_a_comment_has_the_room_that_github_gives_it() -> None:
    many = tuple(gated("latency.p50", "ms", "pass", component=f"part{index}", reason="x" * 200) for index in range(500))
    text = EXPORTS["markdown"].write(gate(metrics=many))
    assert text.startswith("<!-- edgekit bench: new_model.onnx -->\n")
    assert len(text) <= MOST_CHARACTERS
    assert text.endswith("Cut short: the whole of it is in the JSON document.\n")


def test_warnings_beyond_the_twentieth_are_counted() -> None:
    text = EXPORTS["markdown"].write(gate(warnings=tuple(f"warning {index}" for index in range(25))))
    assert "- warning 19\n- and 5 more\n" in text


def test_what_was_to_be_gated_and_cannot_be_measured_is_told() -> None:
    unmeasured = Metric(name="energy", unit="uJ", value=None, margin=0.05, reason="no counter")
    record = gate(metrics=(*METRICS[1:3], unmeasured), verdict="pass")
    suite = ElementTree.fromstring(EXPORTS["junit"].write(record))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "0", "1")
    (skipped,) = suite.iter("skipped")
    assert skipped.get("message") == "energy: not measured, +5% allowed; no counter"
    (row,) = (line for line in EXPORTS["markdown"].write(record).splitlines() if line.startswith("| energy"))
    assert row == "| energy | - | - | - | - | +5% | not measured: no counter |"
    assert headline(record).endswith("pass (improvement: size; pass: memory.peak; not measured: energy).")


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        (Protocol(processes=5, rounds=40, inferences=120), "5 processes, 40 rounds, 120 inferences a side, seed 0"),
        (Protocol(inferences=7), "7 inferences a side, seed 0"),  # under emulation
        (Protocol(), None),  # not compared
    ],
)
def test_how_it_was_measured_is_told_where_it_was(protocol: Protocol, told: str | None) -> None:
    assert dict(where(gate(protocol=protocol))).get("protocol") == told


def test_an_end_beyond_a_hundredfold_is_not_told_to_the_digit() -> None:
    wide = gated("latency.p90", "ms", "inconclusive", delta=0.18, delta_ci=(-0.34, 6.8e5))
    assert interval_text(wide) == "-34.00% to over +10000%"
    assert change(wide) == "+18.00% (-34.00 to over +10000)"


@pytest.mark.parametrize(
    ("unit", "value", "told"),
    [
        ("ms", 0.021712, "0.02171 ms"),
        ("ms", 12_345.6, "12,346 ms"),
        ("instructions", 987_654_321.0, "987.7 million"),
        ("instructions", 1.2345e10, "12,345 million"),
        ("1/s", 0.03417, "0.03417/s"),
        ("1/s", 44_088.3, "44,088/s"),
        ("uJ", 0.0213, "0.0213 uJ"),
    ],
)
def test_a_value_is_told_to_four_figures_without_an_exponent(unit: str, value: float, told: str) -> None:
    assert value_text(Metric(name="cold_start", unit=unit, value=value), value) == told


def test_a_percentile_is_no_series_of_times() -> None:
    series = Series(metric="latency.p90", unit="ms", processes=((1.0, 2.0), (1.5,)))
    record = gate(samples=(*gate().samples, series))
    assert [name for name, *_ in timed(record)] == ["latency.p50", "latency.p50"]


def test_a_machine_is_that_which_was_measured_on() -> None:
    board = TimedOn(device="a board", facts={"processor": "a core", "machine": "aarch64", "cores": "4"})
    told = json.loads(EXPORTS["pytest-benchmark"].write(gate(timed_on=board)))["machine_info"]
    assert (told["processor"], told["machine"]) == ("a core", "aarch64")
    assert json.loads(EXPORTS["google-benchmark"].write(gate(timed_on=board)))["context"]["num_cpus"] == 4
    silent = TimedOn(device="a board")
    assert json.loads(EXPORTS["google-benchmark"].write(gate(timed_on=silent)))["context"]["num_cpus"] == 1


def test_markers_tell_targets_and_devices_apart() -> None:
    subject = gate().subject.model_copy(update={"target": "raspberry-pi-5"})
    record = gate(subject=subject, timed_on=TimedOn(device="cortex-a76, emulated"))
    assert marker(record) == "<!-- edgekit bench: new_model.onnx, raspberry-pi-5, cortex-a76- emulated -->"


def test_junit_counts_failures_and_what_was_skipped() -> None:
    suite = ElementTree.fromstring(EXPORTS["junit"].write(gate()))[0]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    (failure,) = suite.iter("failure")
    assert failure.get("type") == "regression"
    assert failure.text == ("latency.p50: 1.23 ms to 1.4 ms, +13.80% (99%: +13.00% to +14.60%), +1% allowed")


def test_junit_tells_a_comparison_that_could_not_be_made() -> None:
    why = "the result is of another machine"
    suite = ElementTree.fromstring(EXPORTS["junit"].write(gate(metrics=(), verdict="invalid", warnings=(why,))))[0]
    (case,) = suite.iter("testcase")
    assert (case.get("name"), case[0].get("type"), case[0].text) == ("comparison", "invalid", why)
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")


def test_directions_are_kept_apart_for_github_action_benchmark() -> None:
    smaller = json.loads(EXPORTS["github-action-benchmark"].write(gate()))
    bigger = json.loads(EXPORTS["github-action-benchmark-bigger"].write(gate()))
    assert [one["name"] for one in smaller] == ["latency.p50", "size", "memory.peak"]
    assert [one["name"] for one in bigger] == ["accuracy", "throughput"]


def test_components_and_devices_are_part_of_a_name() -> None:
    metrics = (
        Metric(name="latency.p50", unit="ms", value=1.0, component="encoder"),
        Metric(name="instructions", unit="instructions", value=5.0, device="cortex-a76"),
    )
    found = json.loads(EXPORTS["bencher"].write(alone(metrics=metrics)))
    assert found == {
        "latency.p50, encoder": {"latency": {"value": 1e6}},
        "instructions, cortex-a76": {"instructions": {"value": 5.0}},
    }


def test_statistics_are_those_of_the_samples() -> None:
    flat = [one / 1e3 for process in SLOWER for one in process]
    found = summarize(flat)
    assert found["median"] == statistics.median(flat)
    assert found["rounds"] == len(flat) == 7
    assert found["outliers"] == "1;1"
    assert found["hd15iqr"] == pytest.approx(0.00142)
    assert summarize([0.5])["iqr"] == 0.0
    assert summarize([1.0, 2.0, 3.0, 4.0])["q1"] == 1.5
    assert summarize([1.0, 2.0, 3.0, 4.0, 5.0])["q3"] == 4.25


def test_a_loss_of_points_is_told_in_points() -> None:
    text = EXPORTS["markdown"].write(gate())
    row = next(line for line in text.splitlines() if line.startswith("| accuracy"))
    assert "| -0.20 pp | -1.20 pp to +0.80 pp | -0.5pp | inconclusive: 500 samples are too few |" in row
    assert METRICS[3].delta == -0.002
