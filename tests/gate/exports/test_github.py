from __future__ import annotations

from pathlib import Path

from gate.records import METRICS, alone, gate, gated

from edgekit.gate.exports.github import CUT, MOST_SUMMARY_BYTES, annotate, append_output, append_summary, command
from edgekit.gate.record import Metric


def test_a_regression_is_an_error_and_a_doubt_a_warning() -> None:
    assert annotate(gate()) == [
        "::error title=edgekit bench::latency.p50: 1.23 ms to 1.4 ms, +13.80%25 (99%25: +13.00%25 to +14.60%25),"
        " +1%25 allowed",
        "::warning title=edgekit bench::accuracy: 91.40%25 to 91.20%25, -0.20 pp (99%25: -1.20 pp to +0.80 pp), -0.5pp"
        " allowed; 500 samples are too few",
        "::warning title=edgekit bench::other processes used 12%25 of the processors",
    ]


def test_what_is_not_known_is_an_error_where_it_fails_the_step() -> None:
    unmeasured = Metric(name="energy", unit="uJ", value=None, margin=0.05, reason="no counter")
    record = gate(metrics=(*METRICS[2:4], unmeasured), verdict="inconclusive", warnings=())
    assert [one.partition("::")[2].partition(",")[0] for one in annotate(record, strict=True)] == [
        "error title=edgekit bench::accuracy: 91.40%25 to 91.20%25",
        "error title=edgekit bench::energy: not measured",
    ]
    assert [one.partition(" ")[0] for one in annotate(record)] == ["::warning"]


def test_what_passed_is_one_notice() -> None:
    record = gate(metrics=(gated("size", "bytes", "pass"),), verdict="pass", warnings=())
    assert annotate(record) == ["::notice title=edgekit bench::new_model.onnx beside old.onnx: pass (pass: size)."]
    assert annotate(alone()) == ["::notice title=edgekit bench::new_model.onnx was measured."]


def test_an_invalid_comparison_is_an_error_with_its_reason() -> None:
    first, second = annotate(gate(metrics=(), verdict="invalid", warnings=("another machine",)))
    assert first == "::error title=edgekit bench::new_model.onnx beside old.onnx: invalid."
    assert second == "::warning title=edgekit bench::another machine"


def test_there_are_ten_of_a_kind_at_most() -> None:
    metrics = tuple(gated("latency.p50", "ms", "regression", component=f"part{index}") for index in range(12))
    found = annotate(gate(metrics=metrics, warnings=tuple(f"warning {index}" for index in range(10))))
    errors = [one for one in found if one.startswith("::error")]
    assert len(errors) == 10
    assert errors[-1].endswith("::and 3 more, in the summary and in the JSON document")
    assert sum(one.startswith("::warning") for one in found) == 10


def test_a_message_ends_no_command_and_begins_none() -> None:
    assert command("error", "50%\r\n::error::x") == "::error title=edgekit bench::50%25%0D%0A::error::x"


def test_a_summary_has_a_mebibyte_with_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("first", encoding="utf-8")
    append_summary(file, "line\n" * MOST_SUMMARY_BYTES)
    text = file.read_text(encoding="utf-8")
    assert file.stat().st_size <= MOST_SUMMARY_BYTES
    assert text.startswith("first\n\nline\n")
    assert text.endswith(f"line{CUT}")
    append_summary(file, "more\n" * 10)
    assert file.stat().st_size <= MOST_SUMMARY_BYTES


def test_the_verdict_is_an_output(tmp_path: Path) -> None:
    append_output(tmp_path / "output", gate())
    append_output(tmp_path / "output", alone())
    assert (tmp_path / "output").read_text() == "verdict=regression\nverdict=measured\n"
