from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from graphs import random_array, with_weights
from rich.console import Console

from edgekit.errors import ModelError
from edgekit.inspection import inspect
from edgekit.inspection.records import (
    ArtifactRecord,
    EncoderLayerRecord,
    EncoderRecord,
    FileRecord,
    InspectRecord,
    MadeRecord,
    MemoryRecord,
    NetworkRecord,
    PartRecord,
    WeightsRecord,
    WorkRecord,
)
from edgekit.render.inspection import headline, inspect_view, quantity
from edgekit.tasks.base import Workload

GRAPH = """g (float[batch, length, 64] tokens) => (float[batch, length, 32] logits) {
  [first_product] a = MatMul (tokens, v)
  b = Relu (a)
  [last_product] logits = MatMul (b, w)
}"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    model = with_weights(GRAPH, v=random_array(64, 128), w=random_array(128, 32))
    model.producer_name = "somebody"
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def drawn(record: InspectRecord, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, highlight=False)
    console.print(inspect_view(record))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def network(**changes: Any) -> NetworkRecord:
    """A pruned encoder: four layers of six are left."""
    kept = ((0, 6, 1136), (1, 3, 800), (3, 3, 800), (4, 3, 800))
    layers = tuple(
        EncoderLayerRecord(index=index, heads=heads, neurons=neurons, parameters=1_000 * neurons)
        for index, heads, neurons in kept
    )
    values: dict[str, Any] = {
        "architecture": "BertForSequenceClassification",
        "family": "bert",
        "files": (FileRecord(name="model.safetensors", size_bytes=66_000_000),),
        "parameters": 16_500_000,
        "weights": (WeightsRecord(precision="fp32", parameters=16_500_000, size_bytes=66_000_000),),
        "parts": (
            PartRecord(name="bert.embeddings", tensors=5, parameters=12_000_000),
            PartRecord(name="bert.encoder", tensors=64, parameters=4_500_000),
        ),
        "encoder": EncoderRecord(
            width=384, head_width=32, layers=layers, of_layers=6, of_heads=12, of_neurons=1536, of_width=384
        ),
        "pruned": "encoder",
        "work": WorkRecord(macs=370_000_000, complete=True, rule="products"),
        "memory": MemoryRecord(
            weights_bytes=66_000_000,
            activations_bytes=2_000_000,
            peak_bytes=68_000_000,
            complete=True,
            at="layer 0",
            rule="weights",
        ),
    }
    return NetworkRecord(**(values | changes))


def artifact(**changes: Any) -> ArtifactRecord:
    values: dict[str, Any] = {
        "format": "torch",
        "task": "text-classification",
        "labels": ("negative", "positive"),
        "source": {"name": "minilm", "architecture": "BertForSequenceClassification"},
        "target": None,
        "stages": (MadeRecord(stage="prune", version=1, settings={}),),
        "data": {"name": "sst2", "digest": "a" * 64},
        "sealed": False,
        "folder_bytes": 67_000_000,
        "status": "",
    }
    return ArtifactRecord(**(values | changes))


def record_of(**parts: Any) -> InspectRecord:
    values: dict[str, Any] = {
        "name": "out",
        "kind": "artifact",
        "size_bytes": 66_000_000,
        "workload": {"batch": 1, "tokens": 128, "image": None},
    }
    return InspectRecord(**(values | parts))


def test_it_passes_its_workload(run, pretend, recorder, graph: Path):
    function = recorder(lambda: inspect(graph))
    pretend(inspect=function)
    assert run("inspect", "model.onnx", "--batch", "2", "--image", "64").code == 0
    assert (function.arguments, function.keywords) == (("model.onnx",), {"workload": Workload(batch=2, image=64)})


def test_a_graph_is_told_within_80_columns(run, graph: Path):
    result = run("inspect", str(graph), "--tokens", "10", "--batch", "2")
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "model.onnx: an ONNX graph, 0.049 MB, 12.3 k parameters"
    assert "written by  somebody" in lines
    assert "parameters  12,288, all in fp32" in lines
    assert "in    tokens   float32   [batch, length, 64]   [2, 10, 64]" in lines
    assert "Estimated for batch 2, length 10" in lines
    assert "work    246 k multiply-accumulates" in lines
    assert "MatMul     fp32            2   246 k   100.0%" in lines
    assert "first_product MatMul 64 x 128 8.19 k 164 k" in [" ".join(line.split()) for line in lines]
    assert max(map(len, lines)) <= 80


def test_json_lists_every_layer(run, graph: Path):
    document = run("inspect", str(graph), "--json").document
    assert document["schema"] == "edgekit.inspect/1"
    (found,) = document["graphs"]
    assert [(layer["name"], layer["weight"], layer["macs"]) for layer in found["layers"]] == [
        ("first_product", [64, 128], 128 * 64 * 128),
        ("last_product", [128, 32], 128 * 128 * 32),
    ]
    assert found["sizes"] == {"batch": 1, "length": 128}


def test_nothing_there_is_one_document_and_exit_code_4(run, tmp_path: Path, graph: Path):
    result = run("inspect", str(graph.with_name("modle.onnx")), "--json")
    assert result.code == 4
    assert result.error["kind"] == ModelError.kind
    assert "model.onnx" in result.error["hint"]


def test_tokens_with_image_is_a_usage_error(run):
    result = run("inspect", "model.onnx", "--tokens", "2", "--image", "3")
    assert result.code == 2
    assert "--tokens and --image were both given" in result.told


@pytest.mark.parametrize("width", [80, 100])
def test_a_pruned_network_shows_what_is_left(width: int):
    lines = drawn(record_of(artifact=artifact(), network=network()), width)
    assert lines[0] == "out: an artifact in torch, 66.0 MB, 16.5 M parameters"
    assert "made from  minilm (BertForSequenceClassification)" in lines
    assert "sealed     no, so that `edgekit verify` cannot check it" in lines
    assert "4 of 6 layers, 384 wide, heads of 32" in lines
    narrower = {"encoder": network().encoder.model_copy(update={"width": 256})}  # type: ignore[union-attr]  # it has one
    assert "4 of 6 layers, 256 of 384 wide, heads of 32" in drawn(record_of(network=network(**narrower)), width)
    fewer = {"encoder": network().encoder.model_copy(update={"tokens": (1.0, 0.5, 0.25)})}  # type: ignore[union-attr]  # it has one
    told = "4 of 6 layers, 384 wide, heads of 32, tokens 100 % 50 % 25 %"
    assert told in drawn(record_of(network=network(**fewer)), width)
    rows = [re.sub(r"  +", "  ", line) for line in lines]
    assert "0  6 of 12  1136 of 1536  1,136,000" in rows
    assert "1  3 of 12  800 of 1536  800,000" in rows
    assert "3 to 4  3 of 12  800 of 1536  800,000 each" in rows  # neighbours that are alike are one row
    assert "bert.embeddings  5  12,000,000  72.7%" in rows
    assert "Estimated for batch 1, tokens 128" in lines
    assert max(map(len, lines)) <= width


def test_what_stages_say_of_their_work_is_told():
    details = {"layers": 27, "fallback_layers": [], "scheme": {"method": "dynamic"}}
    stages = (MadeRecord(stage="quantize", version=1, settings={}, details=details),)
    lines = drawn(record_of(artifact=artifact(stages=stages, sealed=True, status="in progress")))
    assert "  quantize  all 27 layers in INT8, dynamic" in lines
    assert "report      of a run that has not ended" in lines
    assert "sealed      yes; `edgekit verify` checks it" in lines


def test_what_is_not_known_is_said():
    work = WorkRecord(macs=None, complete=False, rule="", notes=("the network is code",))
    lines = drawn(record_of(network=network(encoder=None, work=work, memory=None, pruned="channels")))
    assert "work  unknown" in lines
    assert "      the network is code" in lines
    assert not any(line.startswith("memory") for line in lines)


def test_a_lower_bound_is_called_one():
    work = WorkRecord(macs=5_000, complete=False, rule="products", notes=("something was left out",))
    memory = MemoryRecord(
        weights_bytes=10**6, activations_bytes=10**6, peak_bytes=2 * 10**6, complete=False, at="", rule="weights"
    )
    lines = drawn(record_of(network=network(work=work, memory=memory)))
    assert "work    at least 5.00 k multiply-accumulates" in lines
    assert "memory  at least 2.00 MB at its peak: 1.00 MB of weights, 1.00 MB of activations" in lines


def test_a_graph_that_cannot_run_says_so_first(tmp_path: Path):
    text = "g (float[batch, 1, length] x) => (float[a, b, c] y) { [first] y = Conv (x, k) }"
    onnx.save(with_weights(text, k=random_array(4, 1, 9)), tmp_path / "model.onnx")
    lines = drawn(inspect(tmp_path / "model.onnx", workload=Workload(tokens=8)))
    told = lines.index("It cannot run on this workload")
    assert lines[told + 1] == "-  first: its window of 9 is wider than its input of 8"
    assert told < lines.index("Inputs and outputs")


def test_notes_stand_at_the_end():
    lines = drawn(record_of(network=network(), notes=("something is missing",)))
    assert lines[-2:] == ["Notes", "-  something is missing"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1_000, "1.00 k"), (12_345, "12.3 k"), (369_771_264, "370 M"), (1.4346e9, "1.43 G")],
)
def test_counts_have_three_figures(value: float, text: str):
    assert quantity(value) == text


def test_the_headline_of_an_exported_artifact():
    exported = record_of(artifact=artifact(format="onnx", target="arm64"))
    assert headline(exported) == "out: an artifact in ONNX for arm64, 66.0 MB, 0 parameters"
