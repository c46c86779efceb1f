"""A target that is emulated: instructions in place of latency, and answers there beside those here."""

from __future__ import annotations

import base64
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.made import SHORT, WORKLOAD, image_parquet, model_folder, row
from fake_devices import Emulator

import edgekit
from edgekit.devices import WAYS, Reached
from edgekit.errors import HostError

UNTRAINED = {"quantize.tolerance": "1.0"}
SMALL, BIG = "toy-a53, emulated", "toy-a76, emulated"


def run(folder: Path, patch: pytest.MonkeyPatch, *devices: Emulator, **options: Any) -> edgekit.Report:
    """Compress a tiny image classifier for arm64, emulated on these devices."""
    patch.setitem(WAYS, "emulated", lambda target, runtime, address: Reached(devices))
    target = edgekit.load_target("arm64").model_copy(update={"reach": "emulated"})
    return edgekit.compress(
        model_folder("vit", folder / "model", layers=1, intermediate_size=512),
        data=image_parquet(folder / "data", 80),
        target=target,
        settings=UNTRAINED if "recipe" in options else SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=folder / "out",
        **{"device": "emulated"} | options,
    )


def test_instructions_are_counted_and_answers_compared_on_each_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(tmp_path, monkeypatch, Emulator(SMALL), Emulator(BIG))
    assert (report.measured, report.latency_ms.p50) == (False, None)
    assert report.not_measured_because == "an emulator's clock says nothing about the device"
    assert [count.device for count in report.counts_after] == [SMALL, BIG]
    size = (tmp_path / "out" / "model.onnx").stat().st_size
    for count in report.counts_after:
        assert (count.instructions, count.samples, count.kernels) == (size, ((size,) * 3,), {"sdot": 7})
        assert count.runtime.startswith("onnxruntime 1.")
    first = report.ledger[0]
    changes = sum(entry.instructions_change.get(BIG, 0) for entry in report.ledger if entry.kept)
    assert first.instructions[BIG] + changes == size
    assert row(report, "quantize").reason.startswith("cheaper: instructions 0.")
    assert row(report, "quantize").reason.count("x") == 2
    assert [check.device for check in report.devices] == [SMALL, BIG]
    for check in report.devices:
        assert (check.n, check.agree, check.largest_difference) == (20, 20, 0.0)
        assert check.here == check.there
    assert report.metric is not None
    assert [(limit.limit, limit.value, limit.met, limit.proven) for limit in report.limits[1:]] == [
        ("agreement_on_the_device", 1.0, True, None)
    ]
    assert report.passed


def test_a_stage_that_is_dearer_on_one_of_the_processors_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_at_integers = Emulator(SMALL, {b"MatMulInteger": 9.0, b"DynamicQuantizeLinear": 9.0, b"QuantizeLinear": 9.0})
    report = run(tmp_path, monkeypatch, slow_at_integers, Emulator(BIG), recipe="quantize")
    undone = row(report, "quantize")
    assert not undone.kept
    assert undone.reason.startswith("dearer on toy-a53: instructions ")
    assert undone.instructions_change[SMALL] > 0 > undone.instructions_change[BIG]
    last = [entry for entry in report.ledger if entry.kept][-1]
    assert report.counts_after[0].instructions == last.instructions[SMALL]


def test_the_page_the_card_and_the_terminal_tell_of_the_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from edgekit.render.terminal import report_view

    report = run(tmp_path, monkeypatch, Emulator(BIG), recipe="quantize")
    console = Console(width=100, record=True, file=StringIO())
    console.print(report_view(report, width=100))
    written = {
        "terminal": " ".join(console.export_text().split()),
        "page": (tmp_path / "out" / "report.html").read_text(encoding="utf-8"),
        "card": (tmp_path / "out" / "README.md").read_text(encoding="utf-8"),
    }
    for where, text in written.items():
        assert "million instructions an inference" in text, where
        assert "20 of 20 predictions as here" in text, where
    assert "M instr." in written["terminal"]
    assert "Instructions, millions, toy-a76" in written["page"]
    assert "they are no latency" in written["card"]


def test_a_dry_run_tells_of_the_emulation_and_of_what_it_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("edgekit.devices.why_not", lambda kind: None)
    model, data = model_folder("vit", tmp_path / "model"), image_parquet(tmp_path / "data", 80)
    options: dict[str, Any] = {"data": data, "target": "arm64", "workload": WORKLOAD, "recipe": "quantize"}
    local = edgekit.plan(model, **options | {"target": "host"}, device="local")
    one = edgekit.plan(model, **options, device="emulated:cortex-a53")
    two = edgekit.plan(model, **options, device="emulated:cortex-a53,cortex-a76")
    assert local.emulation is None
    assert one.emulation is not None
    assert two.emulation is not None
    assert two.emulation.devices == two.devices == ("cortex-a53, emulated", "cortex-a76, emulated")
    assert (one.emulation.download_bytes, two.emulation.download_bytes) == (100_000_000, 100_000_000)
    assert one.disk_bytes == two.disk_bytes > local.disk_bytes + 200_000_000
    # 20 s to set up; the original, the optimized and the quantized one are counted, and the last one answers
    assert (one.emulation.seconds, two.emulation.seconds) == (20 + 4 * 5, 20 + 2 * 4 * 5)
    assert one.seconds is not None
    assert one.seconds >= sum(step.seconds or 0 for step in one.steps) + one.emulation.seconds - 1
    monkeypatch.setattr("edgekit.planning.find_root", lambda kind, cache: object())
    made = edgekit.plan(model, **options, device="emulated:cortex-a53").emulation
    assert made is not None
    assert (made.download_bytes, made.seconds) == (0, 4 * 5)


def test_a_run_that_is_in_the_cache_takes_no_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(tmp_path, monkeypatch, Emulator(BIG), recipe="quantize")
    plan = edgekit.plan(
        tmp_path / "model",
        data=tmp_path / "data",
        target=edgekit.load_target("arm64").model_copy(update={"reach": "emulated"}),
        settings=UNTRAINED,
        recipe="quantize",
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        device="emulated",
    )
    assert report.counts_after
    assert plan.emulation is not None
    assert (plan.emulation.devices, plan.emulation.seconds) == ((BIG,), 0.0)


class Slow(Emulator):
    """Takes all of its time for seven samples, by its own clock."""

    def execute(self, folder: Path, seconds: float) -> str:
        answer = json.loads(super().execute(folder, seconds))
        return json.dumps(answer | {"run_ms": seconds * 1e3 * 0.8 / 7.5})


def test_a_slow_device_is_given_as_many_samples_as_it_has_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(tmp_path, monkeypatch, Slow("slow, emulated"), Emulator(SMALL), recipe="quantize")
    assert [(check.n, check.agree) for check in report.devices] == [(7, 7), (20, 20)]
    assert "7 of 7 predictions as here" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


class Astray(Emulator):
    """Answers with the outputs in the opposite order."""

    def execute(self, folder: Path, seconds: float) -> str:
        answer = json.loads(super().execute(folder, seconds))
        for calls in answer.get("outputs", {}).values():
            for call in calls:
                for output in call.values():
                    values = np.frombuffer(base64.b64decode(output["data"]), output["dtype"])
                    output["data"] = base64.b64encode(values[::-1].tobytes()).decode()
        return json.dumps(answer)


def test_a_device_that_answers_otherwise_misses_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(tmp_path, monkeypatch, Astray("astray, emulated"), Emulator(SMALL), recipe="quantize")
    astray, sound = report.devices
    assert astray.agree is not None
    assert astray.agree < sound.n == sound.agree
    drop, agreement = report.limits
    assert (drop.limit, drop.met) == ("max_drop", True)
    assert (agreement.limit, agreement.bound, agreement.met) == ("agreement_on_the_device", 0.99, False)
    assert agreement.value == astray.agree / astray.n
    assert not report.passed
    assert edgekit.load_report(tmp_path / "out").limits == report.limits
    assert edgekit.verify(tmp_path / "out").files > 0  # the artifact is kept all the same
    text = " ".join((tmp_path / "out" / "report.html").read_text(encoding="utf-8").split())
    assert "the result does not keep agreement on the device" in text
    assert f"{astray.agree} of {astray.n} predictions as here on astray, emulated, 99% needed" in text


def test_a_way_that_cannot_measure_the_target_is_an_error_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = monkeypatch
    patch.setitem(WAYS, "local", lambda target, runtime, address: Reached(because="this machine is none"))
    with pytest.raises(HostError, match="cannot be measured in the way that --device names") as raised:
        edgekit.plan(model_folder("vit", tmp_path / "model"), target="arm64", device="local")
    assert (raised.value.id, raised.value.why) == ("environment.cannot-measure", "this machine is none")


class Absent(Emulator):
    """Cannot be had."""

    def prepare(self, progress: object) -> None:
        raise HostError("the root cannot be built", id="environment.no-network", why="no index answers")


def test_a_device_that_cannot_be_had_is_told_where_it_is_the_targets_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HostError, match="the root cannot be built"):
        run(tmp_path, monkeypatch, Absent("absent, emulated"), recipe="quantize")
    report = run(tmp_path, monkeypatch, Absent("absent, emulated"), recipe="quantize", device=None)
    assert report.not_measured_because == "the root cannot be built: no index answers"
    assert (report.counts_after, report.devices, report.ledger[0].instructions) == ((), (), {})
    assert row(report, "quantize").reason.endswith("not timed: the root cannot be built: no index answers")
