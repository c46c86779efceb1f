"""An .onnx file of others from end to end: compressed, evaluated, asked, and left as it was where nothing helps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import onnx
import pytest
from end_to_end.made import row
from graphs import proto, random_array

import edgekit
from edgekit.cli import main
from edgekit.errors import DataError, UsageError
from edgekit.formats.foreign import opset_of
from edgekit.formats.onnx import load_graph
from edgekit.render.stages import stage_lines
from edgekit.report import load_report
from edgekit.stages.base import read_details
from edgekit.stages.quantize.makers import UNCALIBRATED

LEFT_OUT = (
    "prune: left out, since an .onnx file cannot be trained",
    "distill: left out, since an .onnx file cannot be trained",
)
MADE_UP = "latency is of made-up inputs of the right types and shapes; they say nothing of the answers"


def compress(file: Path, out: Path, **options: Any) -> edgekit.Report:
    given = {"target": "x86-64-vnni", "jobs": 1, "settings": {"quantize.tolerance": "1.0"}} | options
    return edgekit.compress(file, output=out, **given)


def images(folder: Path, count: int = 60) -> Path:
    """Noise as ``train/CLASS/N.png``, in four classes."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / "train" / "abcd"[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        size = (foreign.PIXELS, foreign.PIXELS, 3)
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(place / f"{number}.png")
    return folder


def arrays(file: Path, count: int = 60, **columns: Any) -> Path:
    np.savez(file, pixels=random_array(count, 3, foreign.PIXELS, foreign.PIXELS), **columns)
    return file


@pytest.mark.usefixtures("device")
def test_an_old_graph_is_made_usable_quantized_and_compared_without_labels(tmp_path: Path) -> None:
    file = foreign.conv_net(tmp_path / "old.onnx", opset=11, listed=True)
    report = compress(file, tmp_path / "out", data=arrays(tmp_path / "data.npz"), max_drop=0.5)
    assert [entry.stage for entry in report.ledger] == ["original", "export", "optimize", "quantize"]
    assert report.source["kind"] == "onnx"
    assert report.task == "tensors"
    assert report.ledger[0].size_bytes == file.stat().st_size
    reason = row(report, "export").reason
    assert reason.startswith("never undone; answers as the file given, within ")
    assert "operator set 11 to 13; 7 weights are no inputs any more" in reason
    assert row(report, "quantize").kept
    quality = report.quality
    assert quality is not None
    assert (quality.metric, quality.against, quality.before, quality.n) == ("agreement", "original", 1.0, 6)
    assert quality.cosine > 0.99
    assert 0 < (quality.largest_difference or 0) < 0.2
    assert report.notes[:2] == LEFT_OUT
    assert report.notes[2].startswith("the data has no labels, so the answers were compared with the original's")
    artifact = report.artifact
    assert artifact.manifest.components["model"].precision == "int8"
    assert opset_of(load_graph(artifact.file())) == 13
    assert edgekit.verify(tmp_path / "out").golden["task"] == 0.0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The data has no labels: the answers are compared with the original" in page


@pytest.mark.usefixtures("device")
def test_images_are_fed_as_they_are_described(tmp_path: Path) -> None:
    file = foreign.conv_net(tmp_path / "net.onnx", last=True)
    data, options = images(tmp_path / "data"), {"mean": (0.5,), "std": (0.25,), "layout": "NHWC"}
    report = compress(file, tmp_path / "out", data=data, max_drop=1.0, **options)
    assert report.options == {"mean": [0.5], "std": [0.25], "layout": "NHWC"}
    assert (report.task, report.artifact.manifest.labels) == ("image-classification", ("a", "b", "c", "d"))
    assert report.artifact.manifest.preprocessing["layout"] == "NHWC"
    quality = report.quality
    assert quality is not None
    assert (quality.metric, quality.against) == ("accuracy", "labels")
    picture = str(min(data.rglob("*.png")))
    before = dict(edgekit.load(file, labels=("a", "b", "c", "d"), **options).predict(picture))
    after = dict(edgekit.load(tmp_path / "out").predict(picture))
    assert before.keys() == after.keys() == set("abcd")
    assert sum(before.values()) == pytest.approx(1.0)
    assert max(abs(before[name] - after[name]) for name in before) < 0.1
    scored = edgekit.evaluate(file, data, **options)
    assert scored.subject == {"format": "onnx", "name": "net.onnx", "task": "image-classification"}
    assert {one.name for one in scored.metrics} == {"accuracy", "f1"}
    (accuracy,) = [one.value for one in scored.metrics if one.name == "accuracy"]
    assert accuracy == pytest.approx(quality.before)


@pytest.mark.usefixtures("device")
def test_two_inputs_and_two_outputs_go_through(tmp_path: Path) -> None:
    columns = {name: random_array(40, 48, seed=seed) for seed, name in enumerate(("left", "right"))}
    np.savez(tmp_path / "data.npz", **columns)
    report = compress(
        foreign.two_and_two(tmp_path / "net.onnx"), tmp_path / "out", data=tmp_path / "data.npz", max_drop=0.2
    )
    quality = report.quality
    assert quality is not None
    assert (quality.metric, quality.flips) == ("closeness", None)
    assert 0.9 < quality.after < 1.0
    assert [spec.name for spec in report.artifact.manifest.components["model"].outputs] == ["wide", "product"]
    named = edgekit.load(tmp_path / "out").predict(str(tmp_path / "data.npz"))
    assert len(named) == 96


@pytest.mark.usefixtures("device")
def test_a_state_goes_through_every_stage(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", sound=random_array(40, 5, 16), sr=np.full(40, 16000))
    report = compress(
        foreign.recurrent(tmp_path / "net.onnx"), tmp_path / "out", data=tmp_path / "data.npz", max_drop=0.5
    )
    (state,) = report.artifact.manifest.components["model"].states
    assert (state.output, state.input) == ("stateN", "state")
    assert report.artifact.manifest.components["model"].precision == "int8"
    assert edgekit.verify(tmp_path / "out").golden == {"model": 0.0, "task": 0.0}


@pytest.mark.usefixtures("device")
def test_without_data_inputs_are_made_up_and_the_report_says_so(tmp_path: Path) -> None:
    report = compress(foreign.conv_net(tmp_path / "net.onnx"), tmp_path / "out")
    assert report.notes == (*LEFT_OUT, "the metric was not measured, since there is no data", MADE_UP)
    # no convolution can be scaled without data, and there is no product large enough
    assert row(report, "quantize").reason == f"neither faster nor smaller: {UNCALIBRATED}"
    assert (report.quality, report.measured) == (None, True)
    assert edgekit.verify(tmp_path / "out").golden["task"] == 0.0


@pytest.mark.usefixtures("device")
def test_convolutions_without_data_are_named_beside_the_products_that_are_quantized(tmp_path: Path) -> None:
    report = compress(foreign.conv_net(tmp_path / "net.onnx", classes=128), tmp_path / "out")
    assert row(report, "quantize").kept
    quantize = next(stage for stage in report.stages if stage.stage == "quantize")
    assert quantize.details["layers"] == 1
    assert dict(stage_lines(report))["quantize"] == f"all 1 layers in INT8, dynamic; {UNCALIBRATED}"


@pytest.mark.usefixtures("device")
def test_convolutions_are_equalized_where_that_is_asked_for_and_the_report_has_the_errors_of_layers(
    tmp_path: Path,
) -> None:
    file, data = foreign.conv_net(tmp_path / "net.onnx"), arrays(tmp_path / "data.npz")
    asked = {"quantize.tolerance": "1.0", "quantize.equalize": "true"}
    report = compress(file, tmp_path / "out", data=data, max_drop=0.5, settings=asked)
    assert "1 pair of convolutions equalized" in dict(stage_lines(report))["quantize"]
    (details,) = [stage.details for stage in report.stages if stage.stage == "quantize"]
    assert details["scheme"]["method"] == "static"  # type: ignore[index, call-overload]  # a table is JSON
    assert len(details["layer_errors"]) == details["layers"]  # type: ignore[arg-type]  # a list of rows
    assert "ranges" not in details
    assert report.quality is not None
    assert report.quality.cosine > 0.99


@pytest.mark.usefixtures("device")
def test_what_the_quantizer_does_not_take_is_undone_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no such construction\nand more")

    monkeypatch.setattr("edgekit.quantization.schemes._dynamic", refuse)
    report = compress(foreign.two_and_two(tmp_path / "net.onnx"), tmp_path / "out")
    quantize = row(report, "quantize")
    assert not quantize.kept
    said = "could not be done: onnxruntime's quantizer does not take the graph: no such construction"
    assert quantize.reason == said
    assert report.artifact.manifest.components["model"].precision == "fp32"


@pytest.mark.usefixtures("device")
def test_an_upgrade_that_is_refused_leaves_the_graph_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.formats.foreign.convert_graph", lambda *_: "no adapter")
    report = compress(foreign.conv_net(tmp_path / "net.onnx", opset=11), tmp_path / "out", recipe="export", settings={})
    assert "refused: operator set 11 to 13: no adapter" in row(report, "export").reason
    assert opset_of(load_graph(report.artifact.file())) == 11


@pytest.mark.usefixtures("device")
def test_a_copy_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    def convert(source: Path, destination: Path, opset: int) -> str:
        model = onnx.version_converter.convert_version(onnx.load(source), opset)
        for tensor in model.graph.initializer:
            if tensor.name == "w3":
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 2, "w3"))
        onnx.save(model, destination)
        return ""

    monkeypatch.setattr("edgekit.formats.foreign.convert_graph", convert)
    report = compress(
        foreign.conv_net(tmp_path / "net.onnx", opset=11, softmax=True), tmp_path / "out", recipe="export", settings={}
    )
    assert "differs from the file given by " in row(report, "export").reason
    assert opset_of(load_graph(report.artifact.file())) == 11
    details = next(part.details for part in report.stages if part.stage == "export")
    assert details["largest_difference"] == 0.0
    assert len(details["refused"]) == 1  # type: ignore[arg-type]


def test_a_plan_says_what_will_run(tmp_path: Path) -> None:
    plan = edgekit.plan(
        foreign.conv_net(tmp_path / "net.onnx"), data=arrays(tmp_path / "data.npz"), output=tmp_path / "out"
    )
    assert [step.stage for step in plan.steps] == ["export", "optimize", "quantize", "verify"]
    assert (plan.task, plan.notes) == ("tensors", LEFT_OUT)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"student": "x.json"}, "--student was given for "),
        ({"recipe": "export", "revision": "main"}, "--revision was given for "),
        ({"weights": "w.safetensors"}, "--weights was given for "),
        ({"target": "armv7"}, "PATH is an .onnx file, and the artifact would be tflite"),
        ({"target": "arm64", "format": "tflite"}, "PATH is an .onnx file, and the artifact would be tflite"),
        ({"settings": {"quantize.engine": "neural-compressor"}}, "quantize.engine=neural-compressor cannot go with"),
    ],
)
def test_what_a_graph_cannot_have_is_refused_beforehand(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        edgekit.plan(foreign.conv_net(tmp_path / "net.onnx"), **options)
    assert caught.value.what.startswith(says.replace("PATH", repr(str(tmp_path / "net.onnx"))))


def test_unlabelled_data_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no labels, so that there is nothing to score"):
        edgekit.evaluate(foreign.conv_net(tmp_path / "net.onnx"), arrays(tmp_path / "data.npz"))
    labelled = arrays(tmp_path / "labelled.npz", label=np.arange(60) % 4)
    record = edgekit.evaluate(foreign.conv_net(tmp_path / "net.onnx"), labelled, split="train", threads=1)
    assert [(one.name, one.n) for one in record.metrics] == [("accuracy", 60), ("f1", 60)]


def test_the_command_line_takes_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = foreign.conv_net(tmp_path / "net.onnx", batch=1)
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\nfour\n")
    picture = min(images(tmp_path / "data", 4).rglob("*.png"))
    words = ["--mean", "0.5", "--std", "0.25", "--layout", "nchw", "--labels", str(tmp_path / "names.txt")]
    assert main(["predict", str(file), str(picture), *words, "--top", "1", "--json"]) == 0
    (predicted,) = json.loads(capfd.readouterr().out)["predictions"]
    assert predicted["labels"][0]["label"] in ("one", "two", "three", "four")


@pytest.mark.asset("fastestdet")
@pytest.mark.usefixtures("device")
def test_a_detector_goes_through(asset: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{"input.1": np.abs(random_array(8, 3, 352, 352)).clip(0, 1)})
    quick = {"quantize.samples": "2", "quantize.fallback": "false"}
    report = compress(asset, tmp_path / "out", data=tmp_path / "data.npz", max_drop=1.0, settings=quick)
    assert "operator set 11 to 13" in row(report, "export").reason
    quality = report.quality
    assert quality is not None
    assert (quality.metric, quality.before) == ("closeness", 1.0)
    assert row(report, "quantize").kept
    assert report.artifact.size_bytes < 0.5 * asset.stat().st_size
    assert edgekit.verify(tmp_path / "out").golden["task"] == 0.0


@pytest.mark.asset("silero-vad")
def test_a_recurrent_model_of_others_goes_through(asset: Path, tmp_path: Path) -> None:
    sound = 0.1 * random_array(16, 3, 576)
    np.savez(tmp_path / "data.npz", input=sound, sr=np.full(16, 16000))
    workload = edgekit.Workload(tokens=576)
    report = compress(asset, tmp_path / "out", data=tmp_path / "data.npz", workload=workload)
    assert row(report, "export").reason.startswith("never undone; answers as the file given, to the bit")
    (state,) = report.artifact.manifest.components["model"].states
    assert (state.output, state.input, state.initial) == ("stateN", "state", (2, "batch", 128))
    assert read_details(report.artifact) == {}  # what a stage says of its work is in the report
    assert all(entry.reason for entry in report.ledger[1:])
    assert edgekit.verify(tmp_path / "out").golden["task"] == 0.0


@pytest.mark.asset("silero-vad")
def test_free_sizes_that_do_not_run_are_told(asset: Path, tmp_path: Path) -> None:
    with pytest.raises(edgekit.errors.ModelError) as caught:
        compress(asset, tmp_path / "out")
    assert caught.value.what.startswith("the graph does not run on made-up inputs: input [1, 128], state [2, 1, 128]")
    assert "--tokens" in caught.value.hint


def test_without_data_and_measuring_it_ends_with_one_result_and_needs_no_torch(tmp_path: Path) -> None:
    model = proto("agraph (float[batch, 64] x) => (float[batch, 64] y) { y = MatMul(x, weight) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(random_array(64, 64), "weight"))
    file = tmp_path / "given.onnx"
    onnx.save(model, file)
    code = (
        "import sys, edgekit, edgekit.assembly as assembly\n"
        "made = []\n"
        "whole = assembly.seal\n"
        "assembly.seal = lambda folder: made.append(folder) or whole(folder)\n"
        "edgekit.compress(sys.argv[1], target='x86-64-vnni', recipe='quantize', device='none', output=sys.argv[2])\n"
        "print(len(made), sorted({'torch', 'transformers', 'datasets', 'sympy.core'} & sys.modules.keys()))\n"
    )
    command = [sys.executable, "-c", code, str(file), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 []"
    report = load_report(tmp_path / "out")
    assert report.not_measured_because == "--device none asks for no measurement"
    assert report.latency_ms.p50 is None
    assert row(report, "quantize").kept
    assert report.artifact.manifest.components["model"].precision == "int8"
    assert edgekit.verify(tmp_path / "out").files
