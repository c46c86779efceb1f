"""What cannot be done here is said: without data, and for a processor that this machine is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.made import SHORT, WORKLOAD, data_for, model_folder, row

import edgekit
from edgekit.environment import Host
from edgekit.measure.golden import TOLERANCES

ELSEWHERE = "the target is aarch64 and this machine is x86_64"


@pytest.mark.usefixtures("device")
def test_without_data_the_rest_is_done_and_the_notes_say_what_is_left_out(tmp_path: Path) -> None:
    report = edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=2),
        target="x86-64-vnni",
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert set(report.notes) == {
        "prune: left out, since it needs data (--data)",
        "distill: left out, since it needs data (--data)",
        "the metric was not measured, since there is no data",
    }
    assert [entry.stage for entry in report.ledger] == ["original", "export", "optimize", "quantize"]
    assert {entry.metric for entry in report.ledger} == {None}
    assert {entry.metric_delta for entry in report.ledger} == {None}
    assert (report.quality, report.metric, report.data) == (None, None, {})
    (limit,) = report.limits
    assert (limit.bound, limit.met, limit.proven) == (0.01, None, None)
    assert row(report, "quantize").size_delta_bytes < -0.5 * row(report, "quantize").size_bytes
    assert report.artifact.manifest.components["model"].precision == "int8"
    record = edgekit.verify(tmp_path / "out")
    assert record.golden == {"model": 0.0, "task": 0.0}
    assert record.tolerance == TOLERANCES["int8"]


@pytest.mark.usefixtures("device")
def test_static_quantization_is_left_out_without_data(tmp_path: Path) -> None:
    report = edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=1),
        target="x86-64-vnni",
        recipe="static",
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert "quantize: left out, since it needs data (--data)" in report.notes
    assert report.artifact.manifest.components["model"].precision == "fp32"


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_target_of_another_architecture_is_built_and_scored_but_not_timed(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Host(
        architecture="x86_64",
        processor="a processor",
        features=("avx2", "fma"),
        cores=2,
        memory_bytes=1,
        system="Linux",
        python="3.11",
    )
    for module in ("environment", "request", "api", "assembly"):
        monkeypatch.setattr(f"edgekit.{module}.host", lambda: machine)

    def no_timing(*_: object) -> None:
        pytest.fail("nothing can be timed for this target")

    monkeypatch.setattr("edgekit.measure.latency.time_subjects", no_timing)
    monkeypatch.setattr("edgekit.measure.latency.peak_memory", no_timing)
    data = data_for(family, tmp_path / "data")
    report = edgekit.compress(
        model_folder(
            family, tmp_path / "model", layers=1, intermediate_size=4096
        ),  # the nodes' own bytes are few beside it
        data=data,
        target=edgekit.load_target("arm64").model_copy(update={"reach": "local"}),
        settings=SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert (report.measured, report.not_measured_because) == (False, ELSEWHERE)
    assert (report.latency_ms.p50, report.original_latency_ms.p50, report.speedup) == (None, None, None)
    for measurements in (report.before, report.after):
        untimed = {metric.name: (metric.value, metric.reason) for metric in measurements if metric.name != "size"}
        assert untimed == dict.fromkeys(("latency.p50", "latency.p90", "memory.peak"), (None, ELSEWHERE))
    for entry in report.ledger:
        assert (entry.latency_ms, entry.latency_delta_ms, entry.would_latency_ms) == (None, None, None)
        assert entry.kept, entry.reason
        assert entry.metric is not None
    assert row(report, "distill").reason.startswith("smaller, ")
    assert row(report, "optimize").reason == f"fewer operators; not timed: {ELSEWHERE}"
    assert row(report, "quantize").reason.startswith("smaller, ")
    assert row(report, "quantize").reason.endswith(f"MB; not timed: {ELSEWHERE}")
    assert report.quality is not None
    assert report.metric == edgekit.evaluate(tmp_path / "out", data, threads=1).metrics[0].value
    assert report.artifact.manifest.target == "arm64"
    edgekit.verify(tmp_path / "out")
