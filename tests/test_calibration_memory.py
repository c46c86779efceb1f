"""The benchmark of calibration's memory: what it measures of a stage, by a tiny model, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny

from edgekit.tasks.base import Workload

MB = 1_000_000


def line(samples: int, stage: int, calibration: int | None = None) -> dict[str, Any]:
    return {
        "code": "0",
        "case": f"sst2-static/{samples}",
        "created": "2026-01-02T03:04:05+00:00",
        "host": "a processor",
        "threads": 1,
        "samples": samples,
        "resident_before_bytes": 300 * MB,
        "calibration_peak_bytes": calibration,
        "stage_peak_bytes": stage * MB,
        "seconds": 1.0,
    }


def test_the_spread_is_of_the_largest_above_the_least(load: Any) -> None:
    memory = load("calibration_memory")
    rows = [line(32, 400, 390 * MB), line(4096, 440)]
    assert memory.spread(memory.stage_peaks(rows)) == pytest.approx(0.1)
    told = memory.table("sst2-static", rows)
    assert "| 32 | 300 | 390 | 400 | 1 |\n| 4096 | 300 | not told | 440 | 1 |" in told
    assert "The largest peak of the stage is 10.0% above the least; 1 thread, a processor" in told


def test_the_page_has_the_last_line_of_each_number(load: Any, tmp_path: Path) -> None:
    memory, results, page = load("calibration_memory"), tmp_path / "r.jsonl", tmp_path / "README.md"
    page.write_text("<!-- calibration: begin --><!-- calibration: end -->", encoding="utf-8")
    memory.write(results, page)
    assert "Not measured yet." in page.read_text()
    made = [line(4096, 440), line(32, 500), line(32, 400)]
    results.write_text("".join(json.dumps(one) + "\n" for one in made), encoding="utf-8")
    memory.write(results, page)
    assert page.read_text().count("| 32 | 300 | not told | 400 |") == 1
    assert "500" not in page.read_text()
    assert page.read_text().index("| 32 |") < page.read_text().index("| 4096 |")


def test_the_page_shows_what_the_results_hold(load: Any, tmp_path: Path) -> None:
    memory, page = load("calibration_memory"), tmp_path / "README.md"
    page.write_text(memory.README.read_text(encoding="utf-8"), encoding="utf-8")
    memory.write(memory.RESULTS, page)
    assert page.read_text(encoding="utf-8") == memory.README.read_text(encoding="utf-8")


@pytest.mark.parametrize(("arguments", "absent"), [([], "any case"), (["--case", "sst2-static"], "sst2-static")])
def test_what_is_not_here_is_told_before_anything_is_run(
    load: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], absent: str
) -> None:
    memory = load("calibration_memory")
    monkeypatch.setattr(memory, "find_asset", lambda key: None)
    monkeypatch.setattr("sys.argv", ["calibration_memory.py", *arguments])
    with pytest.raises(SystemExit, match=f"^not here are the assets of {absent}; see benchmarks/assets.toml$"):
        memory.main()


def test_peaks_are_of_the_calibration_and_of_the_whole(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = load("calibration_memory")
    peaks = iter([100, 250, 900, 300])
    monkeypatch.setattr(memory, "take_peak", lambda: next(peaks))
    watch = memory.Watch()
    watch.start(memory.CALIBRATION, 32)  # 100 was before it
    watch.finish()
    watch.start("quantize: static, onnxruntime")
    watch.finish()
    assert (watch.calibration, watch.stage) == (250, 900)


def test_the_kernel_tells_a_peak_and_forgets_it(load: Any) -> None:
    memory = load("calibration_memory")
    memory.take_peak()
    before = memory.resident("VmRSS")
    held = bytearray(b"x" * 64 * MB)
    del held
    assert memory.take_peak() > before + 32 * MB
    assert memory.take_peak() < before + 32 * MB


def test_the_stage_of_a_tiny_model_is_measured(load: Any, tmp_path: Path, torch_alone: Any) -> None:
    memory = load("calibration_memory")
    model = tiny.save(tiny.build("bert", layers=1), tmp_path / "model")
    rows = tiny.labelled(60)
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip(*rows.values(), strict=True)]
        (tmp_path / "data" / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = {"data": tmp_path / "data", "target": "x86-64-vnni", "jobs": 1, "workload": Workload(tokens=16)}
    found = memory.measure(str(model), options, 40, tmp_path / "cache", tmp_path)
    assert (found["samples"], found["threads"]) == (40, 1)
    assert found["stage_peak_bytes"] >= found["calibration_peak_bytes"] > 50 * MB
    assert found["stage_peak_bytes"] >= found["resident_before_bytes"] > 50 * MB
    with pytest.raises(SystemExit, match="the training split has 54 samples, and 1000 are wanted"):
        memory.measure(str(model), options, 1000, tmp_path / "cache", tmp_path)


def test_each_number_of_samples_has_a_process_of_its_own(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory, asked = load("calibration_memory"), []

    def apart(name: str, samples: int, cache: Path) -> dict[str, Any]:
        asked.append((name, samples))
        cache.mkdir(exist_ok=True)
        return line(samples, 400)

    monkeypatch.setattr(memory, "run_apart", apart)
    rows = [memory.line(f"sst2-static/{samples}", tmp_path) for samples in (32, 256)]
    assert asked == [("sst2-static", 1), ("sst2-static", 32), ("sst2-static", 256)]  # the first exports
    assert [row["case"] for row in rows] == ["sst2-static/32", "sst2-static/256"]
    assert rows[0]["stage_peak_bytes"] == 400 * MB


def test_a_process_of_other_code_is_told(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = load("calibration_memory")
    told = json.dumps(line(32, 400))
    monkeypatch.setattr(memory.subprocess, "run", lambda *given, **how: SimpleNamespace(stdout=f"noise\n{told}\n"))
    with pytest.raises(SystemExit, match="the code was changed meanwhile"):
        memory.run_apart("sst2-static", 32, tmp_path)
    monkeypatch.setattr(memory, "code_digest", lambda: "0")
    assert memory.run_apart("sst2-static", 32, tmp_path)["samples"] == 32
