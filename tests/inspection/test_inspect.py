from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from graphs import random_array, with_weights
from tiny import build, manifest, save

import edgekit
from edgekit.artifact import Component, StageRecord, State, TensorSpec, write_artifact
from edgekit.errors import ArtifactError, ModelError
from edgekit.inspection import inspect
from edgekit.sealing import seal
from edgekit.tasks.base import Workload

PRODUCT = "g (float[batch, 64] x) => (float[batch, 32] y) { y = MatMul (x, w) }"


def graph(file: Path) -> Path:
    onnx.save(with_weights(PRODUCT, w=random_array(64, 32)), file)
    return file


def test_it_is_a_public_function() -> None:
    assert edgekit.inspect is inspect


def test_an_onnx_file(tmp_path: Path) -> None:
    record = inspect(graph(tmp_path / "model.onnx"), workload=Workload(batch=3))
    assert (record.name, record.kind, record.artifact, record.network) == ("model.onnx", "graph", None, None)
    assert record.size_bytes == (tmp_path / "model.onnx").stat().st_size
    assert record.workload == {"batch": 3, "tokens": 128, "image": None}
    assert record.graphs[0].work.macs == 3 * 2048
    assert record.notes == ()


def test_a_model_folder(tmp_path: Path) -> None:
    record = inspect(save(build("bert"), tmp_path / "model"))
    assert (record.name, record.kind, record.graphs) == ("model", "folder", ())
    assert record.network is not None
    assert record.size_bytes == (tmp_path / "model" / "model.safetensors").stat().st_size


def test_an_artifact_of_two_components_with_a_state(tmp_path: Path) -> None:
    component = Component(
        files=("encoder.onnx",),
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 64)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 32)),),
    )
    state = State(output="y", input="x", initial=("batch", 64))
    for name in ("encoder", "decoder"):
        graph(tmp_path / f"{name}.onnx")
    described = manifest(
        components={
            "encoder": component,
            "decoder": component.model_copy(update={"files": ("decoder.onnx",), "states": (state,)}),
        },
        labels=("no", "yes"),
        target="arm64",
        stages=(StageRecord(stage="export", version=2, settings={"samples": 16}),),
    )
    write_artifact(tmp_path, described)
    record = inspect(tmp_path)
    assert [(part.component, part.states) for part in record.graphs] == [("encoder", ()), ("decoder", (state,))]
    facts = record.artifact
    assert facts is not None
    assert (facts.format, facts.target, facts.labels, facts.sealed) == ("onnx", "arm64", ("no", "yes"), False)
    assert [(stage.stage, stage.version, stage.settings) for stage in facts.stages] == [("export", 2, {"samples": 16})]
    assert record.size_bytes == 2 * (tmp_path / "encoder.onnx").stat().st_size
    assert facts.folder_bytes > record.size_bytes
    seal(tmp_path)
    sealed = inspect(tmp_path).artifact
    assert sealed is not None
    assert sealed.sealed


def test_what_could_not_be_told_is_a_note(tmp_path: Path) -> None:
    text = "g (float[N, 3, H, W] x) => (float y) { y = mine.Strange (x) }"
    header = '<ir_version: 10, opset_import: ["" : 21, "mine" : 1]>'
    onnx.save(onnx.parser.parse_model(f"{header} {text}"), tmp_path / "model.onnx")
    assert inspect(tmp_path / "model.onnx").notes == (
        "model: the shapes behind these operators are not known: mine.Strange",
        "model: the workload does not say how large these are: H, W (images: --image N)",
    )


def test_missing_external_data_is_a_note(tmp_path: Path) -> None:
    model = with_weights(PRODUCT, w=random_array(64, 32))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    record = inspect(tmp_path / "model.onnx")
    assert record.size_bytes == (tmp_path / "model.onnx").stat().st_size
    assert record.notes == (
        "the external data 'w.bin' is not there, or not in the graph's folder: its size is not counted",
    )


def test_a_mistyped_path_gets_the_nearest_name(tmp_path: Path) -> None:
    graph(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="there is nothing at") as caught:
        inspect(tmp_path / "modle.onnx")
    assert caught.value.hint == f"Did you mean {str(tmp_path / 'model.onnx')!r}?"


def test_a_folder_of_graphs_names_them(tmp_path: Path) -> None:
    graph(tmp_path / "one.onnx")
    with pytest.raises(ModelError, match="is no model folder") as caught:
        inspect(tmp_path)
    assert caught.value.hint == "It holds one.onnx: give the path of one of these files."


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelError, match="is no file that edgekit can read"):
        inspect(tmp_path / "notes.txt")


def test_a_broken_manifest_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is no valid manifest"):
        inspect(tmp_path)
