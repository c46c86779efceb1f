"""This machine measured for real, shortly: samples, units, the environment, and the same protocol in ``bench``."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import pytest
from end_to_end.made import QUICK, SHORT, WORKLOAD, image_parquet, model_folder, text_data
from records import SHORTLY

import edgekit
from edgekit.environment import host
from edgekit.gate.protocol import FEWEST_INFERENCES, FEWEST_ROUNDS
from edgekit.measure.profile import profile_sides
from edgekit.runtimes.measuring import Timing

PROFILING = Timing(seconds=0.0, rounds=3, block=2, warmup=1)


def test_run_and_bench_measure_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.measure.limits.SHAPES", ((8, 8, 8), (64, 64, 64)))
    monkeypatch.setattr("edgekit.assembly.profile_sides", functools.partial(profile_sides, timing=PROFILING))
    model, began = model_folder("vit", tmp_path / "model", layers=1), time.monotonic()
    report = edgekit.compress(
        model,
        data=image_parquet(tmp_path / "data", 80),
        settings={"optimize.seconds": "0.2", "quantize.tolerance": "1.0"},
        recipe="quantize",
        max_drop=1.0,
        jobs=1,
        output=tmp_path / "out",
    )
    took_ms = (time.monotonic() - began) * 1e3
    assert report.measured
    assert report.target == "host"
    assert report.host.fingerprint == host().fingerprint
    for measurements in (report.before, report.after):
        found = {metric.name: metric for metric in measurements}
        assert found.keys() == {"size", "latency.p50", "latency.p90", "memory.peak"}
        assert found["latency.p50"].unit == "ms"
        assert found["latency.p50"].n == len(found["latency.p50"].samples) >= QUICK.rounds * QUICK.block
        assert 0 < found["latency.p50"].value <= found["latency.p90"].value < took_ms  # type: ignore[operator]
        assert found["memory.peak"].value > 10_000_000  # type: ignore[operator]
    total = sum(entry.latency_delta_ms or 0 for entry in report.ledger)
    assert total == pytest.approx(report.latency_ms.p50 - report.original_latency_ms.p50, abs=1e-9)  # type: ignore[operator]

    assert report.profile is not None
    assert report.profile.because == ""
    for (one,) in (report.profile.before, report.profile.after):
        assert one.component == "model"
        assert sum(operator.share for operator in one.operators) == pytest.approx(1)
        assert any(operator.product for operator in one.operators)
        assert one.macs
        assert one.int8_share is not None
        assert one.int8_share > 0

    monkeypatch.setattr("edgekit.gate.protocol.ALONE", SHORTLY)
    for path in (tmp_path / "out", tmp_path / "out" / "model.onnx"):
        record = edgekit.bench(path, workload=WORKLOAD)
        found = {metric.name: metric for metric in record.metrics}
        assert found["size"].value == report.artifact.size_bytes
        assert found["latency.p50"].n >= FEWEST_ROUNDS * FEWEST_INFERENCES
        assert found["memory.peak"].value > 10_000_000  # type: ignore[operator]
        assert record.protocol.processes == 1
        assert record.protocol.workload == {"batch": 1, "tokens": 16, "image": None}
        assert record.runtime.threads == 1


@pytest.mark.slow
def test_default_recipe_is_judged_by_this_machines_clock(tmp_path: Path) -> None:
    report = edgekit.compress(
        model_folder("bert", tmp_path / "model"),
        data=text_data(tmp_path),
        settings=SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    allowed = ("x as fast", "judged together with distill", "never undone", "smaller, ", "slower: ", "neither faster")
    for entry in report.ledger[1:]:
        assert any(words in entry.reason for words in allowed), entry.reason
        assert entry.latency_ms > 0  # type: ignore[operator]
    kept = [entry for entry in report.ledger if entry.kept]
    assert report.latency_ms.p50 == kept[-1].latency_ms
    assert edgekit.verify(tmp_path / "out").golden["task"] == 0.0
