"""Measuring in Chromium, which has to be there, and ONNX Runtime for browsers, which npm fetches once."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit import devices
from edgekit.cache import Cache
from edgekit.devices import browser, reach, web_runtime
from edgekit.devices.browser import BrowserDevice
from edgekit.devices.chromium import Chromium, find_chromium
from edgekit.devices.means import find_means
from edgekit.errors import HostError, ModelError
from edgekit.progress import Silent
from edgekit.runtimes.measuring import Place, Subject, Timing, run_calls, time_subjects
from edgekit.target import load_target

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
graph (float[n, 3] x, int64[n] i) => (float[n, 3] y, int64[n] j) { y = Add(x, x) j = Add(i, i) }
"""


@pytest.fixture(scope="module")
def device() -> BrowserDevice:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    made = BrowserDevice()
    try:
        made.prepare(Silent())
    except HostError as error:
        pytest.skip(f"the runtime cannot be fetched: {error}")
    return made


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "graph.onnx")
    return Subject(tmp_path / "graph.onnx", {"x": np.ones((2, 3), np.float32), "i": np.arange(2)})


@pytest.mark.slow
def test_a_browser_gives_the_answers_of_every_call(device: BrowserDevice, subject: Subject) -> None:
    calls = [{"x": np.full((rows, 3), 0.25, np.float32), "i": np.arange(rows) - 2**40} for rows in (1, 4)]
    answer = run_calls(subject, calls, Place(device))
    for call, outputs in zip(calls, answer.outputs["subject"], strict=True):
        np.testing.assert_array_equal(outputs["y"].array(), call["x"] * 2)
        np.testing.assert_array_equal(outputs["j"].array(), call["i"] * 2)
    assert answer.runtime_version == web_runtime.VERSION
    assert answer.host["machine"] == "wasm32"
    assert answer.host["isolated"] == "true"
    assert answer.host["browser"].startswith("Chrome/")


@pytest.mark.slow
def test_a_browser_takes_times_in_rounds_of_blocks(device: BrowserDevice, subject: Subject) -> None:
    timing = Timing(seconds=0, rounds=3, most_rounds=5, fewest_rounds=2, enough_seconds=60, block=2, warmup=1)
    answer = time_subjects({"one": subject, "other": subject}, Place(device, threads=2), timing)
    assert {name: [len(block) for block in blocks] for name, blocks in answer.blocks_ms.items()} == {
        "one": [2, 2, 2],
        "other": [2, 2, 2],
    }
    assert all(ms >= 0 for blocks in answer.blocks_ms.values() for block in blocks for ms in block)
    assert answer.peak_memory_bytes > 1e6


@pytest.mark.slow
def test_what_the_runtime_refuses_is_told(device: BrowserDevice, subject: Subject) -> None:
    subject.graph.write_bytes(b"no model")
    with pytest.raises(ModelError, match="ONNX Runtime in a browser here does not run the model"):
        run_calls(subject, [subject.feeds], Place(device))


def test_a_browser_is_for_onnxruntime_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_chromium", lambda: "chromium")
    (found,) = reach(load_target("web"), "onnxruntime").devices
    assert isinstance(found, BrowserDevice)
    refused = reach(load_target("web"), "litert", "browser")
    assert refused.devices == ()
    assert "onnxruntime" in refused.because


def test_the_target_web_is_measured_where_there_is_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_chromium", lambda: "chromium")
    assert find_means(load_target("web")).measures == "latency"
    monkeypatch.setattr(devices, "find_chromium", lambda: None)
    means = find_means(load_target("web"))
    assert means.measures == "nothing"
    assert "there is no Chromium here" in means.not_emulated_because


def test_a_machine_without_a_browser_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "find_chromium", lambda: None)
    with pytest.raises(HostError, match="there is no Chromium here") as raised:
        BrowserDevice().prepare(Silent())
    assert "EDGEKIT_CHROMIUM" in raised.value.hint


def test_a_browser_sees_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    program = tmp_path / "chromium"
    program.write_text('#!/bin/sh\nenv > "$0.txt"\n', encoding="utf-8")
    program.chmod(0o755)
    Chromium(str(program)).__exit__(None, None, None)
    seen = (tmp_path / "chromium.txt").read_text(encoding="utf-8").splitlines()
    assert "XDG_RUNTIME_DIR=/run/user/7" in seen
    assert f"PATH={os.environ['PATH']}" in seen
    assert not any(line.startswith("HF_TOKEN=") for line in seen)


def test_a_browser_that_is_named_and_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_CHROMIUM", str(tmp_path / "chrom"))
    with pytest.raises(HostError, match=r"EDGEKIT_CHROMIUM names '.*chrom', which is no program here") as raised:
        reach(load_target("web"), "onnxruntime")
    assert raised.value.id == "environment.no-tool"
    (tmp_path / "chrom").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "chrom").chmod(0o755)
    assert find_chromium() == str(tmp_path / "chrom")


def packed(folder: Path) -> Path:
    """A package with the files that are taken out of it."""
    file = folder / "package.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name in web_runtime.FILES:
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return file


def test_the_runtime_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def pack(folder: Path) -> Path:
        fetched.append(folder)
        return packed(folder)

    monkeypatch.setattr(web_runtime, "_pack", pack)
    cache = Cache(tmp_path)
    first, second = web_runtime.provide(cache), web_runtime.provide(cache)
    assert first == second
    assert len(fetched) == 1
    assert [(first / name).read_text() for name in web_runtime.FILES] == list(web_runtime.FILES)


def test_a_package_of_another_sum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **more: Any) -> Any:
        packed(Path(command[-1]))
        return type("Done", (), {"returncode": 0, "stderr": "", "stdout": ""})

    monkeypatch.setattr(web_runtime.subprocess, "run", run)
    with pytest.raises(HostError, match="cannot be fetched") as raised:
        web_runtime.provide(Cache(tmp_path))
    assert "another sum" in raised.value.why


def test_npm_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="there is no npm here"):
        web_runtime.provide(Cache(tmp_path))


@pytest.mark.slow
def test_what_a_page_throws_is_an_error_with_its_words(device: BrowserDevice) -> None:
    executable = find_chromium()
    assert executable is not None
    with Chromium(executable) as opened:
        assert opened.evaluate("[1, 2].map((one) => one * 2)") == [2, 4]
        with pytest.raises(HostError, match="failed") as raised:
            opened.evaluate("Promise.reject(new Error('no'))")
        assert "no" in raised.value.why
        with pytest.raises(HostError) as late:
            opened.evaluate("new Promise(() => {})", seconds=0.2)
        assert "no answer in time" in late.value.why
    assert json.dumps(opened.events)


@pytest.mark.slow
def test_no_code_of_python_runs_between_fork_and_exec(device: BrowserDevice) -> None:
    """Packages that have threads, as JAX does, warn of a fork that would run any."""
    executable = find_chromium()
    assert executable is not None
    told: list[str] = []
    os.register_at_fork(before=lambda: told.append("fork"))
    with Chromium(executable) as opened:
        assert opened.evaluate("6 * 7") == 42
    assert told == []
