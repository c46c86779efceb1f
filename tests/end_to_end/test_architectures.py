"""Every architecture passes every stage, and the result is what it says it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnxruntime
import pytest
import tiny
from end_to_end.made import FAMILIES, SHORT, WORKLOAD, data_for, model_folder, raw_input, row

import edgekit
from edgekit.formats.onnx import load_graph
from edgekit.quantization.schemes import weighted_nodes

EXPECTED = {
    "model.onnx",
    "config.json",
    "labels.txt",
    "manifest.json",
    "golden/model.safetensors",
    "golden/task.safetensors",
    "recipe.lock.toml",
    "report.json",
    "report.html",
    "README.md",
    "SHA256SUMS",
}
INPUTS = {
    "bert": ["input_ids", "token_type_ids", "attention_mask"],
    "distilbert": ["input_ids", "attention_mask"],
    "roberta": ["input_ids", "attention_mask"],
    "vit": ["pixel_values"],
    "deit": ["pixel_values"],
}
LAYERS = 2
LEDGER = ["original", "prune", "distill", "export", "optimize", "quantize"]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("family", FAMILIES)
def test_architecture_passes_every_stage(family: str, tmp_path: Path) -> None:
    model, data = model_folder(family, tmp_path / "model", layers=LAYERS), data_for(family, tmp_path / "data")
    report = edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        settings=SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        keep_stages=True,
        output=tmp_path / "out",
    )
    out = tmp_path / "out"
    assert [entry.stage for entry in report.ledger] == LEDGER
    assert all(entry.kept for entry in report.ledger), [(entry.stage, entry.reason) for entry in report.ledger]
    check_heads(report)
    check_rewrites(report)
    check_files(out, family)
    check_signature(out, family)
    check_nothing_left_in_float(report, out)
    check_sums(report)
    check_verified_and_scored(report, model, data, out)
    check_answers(out, raw_input(family, tmp_path))


def check_heads(report: edgekit.Report) -> None:
    """Layers are left with different numbers of heads."""
    (pruned,) = [stage for stage in report.stages if stage.stage == "prune"]
    heads = [layer["heads"] for layer in pruned.details["kept"]]  # type: ignore[index,union-attr,call-overload]
    assert len(heads) == LAYERS
    assert len(set(heads)) > 1
    assert heads[0] < heads[-1]
    assert pruned.details["macs_after"] < pruned.details["macs_before"] * 0.75  # type: ignore[operator]


def check_rewrites(report: edgekit.Report) -> None:
    """Each layer's attention is recognised, whatever its number of heads, and the first-token rewrite applies."""
    (optimized,) = [stage for stage in report.stages if stage.stage == "optimize"]
    rows = {entry["rewrite"]: entry for entry in optimized.details["model"]["rewrites"]}  # type: ignore[index,union-attr,call-overload]
    assert rows["attention"]["nodes"] == LAYERS
    assert rows["first_token"]["nodes"] > 0
    assert {"with_ms", "without_ms", "without_over_with", "pays", "kept"} <= rows["attention"].keys()


def check_files(out: Path, family: str) -> None:
    """What the directory holds, and that its sums are those of its files, itself written last."""
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    companions = {"preprocessor_config.json"} if family in tiny.IMAGE else {"tokenizer.json", "tokenizer_config.json"}
    assert found >= EXPECTED | companions
    assert (out / "labels.txt").read_text() == "LABEL_0\nLABEL_1\n"
    sums = dict(reversed(line.split("  ", 1)) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == found - {"SHA256SUMS"}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    for name in ("config.json", *companions):
        assert json.loads((out / name).read_text())


def check_signature(out: Path, family: str) -> None:
    """transformers' names, int64 ids and float32 logits: in the float32, the rewritten and the INT8 graph."""
    kept = sorted((out / "stages").iterdir())
    assert [folder.name for folder in kept] == ["1-prune", "2-distill", "3-export", "4-optimize", "5-quantize"]
    graphs = [folder / "model.onnx" for folder in kept[2:]] + [out / "model.onnx"]
    precisions = [edgekit_precision(graph.parent) for graph in graphs]
    assert precisions == ["fp32", "fp32", "int8", "int8"]
    for graph in graphs:
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        assert [tensor.name for tensor in session.get_inputs()] == INPUTS[family]
        kind = "tensor(float)" if family in tiny.IMAGE else "tensor(int64)"
        assert {tensor.type for tensor in session.get_inputs()} == {kind}
        assert [(tensor.name, tensor.type) for tensor in session.get_outputs()] == [("logits", "tensor(float)")]


def check_nothing_left_in_float(report: edgekit.Report, out: Path) -> None:
    """Every layer that could be quantized is, since the report names none that fell back."""
    (quantized,) = [stage for stage in report.stages if stage.stage == "quantize"]
    assert quantized.details["fallback_layers"] == []
    assert len(quantized.details["layer_errors"]) == quantized.details["layers"]  # type: ignore[arg-type]  # a list of rows
    assert weighted_nodes(load_graph(out / "model.onnx"), embeddings=True) == []


def edgekit_precision(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text())["components"]["model"]["precision"])


def check_sums(report: edgekit.Report) -> None:
    """The ledger's changes add up to the difference of before and after."""
    assert report.quality is not None
    total = sum(entry.size_delta_bytes for entry in report.ledger)
    assert total == report.ledger[-1].size_bytes - report.ledger[0].size_bytes
    assert report.ledger[0].size_bytes == report.value("size", before=True)
    assert report.ledger[-1].size_bytes == report.value("size") == report.artifact.size_bytes
    gained = sum(entry.metric_delta or 0 for entry in report.ledger)
    assert gained == pytest.approx(report.quality.after - report.quality.before, abs=1e-9)
    faster = sum(entry.latency_delta_ms or 0 for entry in report.ledger)
    before, after = report.original_latency_ms.p50, report.latency_ms.p50
    assert before is not None
    assert after is not None
    assert faster == pytest.approx(after - before, abs=1e-9)
    assert after < before
    assert row(report, "quantize").latency_ms == after


def check_verified_and_scored(report: edgekit.Report, model: Path, data: Path, out: Path) -> None:
    """``verify`` passes, and ``evaluate`` gives the report's metric for the original and the artifact."""
    record = edgekit.verify(out)
    assert record.files == len((out / "SHA256SUMS").read_text().splitlines())
    assert record.golden.keys() == {"model", "task"}
    assert max(record.golden.values()) == 0.0
    assert report.quality is not None
    assert report.quality.metric == "accuracy"
    for path, expected in ((model, report.quality.before), (out, report.quality.after)):
        scored = edgekit.evaluate(path, data, threads=1)
        assert {metric.name: metric.value for metric in scored.metrics}["accuracy"] == expected
    assert report.ledger[0].metric == report.quality.before
    assert report.ledger[-1].metric == report.quality.after == report.metric


def check_answers(out: Path, given: str) -> None:
    """Labels with probabilities, the same for one input and for a list of it."""
    predictor = edgekit.load(out)
    answer = predictor.predict(given)
    assert sorted(label for label, _ in answer) == ["LABEL_0", "LABEL_1"]
    assert sum(score for _, score in answer) == pytest.approx(1.0, abs=1e-6)
    assert answer[0][1] >= answer[1][1]
    assert predictor.predict([given]) == [answer]
