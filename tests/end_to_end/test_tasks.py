"""Text classification of every kind: pairs, several labels, regression, and checkpoints in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from end_to_end.made import SHORT, WORKLOAD, model_folder, row, write_csv

import edgekit
from edgekit.source import sha256_file

pytestmark = pytest.mark.usefixtures("device")
QUANTIZE = {"quantize.tolerance": "1.0", "optimize.seconds": "0.2"}


def test_pair_of_sentences_reads_both_when_the_data_has_two_columns(tmp_path: Path) -> None:
    model = model_folder("bert", tmp_path / "model", layers=1)
    rows = {
        "sentence1": tiny.sentences(80, longest=6),
        "sentence2": tiny.sentences(80, seed=1, longest=6),
        "label": [index % 2 for index in range(80)],
    }
    data = write_csv(tmp_path / "pairs.csv", rows)
    report = edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        recipe="quantize",
        settings=QUANTIZE,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert report.data["samples"] == {"train": 65, "selection": 7, "evaluation": 8}
    both, first = edgekit.load(tmp_path / "out").predict(["w1 w2\tw3 w4", "w1 w2"])
    assert both != first
    scored = edgekit.evaluate(tmp_path / "out", data, threads=1)
    assert scored.metrics[0].value == report.metric
    single = write_csv(tmp_path / "single.csv", {key: rows[key] for key in ("sentence1", "label")})
    alone = edgekit.evaluate(tmp_path / "out", single, threads=1)
    assert alone.data["samples"] == 8


def test_multi_label_is_scored_by_f1_when_the_config_says_so(tmp_path: Path) -> None:
    import json

    changes = {"layers": 1, "labels": 3, "problem_type": "multi_label_classification"}
    model = model_folder("bert", tmp_path / "model", **changes)
    random = np.random.default_rng(0)
    chosen = random.integers(0, 2, (80, 3))
    lines = [
        json.dumps({"text": text, "labels": [int(index) for index in np.flatnonzero(row)]})
        for text, row in zip(tiny.sentences(80), chosen, strict=True)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(lines) + "\n")
    report = edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        settings=SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert report.quality is not None
    assert report.quality.metric == "f1"
    assert [entry.stage for entry in report.ledger if entry.kept][1:3] == ["prune", "distill"]
    scored = edgekit.evaluate(tmp_path / "out", data, threads=1)
    assert {metric.name: metric.value for metric in scored.metrics}["f1"] == report.metric
    assert [metric.name for metric in scored.metrics] == ["f1", "exact_match"]
    answer = edgekit.load(tmp_path / "out").predict("w1 w2 w3")
    assert len(answer) == 3
    assert sum(score for _, score in answer) != pytest.approx(1.0, abs=1e-3)  # each label has a probability of its own


def test_regression_is_scored_by_pearson_when_there_is_one_label(tmp_path: Path) -> None:
    model = model_folder("bert", tmp_path / "model", layers=1, labels=1)
    texts = tiny.sentences(80)
    data = write_csv(tmp_path / "data.csv", {"text": texts, "score": [len(text.split()) / 4 for text in texts]})
    report = edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        settings=SHORT,
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    assert report.quality is not None
    assert (report.quality.metric, report.quality.flips, report.quality.n) == ("pearson", None, 8)
    assert {stage.stage for stage in report.stages} >= {"prune", "distill", "quantize"}
    scored = edgekit.evaluate(tmp_path / "out", data, threads=1)
    assert {metric.name: metric.value for metric in scored.metrics}["pearson"] == report.metric
    ((label, value),) = edgekit.load(tmp_path / "out").predict("w1 w2 w3")
    assert label == "LABEL_0"
    assert np.isfinite(value)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_checkpoint_is_loaded_as_float32(kind: str, tmp_path: Path) -> None:
    import torch

    wide = tiny.build("bert", layers=1)
    half = tiny.save(wide.to(getattr(torch, kind)), tmp_path / "half")
    same = tiny.save(wide.to(torch.float32), tmp_path / "same")  # the same numbers in twice the bytes
    hashes = []
    for folder in (half, same):
        out = tmp_path / f"out-{folder.name}"
        report = edgekit.compress(folder, target="x86-64-vnni", recipe="export", workload=WORKLOAD, jobs=1, output=out)
        assert row(report, "export").size_bytes == pytest.approx(report.artifact.size_bytes, rel=0.2)
        assert report.artifact.manifest.components["model"].precision == "fp32"
        hashes.append(sha256_file(out / "model.onnx"))
    assert hashes[0] == hashes[1]
