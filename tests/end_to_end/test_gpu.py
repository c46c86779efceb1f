"""Targets with a GPU, where there is none: built, run on the processor for accuracy, and the reason told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from end_to_end.made import SHORT, WORKLOAD, data_for, model_folder, pretend_device, row
from onnx import numpy_helper
from tiny import LAYERS

import edgekit
from edgekit.environment import CudaDevice, host
from edgekit.errors import HostError, UsageError
from edgekit.formats.onnx import load_graph
from edgekit.render.stages import stage_lines
from edgekit.runtimes.measuring import Answer, Place, Subject
from edgekit.target import load_target

REASONS = {
    "cuda": "no CUDA device",
    "tensorrt": "no CUDA device",
    "jetson-orin": "the target is aarch64 and this machine is x86_64",
}
QUANTIZING = {"optimize.seconds": "0.2", "quantize.tolerance": "1.0"}
CARD = CudaDevice(name="a card", capability="9.0")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86-64 without a GPU, also where there is one."""
    here = host().model_copy(update={"architecture": "x86_64", "cuda": ()})
    monkeypatch.setattr("edgekit.devices.host", lambda: here)


def compress(family: str, folder: Path, target: str, recipe: str, **more: Any) -> edgekit.Report:
    settings = {"default": SHORT, "export": {}}.get(recipe, QUANTIZING)
    return edgekit.compress(
        model_folder(family, folder / "model"),
        data=data_for(family, folder / "data"),
        target=target,
        recipe=recipe,
        max_drop=1.0,
        workload=WORKLOAD if family == "bert" else None,
        jobs=1,
        output=folder / "out",
        **{"settings": settings} | more,
    )


def details(report: edgekit.Report) -> dict[str, Any]:
    return next(dict(stage.details) for stage in report.stages if stage.stage == "quantize")


@pytest.mark.parametrize(
    ("target", "recipe", "precision"),
    [
        ("cuda", "quantize", "fp16"),
        ("cuda", "fp16", "fp16"),
        ("tensorrt", "quantize", "int8"),
        ("tensorrt", "fp16", "fp16"),
        ("jetson-orin", "quantize", "int8"),
        pytest.param("cuda", "default", "fp16", marks=pytest.mark.slow),
        pytest.param("tensorrt", "default", "int8", marks=pytest.mark.slow),
    ],
)
def test_artifact_is_built_and_run_on_the_processor(target: str, recipe: str, precision: str, tmp_path: Path) -> None:
    report = compress("bert", tmp_path, target, recipe)
    assert (report.measured, report.not_measured_because) == (False, REASONS[target])
    assert report.latency_ms.p50 is None
    assert {one.reason for one in report.after if one.name != "size"} == {REASONS[target]}
    part = report.artifact.manifest.components["model"]
    assert part.precision == precision
    assert {tensor.dtype for tensor in part.outputs} == {"float32"}
    assert row(report, "quantize").reason.endswith(f"; not timed: {REASONS[target]}")
    assert report.quality is not None
    assert report.quality.n > 0
    assert edgekit.verify(tmp_path / "out").golden["model"] == 0.0
    assert f"not measured: {REASONS[target]}" in (tmp_path / "out" / "README.md").read_text().replace("\\", "")
    opset = {"cuda": 23}.get(target, 20)
    assert load_graph(report.artifact.file()).opset_imports[""] == opset


def test_every_target_with_a_gpu_has_its_reason() -> None:
    from edgekit.target import HOST, target_names

    targets = [load_target(name) for name in target_names() if name != HOST]
    assert {target.name for target in targets if target.runtime.provider != "cpu"} == set(REASONS)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_int8_for_tensorrt_is_symmetric_in_pairs(family: str, tmp_path: Path) -> None:
    report = compress(family, tmp_path, "tensorrt", "quantize")
    graph = onnx.load(report.artifact.file()).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    kinds = {output: node.op_type for node in graph.node for output in node.output}
    read = {name: node.op_type for node in graph.node for name in node.input}
    weights = 0
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        stored, zero = arrays.get(node.input[0]), arrays[node.input[2]]
        assert zero.dtype == np.int8  # and so no bias of 32 bits
        assert not zero.any()
        if stored is None and node.op_type == "DequantizeLinear":
            assert kinds[node.input[0]] == "QuantizeLinear"
        elif stored is not None and read[node.output[0]] != "Gather":
            (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
            assert arrays[node.input[1]].shape == (stored.shape[axis],)
            assert np.abs(stored.astype(int)).max() == 127  # all 8 bits: nothing saturates
            weights += 1
    assert weights == 6 * LAYERS + (family == "bert")  # and the pooler
    assert details(report)["scheme"]["method"] == "static"
    assert "DynamicQuantizeLinear" not in kinds.values()
    assert {node.domain for node in graph.node} == {""}


def test_what_overflows_stays_fp32_and_is_named(tmp_path: Path) -> None:
    import tiny
    import torch

    model = tiny.build("bert")
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():  # a million between two layers, which the second takes back
        layer.intermediate.dense.weight.mul_(3e5)
        layer.intermediate.dense.bias.abs_().mul_(3e5)
        layer.output.dense.weight.div_(3e5)
    tiny.save(model, tmp_path / "large")
    report = edgekit.compress(
        tmp_path / "large",
        data=data_for("bert", tmp_path / "data"),
        target="cuda",
        recipe="quantize",
        settings=QUANTIZING,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    found = details(report)
    assert found["overflow_samples"] > 0
    kinds = {node.name: node for node in onnx.load(report.artifact.file()).graph.node}
    kept = [kinds[name.removeprefix("model/")] for name in found["overflow"]]
    assert sorted(node.op_type for node in kept) == ["Add", "Gelu", "MatMul", "MatMul"]
    assert min(found["overflow"].values()) > 65504 / 2
    stored = {one.name: one.data_type for one in onnx.load(report.artifact.file()).graph.initializer}
    assert [stored[node.input[1]] for node in kept if node.op_type == "MatMul"] == [onnx.TensorProto.FLOAT] * 2
    assert report.artifact.manifest.components["model"].precision == "fp16"
    assert report.quality is not None
    assert report.quality.cosine > 0.999
    (line,) = (text for stage, text in stage_lines(report) if stage == "quantize")
    assert "in FP32, since on" in line
    assert kept[0].name in line


def test_without_data_the_watched_inputs_are_made_up(tmp_path: Path) -> None:
    report = (
        compress("bert", tmp_path, "cuda", "fp16", data=None)
        if False
        else edgekit.compress(
            model_folder("bert", tmp_path / "model"),
            target="cuda",
            recipe="fp16",
            settings=QUANTIZING,
            workload=WORKLOAD,
            jobs=1,
            output=tmp_path / "out",
        )
    )
    assert (details(report)["overflow"], details(report)["overflow_samples"]) == ({}, 0)
    assert any("nothing overflows on made-up inputs" in text for _, text in stage_lines(report))
    assert report.provider == "cuda"
    assert 'providers=["CUDAExecutionProvider", "CPUExecutionProvider"]' in (tmp_path / "out" / "README.md").read_text()


def test_int8_is_refused_where_the_provider_has_no_kernels_for_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the target 'cuda' does not take int8, which quantize would make") as caught:
        compress("bert", tmp_path, "cuda", "static")
    assert caught.value.hint == "Use --set quantize.method=fp16."


def pretend_card(patch: pytest.MonkeyPatch) -> None:
    """A card, and an onnxruntime that is built for it."""
    here = host().model_copy(update={"architecture": "x86_64", "cuda": (CARD,)})
    chain = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    patch.setattr("edgekit.devices.host", lambda: here)
    patch.setattr("edgekit.target.execution_providers", lambda: chain)


def test_a_provider_that_does_not_start_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card is pretended; the onnxruntime that is asked to compute on it is the real one."""
    pretend_card(monkeypatch)
    report = compress("bert", tmp_path, "cuda", "export")
    assert not report.measured
    assert "could not start CUDAExecutionProvider, only CPUExecutionProvider" in report.not_measured_because
    with pytest.raises(HostError, match="could not start CUDAExecutionProvider"):
        compress("bert", tmp_path / "asked", "cuda", "export", device="local")


def test_bench_on_a_gpu_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.benching.host", lambda: host().model_copy(update={"cuda": ()}))
    with pytest.raises(HostError, match=r"cannot compute with the provider cuda\nno CUDA device") as raised:
        edgekit.bench(tmp_path, provider="cuda")
    assert raised.value.id == "environment.no-gpu"


def test_bench_of_tflite_has_no_provider(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").touch()
    with pytest.raises(UsageError, match=r"provider cuda was asked for, and the file is a \.tflite file"):
        edgekit.bench(tmp_path / "m.tflite", provider="cuda")


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_with_a_gpu_the_clock_is_named_and_the_answers_are_compared(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is pretended: its times are made up, and the processor gives its answers."""
    pretend_card(monkeypatch)
    pretend_device(monkeypatch)
    monkeypatch.setattr("edgekit.places.try_provider", lambda place: None)
    from edgekit.measure import latency
    from edgekit.measure.elsewhere import run_calls

    asked: set[str] = set()
    timed = latency.time_subjects

    def by_events(*arguments: Any) -> Answer:
        asked.add(arguments[1].provider)
        return timed(*arguments).model_copy(update={"clock": "CUDA events"})

    def on_the_processor(subject: Subject, calls: Any, place: Place) -> Answer:
        asked.add(place.provider)
        return run_calls(subject, calls, Place(place.device, place.runtime, place.threads))

    monkeypatch.setattr("edgekit.measure.latency.time_subjects", by_events)
    monkeypatch.setattr("edgekit.measure.elsewhere.run_calls", on_the_processor)
    report = compress("bert", tmp_path, target, "fp16")
    assert asked == {target}
    assert report.measured
    assert report.runtime.endswith(f", {target}")
    assert "latency is by CUDA events, with inputs and outputs in the GPU's memory" in report.notes
    (check,) = report.devices
    assert (check.device, check.agree) == (f"this machine, {target}", check.n)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["measured"] is True
