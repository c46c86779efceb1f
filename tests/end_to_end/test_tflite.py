"""TFLite from end to end: artifacts of edgekit's own, and files of others."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end.made import QUICK, data_for, model_folder, raw_input, row
from tflites import INSTALLED, REASON

import edgekit
from edgekit.errors import DataError, UsageError
from edgekit.formats.tflite_metadata import LABELS, LICENCE

pytestmark = pytest.mark.skipif(not INSTALLED, reason=REASON)
SCALE, ZERO = np.float32(0.58470291), 83  # of the keyword model's input


def compress(family: str, folder: Path, recipe: str, **settings: str) -> edgekit.Report:
    texts = {"export.lengths": "[16,32]"} if family == "bert" else {}
    model = model_folder(family, folder / "model")
    Path(model, "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return edgekit.compress(
        model,
        output=folder / "out",
        data=data_for(family, folder),
        target="host",
        format="tflite",
        recipe=recipe,
        jobs=1,
        workload=edgekit.Workload(tokens=16),
        settings={"quantize.tolerance": "1.0"} | texts | settings,
        max_drop=1.0,
    )


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    ("family", "recipe", "settings"),
    [
        ("bert", "quantize", {"quantize.method": "static"}),
        ("bert", "fp16", {}),
        ("vit", "quantize", {"quantize.method": "static"}),
    ],
)
def test_artifact_in_tflite(family: str, recipe: str, settings: dict[str, Any], tmp_path: Path) -> None:
    report = compress(family, tmp_path, recipe, **settings)
    out, artifact = tmp_path / "out", report.artifact
    assert artifact.format == "tflite"
    assert report.runtime.startswith("litert ")
    assert row(report, "export").kept
    assert report.quality is not None
    with zipfile.ZipFile(artifact.file()) as archive:
        assert archive.read(LABELS).decode().splitlines() == list(artifact.manifest.labels)
        assert archive.read(LICENCE) == b"apache-2.0\n"
    scored = edgekit.evaluate(out, data_for(family, tmp_path / "again"), metric="accuracy")
    assert scored.metrics[0].value == report.quality.after
    assert scored.metrics[0].n == report.quality.n
    assert edgekit.verify(out).golden["task"] == 0.0
    assert len(edgekit.load(out).predict(raw_input(family, tmp_path))) == len(artifact.manifest.labels)
    graph = edgekit.inspect(out).graphs[0]
    assert graph.format == "tflite"
    assert graph.work.macs is None
    if family == "bert":
        assert graph.signatures == {
            "tokens_16": {"batch": 1, "sequence": 16},
            "tokens_32": {"batch": 1, "sequence": 32},
        }
    card = (out / "README.md").read_text()
    assert "library_name: tflite" in card
    assert "license: apache-2.0" in card
    assert "TFLite in" in card
    assert "--format tflite" in card
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[-1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[")


@pytest.mark.asset("kws-tflite")
def test_file_of_others_says_what_it_is(asset: Path) -> None:
    graph = edgekit.inspect(asset).graphs[0]
    assert (graph.inputs[0].name, graph.inputs[0].dtype, graph.inputs[0].at) == ("input_1", "int8", (1, 49, 10, 1))
    assert {one.kind: one.count for one in graph.operators}["CONV_2D"] == 5
    assert [(group.method, group.scheme) for group in graph.quantization] == [("static", "s8s8")] * 2
    assert (graph.parameters, graph.signatures) == (22_016, {})


@pytest.mark.asset("kws-tflite")
def test_file_of_others_is_refused_by_compress(asset: Path) -> None:
    with pytest.raises(UsageError, match="such a file is not compressed") as caught:
        edgekit.compress(asset)
    assert "an .onnx file, a transformers folder" in caught.value.why
    assert "bench" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "integers"),
    [
        pytest.param(key, integers, marks=[pytest.mark.asset(key), pytest.mark.asset("kws01")])
        for key, integers in (("kws-tflite", True), ("kws-tflite", False), ("kws-tflite-float", False))
    ],
)
def test_keyword_models_are_as_good_as_published(
    key: str, integers: bool, assets: dict[str, Path], tmp_path: Path
) -> None:
    with np.load(assets["kws01"], allow_pickle=False) as stored:
        features, labels = stored["x"], stored["y"]
    given = features if integers else (features.astype(np.float32) - ZERO) * SCALE
    np.savez(tmp_path / "data.npz", x=given, label=labels)
    record = edgekit.evaluate(
        assets[key], tmp_path / "data.npz", split="train", columns={"input_1": "x"}, metric="accuracy", threads=1
    )
    assert record.runtime["name"].startswith("LiteRT ")
    assert (record.metrics[0].value, record.metrics[0].n) == (pytest.approx(0.898, abs=0.004), 500)


@pytest.mark.asset("kws-tflite")
def test_numbers_that_the_input_cannot_hold_are_an_error(asset: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", input_1=np.full((20, 49, 10, 1), 300), label=np.zeros(20, dtype=np.int64))
    with pytest.raises(DataError, match="has numbers beyond int8"):
        edgekit.evaluate(asset, tmp_path / "data.npz")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=pytest.mark.asset(key))
        for key in ("kws-tflite", "kws-tflite-float", "resnet-tflite", "resnet-tflite-int8")
    ],
)
def test_file_of_others_is_measured_in_litert(
    key: str, assets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.benching.TIMING", QUICK)
    record = edgekit.bench(assets[key])
    assert record.runtime["name"] == "litert"
    assert record.subject["format"] == "tflite"
    values = {one.name: one.value for one in record.metrics}
    assert values["size"] == assets[key].stat().st_size
    assert values["latency.p50"] > 0


def test_lengths_below_an_inference_are_refused_beforehand(tmp_path: Path) -> None:
    options = {"format": "tflite", "settings": {"export.lengths": "[16,32]"}, "target": "x86-64"}
    model = model_folder("bert", tmp_path / "model")
    with pytest.raises(UsageError, match="an inference is 64 tokens, and the longest of --lengths is 32") as caught:
        edgekit.plan(model, **options, workload=edgekit.Workload(tokens=64))
    assert caught.value.id == "usage.settings-conflict"
    assert edgekit.plan(model, **options, workload=edgekit.Workload(tokens=32)).steps
