from __future__ import annotations

import gc
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflites import pretend_runtime

from edgekit.artifact import WHOLE
from edgekit.cache import Cache
from edgekit.errors import HostError, ModelError, ResourceLimitError, UsageError
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.tflite import axes_of, describe_component, hybrid_layers
from edgekit.quantization.litert import LiteRTScheme, quantize_model
from edgekit.runtimes import open_runner, runtime_here, tflite_runtime
from edgekit.runtimes.tflite_runtime import METHODS, TFLiteRuntimeRunner, check_file, environment, open_child


def test_file_that_it_would_compute_wrongly_is_refused(tflites: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    quantize_model(tflites["Residual"].file, file, LiteRTScheme(method="dynamic"))
    with pytest.raises(ModelError) as caught:
        check_file(file)
    assert caught.value.what == "tflite-runtime 2.14.0 would compute 'model.tflite' wrongly, and say nothing"
    assert caught.value.why.endswith("layers multiply INT8 weights with float activations, 'stem.0' among them")
    assert caught.value.hint == "Use --set quantize.method=weight-only or fp16."


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_it_computes_rightly_pass(tflites: Any, tmp_path: Path, method: Any) -> None:
    file = tmp_path / "model.tflite"
    made = tflites["bert"]
    quantize_model(made.file, file, LiteRTScheme(method=method, hybrid=False), made.ranges())
    check_file(file)
    assert hybrid_layers(load_model(file)) == []


def test_newer_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.version_info", (3, 12, 1, "final", 0))
    with pytest.raises(HostError) as caught:
        environment(Cache(tmp_path))
    assert caught.value.what == "tflite-runtime 2.14.0 cannot run here"
    assert caught.value.why == "it was built for Python up to 3.11, this is 3.12"


def test_what_pip_says_is_the_reason_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(tflite_runtime.subprocess, "run", fail)
    monkeypatch.setattr(tflite_runtime, "NEWEST_PYTHON", (9, 9))
    with pytest.raises(HostError) as caught:
        environment(Cache(tmp_path))
    assert caught.value.what.startswith("edgekit could not ")
    assert caught.value.why == "ERROR: No matching distribution found"
    assert caught.value.hint.endswith("run this once where pip reaches an index.")
    assert not (tmp_path / "objects").exists()
    assert not any((tmp_path / "tmp").iterdir())


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """LiteRT where the child looks for tflite-runtime: nothing is fetched, and the rest is as ever."""
    return pretend_runtime(monkeypatch, tmp_path / "packages")


@pytest.mark.usefixtures("pretended")
def test_child_answers_each_call_and_ends_with_its_object(tflites: Any) -> None:
    made = tflites["bert"]
    child = open_child(made.file, made.component)
    process = child._process
    for feeds in made.batches(4, 2):
        assert np.abs(child.run(feeds)["logits"] - made.reference(feeds)).max() < 1e-5
    assert process.poll() is None
    del child
    gc.collect()
    assert process.poll() is not None


@pytest.mark.usefixtures("pretended")
def test_child_goes_on_after_what_fits_nowhere(tflites: Any) -> None:
    ids = np.ones((1, 17), np.int64)
    made = tflites["bert"]
    runner = open_runner(made.artifact(), runtime=tflite_runtime.NAME)
    assert isinstance(runner, TFLiteRuntimeRunner)
    with pytest.raises(UsageError, match="takes up to sequence 16"):
        runner.run(WHOLE, {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids})
    with pytest.raises(ModelError, match=r"does not run 'bert.tflite'\ninputs \['other'\] were given"):
        runner.run(WHOLE, {"other": ids})
    (feeds,) = made.batches(1, 1)
    assert runner.run(WHOLE, feeds)["logits"].shape == (1, 2)


@pytest.mark.usefixtures("pretended")
def test_file_that_the_runtime_does_not_open_is_an_error_of_the_model(tflites: Any, tmp_path: Path) -> None:
    def refuse(file: Path) -> None:
        file.write_bytes(b"no graph")

    file = tmp_path / "model.tflite"
    file.write_bytes(tflites["bert"].file.read_bytes())
    check = tflite_runtime.check_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite_runtime, "check_file", lambda one: (check(one), refuse(one)))
        with pytest.raises(ModelError, match=r"tflite-runtime 2\.14\.0 does not run 'model\.tflite'"):
            open_child(file, tflites["bert"].component)


def test_child_that_dies_is_told_with_its_last_words(pretended: Path, tflites: Any) -> None:
    (pretended / "tflite_runtime" / "interpreter.py").write_text("raise SystemExit('no such instruction')\n")
    with pytest.raises(HostError) as caught:
        open_child(tflites["bert"].file, tflites["bert"].component)
    assert (caught.value.what, caught.value.why) == ("tflite-runtime failed", "no such instruction")


def test_child_that_hangs_is_stopped(pretended: Path, tflites: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", "0.2")
    (pretended / "tflite_runtime" / "interpreter.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(ResourceLimitError, match=r"gave no answer in 0 s, and its process was stopped"):
        open_child(tflites["bert"].file, tflites["bert"].component)


def test_only_tflite_runs_in_it_and_only_when_it_is_named(tflites: Any) -> None:
    artifact = tflites["bert"].artifact()
    assert not isinstance(open_runner(artifact), TFLiteRuntimeRunner)
    assert not isinstance(open_runner(artifact, runtime="litert"), TFLiteRuntimeRunner)
    assert runtime_here("tflite", "tflite-runtime") == "tflite-runtime 2.14.0"
    assert runtime_here("tflite", "litert").startswith("LiteRT ")
    assert runtime_here("onnx", "tflite-runtime").startswith("onnxruntime ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "Residual"])
def test_answers_are_those_of_torch(tflites: Any, tmp_path: Path, name: str) -> None:
    made = tflites[name]
    batches = made.batches(6, 2)
    for method, allowed in [("fp32", 1e-5), ("fp16", 0.002), ("weight-only", 0.05), ("static", 0.1)]:
        file, component = made.file, made.component
        if method != "fp32":
            file = tmp_path / f"{method}.tflite"
            quantize_model(made.file, file, LiteRTScheme(method=method, hybrid=False), made.ranges())
            component = describe_component(file, axes_of(made.component))
        child = open_child(file, component)
        found = [child.run(feeds) for feeds in batches]
        assert (
            max(abs(mine["logits"] - made.reference(feeds)).max() for mine, feeds in zip(found, batches, strict=True))
            < allowed
        )


@pytest.mark.slow
def test_runner_refuses_what_fits_nowhere(tflites: Any) -> None:
    ids = np.ones((1, 17), np.int64)
    runner = TFLiteRuntimeRunner(tflites["bert"].artifact())
    with pytest.raises(UsageError, match="takes up to sequence 16"):
        runner.run(WHOLE, {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids})
