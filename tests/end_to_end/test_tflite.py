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
from end_to_end.made import data_for, model_folder, raw_input, row
from records import SHORTLY
from tflites import INSTALLED, REASON, pretend_runtime

import edgekit
from edgekit.errors import DataError, UsageError
from edgekit.formats.tflite_metadata import LABELS, LICENCE
from edgekit.runtimes import tflite_runtime

pytestmark = pytest.mark.skipif(not INSTALLED, reason=REASON)
SCALE, ZERO = np.float32(0.58470291), 83  # of the keyword model's input


def compress(family: str, folder: Path, recipe: str, target: str = "host", **settings: str) -> edgekit.Report:
    texts = {"export.lengths": "[16,32]"} if family == "bert" else {}
    model = model_folder(family, folder / "model", layers=1)
    Path(model, "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return edgekit.compress(
        model,
        output=folder / "out",
        data=data_for(family, folder),
        target=target,
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
    assert "model.tflite: the batch is fixed at 1, more samples run one call after another" in report.notes
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
        [sys.executable, "-c", code], cwd=out, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[")


NO_ARMV7 = "not emulated in these tests"


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for the board is not this test's matter, in slow ones neither."""
    monkeypatch.setattr("edgekit.devices.why_not", lambda kind: NO_ARMV7)


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize(
    ("family", "method", "real"),
    [
        ("bert", "static", False),
        pytest.param("bert", "auto", True, marks=pytest.mark.slow),
        pytest.param("vit", "static", True, marks=pytest.mark.slow),
    ],
)
def test_answers_are_those_of_the_runtime_that_the_target_names(
    family: str, method: str, real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not real:
        pretend_runtime(monkeypatch, tmp_path / "packages")
    ran: list[str] = []
    run = tflite_runtime.Child.run

    def spy(self: Any, feeds: Any) -> Any:
        ran.append(self._file.name)
        return run(self, feeds)

    monkeypatch.setattr(tflite_runtime.Child, "run", spy)
    report = compress(family, tmp_path, "quantize", "armv7", **{"quantize.method": method})
    assert report.quality is not None
    assert len(ran) >= 3 * report.quality.n  # each row of the ledger
    assert report.artifact.manifest.runtime == "tflite-runtime"
    assert report.runtime == "tflite-runtime 2.14.0"
    assert not any("in place of" in note for note in report.notes)
    scored = edgekit.evaluate(report.artifact.path, data_for(family, tmp_path / "again"), metric="accuracy")
    assert scored.runtime == {"name": "tflite-runtime 2.14.0"}
    assert scored.metrics[0].value == report.quality.after
    before = len(ran)
    assert edgekit.verify(report.artifact.path).golden["task"] == 0.0
    assert len(ran) > before


@pytest.mark.usefixtures("no_device")
def test_litert_answers_where_the_runtime_cannot_be_had_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_runtime, "NEWEST_PYTHON", (3, 10))
    report = compress("bert", tmp_path, "fp16", "armv7")
    assert report.artifact.manifest.runtime == "litert"
    assert [note for note in report.notes if "in place of" in note] == [
        "answers are LiteRT's in place of tflite-runtime's: tflite-runtime 2.14.0 cannot run here:"
        f" it was built for Python up to 3.10, this is {sys.version_info[0]}.{sys.version_info[1]}"
    ]
    assert edgekit.verify(report.artifact.path).golden["task"] == 0.0


@pytest.mark.parametrize(("family", "where"), [("bert", ""), ("vit", " where litert-torch has no free one")])
def test_a_plan_says_what_is_known_of_the_batch(family: str, where: str, tmp_path: Path) -> None:
    plan = edgekit.plan(model_folder(family, tmp_path / "model"), target="host", format="tflite", recipe="export")
    assert any(note.startswith(f"model.tflite: the batch will be fixed at 1{where}") for note in plan.notes)


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
    monkeypatch.setattr("edgekit.gate.protocol.ALONE", SHORTLY)
    record = edgekit.bench(assets[key])
    assert record.runtime.name == "litert"
    assert record.subject.format == "tflite"
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
