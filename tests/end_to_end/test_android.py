"""A target that is timed on an Android device: latency from there, answers from here, and why there are no others."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from end_to_end.made import WORKLOAD, image_parquet, model_folder, row
from fake_adb import FIXED, adb_server, needs_adb

import edgekit

REASON = "Android devices are timed only: their tools do not give back what a graph answers"


@needs_adb
def test_latency_is_the_devices_and_the_report_says_that_answers_were_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from edgekit.render.terminal import report_view

    tool = tmp_path / "perf_test"
    tool.write_text(FIXED)
    options = {
        "data": image_parquet(tmp_path / "data", 80),
        "target": "arm64",
        "device": f"adb:R5CT?tool={tool}",
        "recipe": "quantize",
        "settings": {"quantize.tolerance": "1.0"},
        "max_drop": 1.0,
        "workload": WORKLOAD,
        "jobs": 1,
        "output": tmp_path / "out",
    }
    model = model_folder("vit", tmp_path / "model", layers=1, intermediate_size=512)
    with adb_server(tmp_path, monkeypatch, "R5CT") as server:
        report = edgekit.compress(model, **options)
        phone = server.phones["R5CT"]
        assert phone.left() == []
        calls = len(phone.ran)
        again = edgekit.compress(model, **options)
        assert (again.cached, len(phone.ran)) == (True, calls + 1)  # asked what it is, and no more
    assert (report.measured, report.counts_after, report.devices) == (True, (), ())
    latency, memory = (next(one for one in report.after if one.name == name) for name in ("latency.p50", "memory.peak"))
    assert set(latency.samples) == {6.0, 7.0, 8.0}  # five of the warm-up before
    assert (latency.value, memory.value) == (7.0, 32 * 1024 * 1024)
    assert row(report, "quantize").latency_ms == 7.0
    assert report.devices_unchecked == {"Toy 7, over adb": REASON}
    console = Console(width=200, record=True, file=StringIO())
    console.print(report_view(report, width=200))
    written = [console.export_text(), *((tmp_path / "out" / name).read_text() for name in ("report.html", "README.md"))]
    assert [f"Toy 7, over adb: answers not compared there, because {REASON}" in text for text in written] == [True] * 3
