"""Every shipped target from end to end: a tiny model built for it and executed on it, or the reason why not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from end_to_end.made import WORKLOAD, image_parquet, model_folder
from tflites import INSTALLED, REASON

import edgekit
from edgekit.cache import Cache
from edgekit.devices.browser import BrowserDevice
from edgekit.devices.chromium import find_chromium
from edgekit.devices.emulation.profiles import PROFILES
from edgekit.devices.emulation.root import build_root, why_not
from edgekit.devices.emulation.setup import kinds_for
from edgekit.environment import host
from edgekit.errors import HostError
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.tflite import hybrid_layers
from edgekit.progress import Silent
from edgekit.target import HOST, load_target, target_names

TARGETS = {name: load_target(name) for name in target_names() if name != HOST}
LOCAL = [name for name, target in TARGETS.items() if target.reach == "local"]
EMULATED = [name for name, target in TARGETS.items() if target.reach == "emulated"]
BROWSER = [name for name, target in TARGETS.items() if target.reach == "browser"]
# What a target that only a machine of its own kind can execute says on any other. Every such target needs a row.
OTHER_MACHINE = r"the target is \w+ and this machine is \w+|this machine's processor lacks [\w|, ]+"
NO_GPU = rf"{OTHER_MACHINE}|no CUDA device|.+ is of compute capability .+|the onnxruntime that .+ has no \w+; .+"
ELSEWHERE = {
    **dict.fromkeys(("x86-64", "x86-64-vnni", "x86-64-amx"), OTHER_MACHINE),
    **dict.fromkeys(("cuda", "tensorrt", "jetson-orin"), NO_GPU),
}


def compress(name: str, folder: Path) -> edgekit.Report:
    """A tiny image classifier for a target, in the target's own format."""
    if TARGETS[name].formats[0] == "tflite" and not INSTALLED:
        pytest.skip(REASON)
    return edgekit.compress(
        model_folder("vit", folder / "model"),
        data=image_parquet(folder / "data", 80),
        target=name,
        recipe="quantize",
        settings={"quantize.tolerance": "1.0"},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=folder / "out",
    )


def test_every_target_takes_part_below() -> None:
    assert sorted([*LOCAL, *EMULATED, *BROWSER]) == sorted(TARGETS)
    assert set(ELSEWHERE) == set(LOCAL)


@pytest.mark.parametrize("name", LOCAL)
def test_target_of_this_machines_kind_is_executed_or_says_why_not(name: str, tmp_path: Path) -> None:
    report = compress(name, tmp_path)
    assert (report.target, report.artifact.format) == (name, TARGETS[name].formats[0])
    assert edgekit.verify(tmp_path / "out").golden["task"] == 0.0
    reason = TARGETS[name].missing_on(host())
    if reason is None:
        assert report.measured
        assert report.latency_ms.p50 > 0  # type: ignore[operator]  # measured
        assert report.runtime.startswith(TARGETS[name].runtime.name)
    else:
        assert re.fullmatch(ELSEWHERE[name], reason)
        assert (report.not_measured_because, report.latency_ms.p50) == (reason, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", EMULATED)
def test_emulated_target_is_executed_on_its_processors(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    for kind in kinds_for(name):
        if (reason := why_not(kind)) is not None:
            pytest.skip(reason)
        try:
            build_root(kind, Cache())
        except HostError as error:
            pytest.skip(f"{error.what}: {error.why}")
    report = compress(name, tmp_path)
    assert report.artifact.format == target.formats[0]
    labels = [PROFILES[profile].label for profile in target.profiles]
    assert [count.device for count in report.counts_after] == labels
    for count, profile in zip(report.counts_after, target.profiles, strict=True):
        assert count.instructions > 10_000
        assert count.kernels
        assert set(count.kernels) <= set(PROFILES[profile].kernels)
        assert count.runtime.startswith(f"{target.runtime.name} ")
    assert [check.device for check in report.devices] == labels
    for check in report.devices:
        assert check.n == 20
        assert check.agree is not None
        assert check.agree >= 19  # a step of quantization may tip one
        assert check.largest_difference < 0.1
    assert (target.stand_in in report.notes) == bool(target.stand_in)
    assert report.latency_ms.p50 is None


@pytest.mark.slow
@pytest.mark.parametrize("name", BROWSER)
def test_target_in_a_browser_is_timed_and_answers_there(name: str, tmp_path: Path) -> None:
    if find_chromium() is None or shutil.which("npm") is None:
        pytest.skip("Chromium or npm is not installed")
    try:
        BrowserDevice().prepare(Silent())
    except HostError as error:
        pytest.skip(f"{error.what}: {error.why}")
    report = compress(name, tmp_path)
    assert report.latency_ms.p50 is not None
    assert report.latency_ms.p50 > 0
    (check,) = report.devices
    assert (check.device, check.n) == (BrowserDevice.label, 20)
    assert check.agree is not None
    assert check.agree >= 19  # a step of quantization may tip one
    record = edgekit.bench(tmp_path / "out", workload=WORKLOAD, device="browser")
    assert record.subject["target"] == name
    assert record.timed_on is not None
    assert (record.timed_on.device, record.timed_on.facts["machine"]) == (BrowserDevice.label, "wasm32")


@pytest.mark.slow
def test_armv7_gets_nothing_that_its_runtime_computes_wrongly(tmp_path: Path) -> None:
    report = compress("armv7", tmp_path)
    weights = report.graphs_after[0].weight_bytes
    assert max(weights, key=lambda dtype: weights[dtype]) == "int8"
    assert hybrid_layers(load_model(report.artifact.file())) == []
