from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli.samples import DROP, ELSEWHERE, QUALITY, make_report
from pydantic import JsonValue
from records import make_record
from rich.console import Console, RenderableType

from edgekit.gate.record import Runtime
from edgekit.ledger import LedgerRow, build_ledger
from edgekit.render import figures
from edgekit.render.bench import bench_view
from edgekit.render.ledger import ledger_view
from edgekit.render.parts import pairs
from edgekit.render.records import eval_view, plan_view, verify_view
from edgekit.render.stages import DESCRIPTIONS, stage_lines
from edgekit.render.terminal import comparison_view, headline, report_view, verdict_view
from edgekit.render.wording import runtime_name, runtime_text
from edgekit.report import DeviceCheck, EvalRecord, LimitVerdict, Measurement, StageReport, TimedOn
from edgekit.target import PACKAGES, RUNTIME_NAMES


def drawn(view: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, highlight=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def folder(tmp_path_factory, monkeypatch):
    """A short relative path, since a path is never broken."""
    monkeypatch.chdir(tmp_path_factory.mktemp("run"))
    return Path("out")


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("measured", [True, False])
def test_no_line_of_a_report_is_longer_than_the_terminal(width, measured, folder):
    lines = drawn(report_view(make_report(folder, measured=measured), width=width), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_report_begins_with_the_verdict_and_ends_with_the_artifact(folder):
    lines = drawn(report_view(make_report(folder), width=80))
    assert lines[:2] == [
        "minilm-sst2 for x86-64-vnni: 6.1x faster, 5.3x smaller, accuracy 91.3% -> 91.1%",
        "proven  max drop  0.2 pp of 1.0 pp lost, at most 0.8 pp with 95% confidence",
    ]
    assert lines[-2:] == [
        "out",
        "model files 17.1 MB, whole folder 18.0 MB (1 MB = 10^6 bytes); took 31 min 12 s",
    ]
    titles = ["What each stage did", "Before and after", "Inside the artifact", "Notes", "Warnings", "Artifact"]
    assert [line for line in lines if line in titles] == titles


def test_report_from_the_cache_says_so(folder):
    assert "answered from the cache" in " ".join(drawn(report_view(make_report(folder, cached=True), width=80)))


def test_ledger_at_80_columns_stacks_changes_and_brackets_what_was_undone(folder):
    lines = drawn(ledger_view(make_report(folder), width=80))
    assert lines == [
        "stage      accuracy   size MB    p50 ms   what happened",
        "─" * 80,
        "original      91.3%      90.9     41.20",
        "prune         87.2%      55.1     13.10   kept: judged with distill",
        "            -4.1 pp     -35.8    -28.10",
        "distill       91.2%      55.1     13.00   kept: 3.2x faster, 1.6x smaller",
        "            +4.0 pp       0.0     -0.10",
        "export        91.2%      55.3     13.00   kept: never judged",
        "             0.0 pp      +0.2      0.00",
        "optimize    (91.2%)    (55.3)   (13.40)   undone: neither faster nor smaller:",
        "           (0.0 pp)     (0.0)   (+0.40)   fused attention is slower at 128",
        "                                          tokens here",
        "quantize      91.1%      17.1      6.80   kept: 1.9x faster, 3.2x smaller",
        "            -0.1 pp     -38.2     -6.20",
        "",
        "total       -0.2 pp     -73.8    -34.40   ( ): what an undone stage would give",
    ]


def test_ledger_at_120_columns_puts_changes_beside_values(folder):
    lines = drawn(ledger_view(make_report(folder), width=120), 120)
    assert lines[0].split() == [
        "stage",
        "accuracy",
        "change",
        "size",
        "MB",
        "change",
        "p50",
        "ms",
        "change",
        "what",
        "happened",
    ]
    assert (
        lines[3] == "prune         87.2%    -4.1 pp      55.1    -35.8     13.10    -28.10   kept: judged with distill"
    )
    assert lines[-1].split()[:6] == ["total", "-0.2", "pp", "-73.8", "-34.40", "("]


def test_ledger_of_a_run_that_was_not_measured_has_no_latency(folder):
    report = make_report(folder, measured=False, warnings=())
    text = "\n".join(drawn(report_view(report, width=100), 100))
    assert "p50" not in text
    assert " ms" not in text
    assert "faster" not in str(headline(report))
    assert f"latency and memory not measured: {ELSEWHERE}" in text


def test_ledger_without_data_has_no_metric(folder):
    rows = [LedgerRow(stage="original", size_bytes=900_000), LedgerRow(stage="export", size_bytes=950_000)]
    report = make_report(folder, measured=False, quality=None, ledger=build_ledger(rows), limits=())
    lines = drawn(ledger_view(report, width=80))
    assert lines[0] == "stage      size MB   what happened"
    assert lines[2:5] == ["original     0.900", "export       0.950   kept", "            +0.050"]
    assert "no limit was set" in drawn(verdict_view(report))


def test_ledger_totals_are_the_sum_of_what_was_kept(folder):
    report = make_report(folder)
    first, last = report.ledger[0], report.ledger[-1]
    total = drawn(ledger_view(report, width=80))[-1].split()
    assert total[1] == f"{(last.metric - first.metric) * 100:+.1f}"
    assert total[3] == f"{(last.size_bytes - first.size_bytes) / 1e6:+.1f}"
    assert total[4] == f"{last.latency_ms - first.latency_ms:+.2f}"


@pytest.mark.parametrize(
    ("changes", "strict", "expected"),
    [
        ({}, False, "proven  max drop  0.2 pp of 1.0 pp lost, at most 0.8 pp with 95% confidence"),
        ({"proven": False}, False, "met  max drop  0.2 pp of 1.0 pp lost, at most 0.8 pp with 95% confidence"),
        ({"proven": False}, True, "not proven  max drop  0.2 pp of 1.0 pp lost, at most 0.8 pp with 95% confidence"),
        (
            {"bound": 0.0079, "proven": False},
            False,
            "met  max drop  0.2 pp of 0.8 pp lost, at most 0.84 pp with 95% confidence",
        ),
        ({"value": 0.02, "met": False, "proven": None}, False, "missed  max drop  2.0 pp of 1.0 pp lost"),
        ({"value": -0.003, "proven": None}, False, "met  max drop  0.3 pp gained, 1.0 pp might be lost"),
        (
            {"value": None, "met": None, "proven": None},
            False,
            "unknown  max drop  1.0 pp allowed; it could not be told",
        ),
    ],
)
def test_verdict_is_one_line_a_limit(changes, strict, expected, folder):
    report = make_report(folder, limits=(DROP.model_copy(update=changes),), strict=strict)
    assert drawn(verdict_view(report)) == [expected]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (
            LimitVerdict(limit="max_ms", bound=10, value=6.8, met=True, proven=None),
            "met  max ms  6.80 ms of 10.00 ms allowed",
        ),
        (
            LimitVerdict(limit="max_mb", bound=20, value=17.1, met=True, proven=True),
            "proven  max mb  17.10 MB of 20.00 MB allowed",
        ),
        (
            LimitVerdict(limit="time", bound=2400, value=1872, met=True, proven=True),
            "proven  time  31 min 12 s of 40 min 00 s allowed",
        ),
        (
            LimitVerdict(limit="max_ms", bound=10, value=None, met=None, proven=None),
            f"unknown  max ms  10.00 ms allowed; not measured: {ELSEWHERE}",
        ),
    ],
)
def test_verdict_of_each_limit_has_its_unit(limit, expected, folder):
    report = make_report(folder, measured=limit.value is not None, limits=(limit,))
    assert drawn(verdict_view(report), 120) == [expected]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"processor": "Toy A1", "machine": "aarch64"}, "on a toy, over there (Toy A1, aarch64)"),
        ({}, "on a toy, over there"),
    ],
)
def test_latency_of_another_machine_says_which(facts, expected, folder):
    timed_on = TimedOn(device="a toy, over there", facts=facts)
    report = make_report(folder, timed_on=timed_on, runtime="onnxruntime 1.20")
    lines = drawn(comparison_view(report), 120)
    assert f"latency of batch 1, tokens 128, on 1 thread, in ONNX Runtime 1.20, {expected}" in lines


def test_verdict_on_a_devices_answers_names_the_one_that_agrees_least(folder):
    limit = LimitVerdict(limit="agreement_on_the_device", bound=0.99, value=0.96, met=False, proven=None)
    near, far = (
        DeviceCheck(
            device=f"toy-{agree}, emulated",
            runtime="onnxruntime 1.23",
            n=100,
            agree=agree,
            largest_difference=0.1,
            metric="accuracy",
            here=0.9,
            there=0.9,
        )
        for agree in (99, 96)
    )
    report = make_report(folder, limits=(DROP, limit), devices=(near, far))
    assert not report.passed
    expected = "missed  agreement on the device  96 of 100 predictions as here on toy-96, emulated, 99% needed"
    assert drawn(verdict_view(report), 120)[1] == expected


def test_comparison_has_ratios_and_the_interval(folder):
    lines = drawn(comparison_view(make_report(folder)))
    assert lines[2:7] == [
        "accuracy (n = 872)      91.3%      91.1%   -0.2 pp (90%: -0.8 to +0.5 pp)",
        "latency.p50          41.20 ms    6.80 ms   6.1x faster",
        "latency.p90          43.00 ms    7.10 ms   6.1x faster",
        "memory.peak          212.0 MB    81.0 MB   2.6x smaller",
        "size                  90.9 MB    17.1 MB   5.3x smaller",
    ]
    rest = " ".join(lines[7:])
    assert rest.startswith("12 of 872 predictions changed; cosine of the logits 0.9987; on validation, all of it")
    assert rest.endswith("latency of batch 1, tokens 128, on 1 thread, in ONNX Runtime 1.23")


def test_comparison_names_components_and_what_lacks_a_value(folder):
    after = (
        Measurement(name="latency.p50", unit="ms", value=2.0, component="encoder"),
        Measurement(name="memory.peak", unit="bytes", value=None, reason="no /proc here"),
    )
    lines = drawn(comparison_view(make_report(folder, quality=None, before=(), after=after)))
    assert lines[2].split() == ["latency.p50,", "encoder", "-", "2.00", "ms"]
    assert lines[3:] == ["memory not measured: no /proc here"]


def test_comparison_says_that_latency_is_missing_when_nothing_else_does(folder):
    report = make_report(folder, measured=False, quality=None, before=(), after=())
    assert drawn(comparison_view(report))[2:] == [f"latency not measured: {ELSEWHERE}"]


def test_stages_say_what_they_left_unless_they_were_undone(folder):
    assert list(stage_lines(make_report(folder))) == [
        (
            "prune",
            "4 of 6 layers; heads 6 4 4 3 of 12; neurons 512 384 384 416 of 1536;"
            " 26% of the encoder's multiply-accumulates",
        ),
        ("quantize", "27 of 28 layers in INT8, dynamic; in float: model/pooler"),
    ]


def test_stages_say_which_rewrites_pay(folder):
    ledger = make_report(folder).ledger[:1]
    lines = dict(stage_lines(make_report(folder, ledger=ledger)))
    assert lines["optimize"] == "rewrites: gelu; did not pay: attention"


def test_stages_with_details_of_another_kind_say_nothing(folder):
    stages = tuple(StageReport(stage=name, settings={}, details={"x": 1}) for name in DESCRIPTIONS)
    assert list(stage_lines(make_report(folder, stages=stages))) == []


def test_stages_tell_equal_layers_once_and_half_precision_by_name(folder):
    before: dict[str, JsonValue] = {"layers": 2, "heads": 4, "neurons": 64}
    kept: list[JsonValue] = [{"layer": index, "heads": 2, "neurons": 32} for index in range(2)]
    tables = {"tables": {"int4": ["words"], "int8": ["places"]}}
    stages = (
        StageReport(stage="prune", settings={}, details={"before": before, "kept": kept}),
        StageReport(stage="quantize", settings={}, details={"scheme": {"method": "fp16"}, "layers": 9}),
        StageReport(stage="quantize", settings={}, details={"scheme": {"method": "int4"}, "layers": 9}),
        StageReport(stage="quantize", settings={}, details={"scheme": {"method": "dynamic"}, "layers": 9} | tables),
        StageReport(stage="vocabulary", settings={}, details={"tokens_before": 900, "tokens_after": 300, "used": 250}),
    )
    assert list(stage_lines(make_report(folder, stages=stages))) == [
        ("prune", "2 of 2 layers; heads 2 each of 4; neurons 32 each of 64"),
        ("quantize", "all 9 layers in FP16"),
        ("quantize", "all 9 layers in INT4, weights only"),
        (
            "quantize",
            "all 9 layers in INT8, dynamic; tables in INT4: words;"
            " tables in INT8, since they lose too much in INT4: places",
        ),
        ("vocabulary", "300 of 900 tokens; 250 in use, the rest to write other words in pieces"),
    ]


def test_layers_that_a_quantizer_left_are_counted_and_named_by_reason(folder):
    left: dict[str, JsonValue] = {f"model/volume{index}": "it has no CONV_3D" for index in range(7)}
    details: dict[str, JsonValue] = {
        "scheme": {"method": "dynamic"},
        "layers": 10,
        "fallback_layers": ["model/head"],
        "float_layers": left | {"model/table": "embeddings were not asked for"},
    }
    stages = (StageReport(stage="quantize", settings={}, details=details),)
    ((_, line),) = stage_lines(make_report(folder, stages=stages))
    assert line == (
        "1 of 10 layers in INT8, dynamic; in float: model/head; 7 in float, since it has no CONV_3D: model/volume0,"
        " model/volume1, model/volume2, model/volume3, model/volume4 and 2 more;"
        " 1 in float, since embeddings were not asked for: model/table"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("litert 2.3.0", "LiteRT 2.3.0"),
        ("onnxruntime 1.23, cuda", "ONNX Runtime 1.23, cuda"),
        ("tflite-runtime", "tflite-runtime"),
        ("torch 2.13.0", "torch 2.13.0"),
    ],
)
def test_runtimes_are_called_as_people_call_them(text, shown):
    assert runtime_text(text) == shown
    assert shown.startswith(runtime_name(text))
    assert set(RUNTIME_NAMES) == set(PACKAGES)


def test_correlation_is_no_percentage(folder):
    quality = QUALITY.model_copy(update={"metric": "pearson", "flips": None})
    report = make_report(folder, quality=quality)
    assert str(headline(report)).endswith("pearson 0.913 -> 0.911")
    text = "\n".join(drawn(report_view(report, width=80)))
    assert "-0.002 (90%: -0.008 to +0.005)" in text
    assert "predictions changed" not in text


def test_text_of_others_is_never_markup(folder):
    report = make_report(folder, notes=("a [red]note[/red] :smile:",), source={"name": "[bold]x[/bold]"})
    text = "\n".join(drawn(report_view(report, width=80)))
    assert "a [red]note[/red] :smile:" in text
    assert "[bold]x[/bold] for" in text


def test_pairs_shorten_digests_and_long_lists_and_leave_out_none():
    values = {"digest": "ef" * 32, "items": list(range(13)), "nothing": None, "on": True, "inner": {"seconds": 8.0}}
    assert pairs(values) == "digest efefefefefef..., items (13 of them), on yes, inner (seconds 8)"


def test_plan_warns_when_the_disk_is_too_small():
    plan = SimpleNamespace(
        source={"location": "./model"},
        target="host",
        task="t",
        measured=True,
        not_measured_because="",
        devices=("this machine",),
        workload={},
        emulation=None,
        output="out",
        steps=(SimpleNamespace(stage="prune", settings={"keep": None, "on": True}, cached=False, seconds=None),),
        seconds=None,
        disk_bytes=2_000_000_000,
        disk_free_bytes=1_000_000,
        notes=(),
    )
    lines = drawn(plan_view(plan))
    assert "Plan: ./model for host" in lines
    assert "prune   on yes     unknown" in lines
    assert "disk      2.0 GB needed, 1 MB free" in lines
    assert "there is not enough room on the disk" in lines


def test_verification_without_golden_outputs_says_so():
    text = "\n".join(drawn(verify_view("out", SimpleNamespace(files=3, golden={}, tolerance=None, signed=False))))
    assert "golden outputs: none in this artifact" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (5000, "1 h 23 min"),
    ],
)
def test_duration_reads_as_people_say_it(seconds, text):
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(90, "1 min 30 s"), (1510, "25 min"), (5000, "1 h 23 min")])
def test_estimate_is_rounded(seconds, text):
    assert figures.roughly(seconds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(-0.04, 1, "0.0"), (0.04, 1, "0.0"), (0.0, 1, "0.0"), (-0.06, 1, "-0.1"), (1.25, 2, "+1.25")],
)
def test_change_has_a_sign_unless_it_rounds_to_nothing(value, digits, text):
    assert figures.signed(value, digits) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (41.2, 6.8, "6.1x faster"),
        (10, 20, "2.0x slower"),
        (10, 10.01, "as fast"),
        (None, 1, ""),
        (1, 0, ""),
        (-1, 2, ""),
        (5e-324, 9, ""),
    ],
)
def test_ratio_is_told_in_words(before, after, text):
    assert figures.ratio(before, after, "faster", "slower", "as fast") == text


@pytest.mark.parametrize(("size", "text"), [(90_900_000, "90.9"), (1_234_567, "1.23"), (12_345, "0.012")])
def test_size_has_three_figures(size, text):
    assert re.fullmatch(r"\d+\.\d+", figures.megabytes(size))
    assert figures.megabytes(size) == text


def test_bench_and_eval_name_the_runtime_as_people_do():
    parts = {"subject": {"name": "model"}, "metrics": ()}
    bench = make_record(runtime=Runtime(name="litert", version="2.3.0"))
    assert any("LiteRT" in line for line in drawn(bench_view(bench)))
    scored = EvalRecord(data={}, runtime={"name": "onnxruntime 1.32.0"}, **parts)
    assert any("ONNX Runtime 1.32.0" in line for line in drawn(eval_view(scored)))
