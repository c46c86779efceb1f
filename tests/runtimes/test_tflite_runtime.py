from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.artifact import WHOLE
from edgekit.cache import Cache
from edgekit.errors import HostError, ModelError, UsageError
from edgekit.formats.tflite import axes_of, describe_component
from edgekit.quantization.litert import LiteRTScheme, quantize_model
from edgekit.runtimes import tflite_runtime
from edgekit.runtimes.tflite_runtime import METHODS, TFLiteRuntimeRunner, check_file, environment, run_graph


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
    assert not (tmp_path / "objects").exists()


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
        found = run_graph(file, component, batches)
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
