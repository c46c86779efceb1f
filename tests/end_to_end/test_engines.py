"""A second quantizer: what is refused before any work, which of two stays, and how the report names the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from end_to_end.made import WORKLOAD, model_folder, text_data

import edgekit
from edgekit.environment import version_of
from edgekit.errors import EdgekitError, HostError, ModelError, UsageError
from edgekit.quantization import neural_compressor
from edgekit.render.stages import stage_lines
from edgekit.request import resolve_request
from edgekit.stages.quantize import _decided

INSTALLED = version_of("neural-compressor") is not None and version_of("torchao") is not None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder("bert", tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_data(tmp_path_factory.mktemp("data"))


def refusal(model: Path, kind: type[EdgekitError], **settings: str) -> EdgekitError:
    named = {f"quantize.{name}": value for name, value in settings.items()}
    with pytest.raises(kind) as caught:
        resolve_request(model, target="x86-64-vnni", recipe="quantize", settings=named)
    return caught.value


def compress(model: Path, data: Path, out: Path, **settings: str) -> edgekit.Report:
    return edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        recipe="quantize",
        settings={"optimize.seconds": "0.2", "quantize.samples": "16", "quantize.tolerance": "1.0"}
        | {f"quantize.{name}": value for name, value in settings.items()},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=out,
    )


def quantize_details(report: edgekit.Report) -> dict[str, Any]:
    return dict(next(stage.details for stage in report.stages if stage.stage == "quantize"))


@pytest.mark.parametrize("engine", ["neural-compressor", "both"])
def test_an_engine_that_is_not_installed_is_told_before_any_work(
    model: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neural_compressor, "version_of", lambda package: None)
    error = refusal(model, HostError, engine=engine)
    assert error.exit_code == 3
    assert error.id == "environment.no-package"
    assert "pip install 'edgekit[inc]'" in error.hint


@pytest.mark.parametrize("engine", ["neural-compressor", "both"])
def test_weights_that_it_does_not_make_are_refused(model: Path, engine: str) -> None:
    error = refusal(model, UsageError, engine=engine, scheme="u8u8")
    assert error.what == f"quantize.scheme=u8u8 cannot go with quantize.engine={engine}"
    assert error.why == "neural-compressor makes weights s8"


@pytest.mark.parametrize("method", ["dynamic", "fp16"])
def test_methods_that_it_cannot_export_are_refused(model: Path, method: str) -> None:
    error = refusal(model, UsageError, engine="neural-compressor", method=method)
    assert error.what == f"quantize.method={method} cannot go with quantize.engine=neural-compressor"
    assert "quantize.method=static" in error.hint


@pytest.mark.parametrize("engine", ["onnxruntime", "neural-compressor", "both"])
def test_bf16_is_refused_since_nothing_runs_it(model: Path, engine: str) -> None:
    error = refusal(model, UsageError, engine=engine, method="bf16")
    assert error.what == "quantize.method=bf16 would give a graph that no CPU runs"
    assert error.why.endswith("onnxruntime multiplies no bf16 on a CPU")
    assert "quantize.method=fp16" in error.hint


def test_without_data_it_is_left_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.pipeline import leave_out

    monkeypatch.setattr(neural_compressor, "require", lambda: None)
    request = resolve_request(
        model, target="x86-64-vnni", recipe="quantize", settings={"quantize.engine": "neural-compressor"}
    )
    steps, notes = leave_out(request)
    assert "quantize: left out, since it needs data (--data)" in notes
    assert "quantize" not in [step.stage.name for step in steps]


@pytest.mark.usefixtures("device")
def test_an_engine_that_cannot_take_the_model_is_named_and_the_other_stays(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> dict[str, Path]:
        raise ModelError("neural-compressor 3.10 cannot quantize this model", why="no such operator")

    monkeypatch.setattr(neural_compressor, "require", lambda: None)
    monkeypatch.setattr(neural_compressor, "mark", refuse)
    report = compress(model, data, tmp_path / "out", engine="both", samples="8")  # a run of its own in the cache
    found = quantize_details(report)
    assert (found["engine"], found["engine_reason"]) == ("onnxruntime", "the only one that takes this model")
    assert found["engines"][1] == {
        "engine": "neural-compressor",
        "failed": "neural-compressor 3.10 cannot quantize this model: no such operator",
    }
    line = dict(stage_lines(report))["quantize"]
    assert "by onnxruntime: the only one that takes this model" in line
    assert "neural-compressor (not used): neural-compressor 3.10 cannot quantize this model: no such operator" in line


def test_a_lock_that_names_an_engine_which_fails_here_is_told_why() -> None:
    failed = [{"engine": "neural-compressor", "failed": "neural-compressor 3.10 cannot quantize this model: why"}]
    with pytest.raises(ModelError, match="the lock has the quantizer 'neural-compressor'") as caught:
        _decided([], failed, "neural-compressor")
    assert caught.value.why == "neural-compressor 3.10 cannot quantize this model: why"


@pytest.mark.usefixtures("device")
def test_by_default_nothing_is_said_of_engines(model: Path, data: Path, tmp_path: Path) -> None:
    report = compress(model, data, tmp_path / "out")
    found = quantize_details(report)
    assert found["engine"] == "onnxruntime"
    assert "engines" not in found
    assert "by onnxruntime" not in dict(stage_lines(report))["quantize"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torchao and neural-compressor warn of each other's names when imported
@pytest.mark.skipif(not INSTALLED, reason="needs the extra: edgekit[inc]")
@pytest.mark.usefixtures("device")
def test_both_engines_are_measured_and_the_better_one_is_in_the_artifact(
    model: Path, data: Path, tmp_path: Path
) -> None:
    report = compress(model, data, tmp_path / "both", engine="both")
    found = quantize_details(report)
    assert [row["engine"] for row in found["engines"]] == ["onnxruntime", "neural-compressor"]
    assert all(row["size_bytes"] > 0 and row["p50_ms"] > 0 and row["samples"] >= 64 for row in found["engines"])
    used, unused = sorted(found["engines"], key=lambda row: row["engine"] != found["engine"])
    # on the pretended device fewer bytes and nodes are faster, and the faster one stays
    assert used["p50_ms"] < unused["p50_ms"]
    assert f"{unused['engine']} (not used): " in dict(stage_lines(report))["quantize"]
    alone = compress(model, data, tmp_path / "alone", engine="neural-compressor")
    assert quantize_details(alone)["engine"] == "neural-compressor"
    assert alone.artifact.manifest.components["model"].precision == "int8"
    assert alone.artifact.manifest.tools["torchao"] == version_of("torchao")
    assert edgekit.verify(tmp_path / "alone").golden["model"] <= 1e-3
