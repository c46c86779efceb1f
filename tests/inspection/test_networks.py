from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import (
    ARCHITECTURES,
    HEADS,
    HIDDEN,
    IMAGE,
    LAYERS,
    NEURONS,
    NO_THINNING,
    THINS,
    Exported,
    build,
    export,
    save,
    task_for,
)

from edgekit.artifact import Artifact, write_artifact
from edgekit.errors import ModelError
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay, whole_plan
from edgekit.formats.torch import save_weights, torch_components
from edgekit.inspection import inspect
from edgekit.inspection.graphs import inspect_graph
from edgekit.inspection.networks import inspect_network
from edgekit.inspection.records import EncoderLayerRecord
from edgekit.tasks.base import Workload

PLAN = EncoderPlan(
    architecture="BertForSequenceClassification",
    layers=(
        LayerPlan(index=0, heads=(0, 2, 3), neurons=tuple(range(16))),
        LayerPlan(index=2, heads=(1,), neurons=tuple(range(48))),
    ),
)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_model_folder_has_torchs_parameters_heads_and_neurons(family: str, tmp_path: Path) -> None:
    model = build(family)
    record = inspect_network(save(model, tmp_path / family), Workload())
    assert record.architecture == type(model).__name__
    assert record.family == family
    assert record.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert [(part.precision, part.parameters) for part in record.weights] == [("fp32", record.parameters)]
    assert sum(part.parameters for part in record.parts) == record.parameters
    encoder = record.encoder
    assert encoder is not None
    assert (encoder.width, encoder.head_width) == (HIDDEN, HIDDEN // HEADS)
    assert (encoder.of_layers, encoder.of_heads, encoder.of_neurons) == (LAYERS, HEADS, NEURONS)
    assert [(layer.index, layer.heads, layer.neurons) for layer in encoder.layers] == [
        (index, HEADS, NEURONS) for index in range(LAYERS)
    ]
    # six matrices with their biases, and two layer norms
    assert encoder.layers[0].parameters == 4 * HIDDEN * HIDDEN + 2 * HIDDEN * NEURONS + 9 * HIDDEN + NEURONS
    assert record.pruned == ""


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_work_is_that_of_the_exported_graph(exported: Exported, family: str) -> None:
    workload = Workload(batch=2, tokens=16)
    task, artifact = exported[family]
    record = inspect_network(task.folder, workload)
    graph = inspect_graph(artifact.file(), workload, "model")
    assert record.work.complete
    assert record.work.macs == graph.work.macs
    assert record.memory is not None
    assert record.memory.weights_bytes == 4 * record.parameters
    # the formula for one layer, not fused, beside the real order of a graph whose attention is one operator
    assert 0.7 < (record.memory.activations_bytes or 0) / (graph.memory.activations_bytes or 1) < 1.5


def test_the_work_follows_tokens_and_batch(tmp_path: Path) -> None:
    folder = save(build("bert"), tmp_path / "model")
    macs = {
        (batch, tokens): inspect_network(folder, Workload(batch=batch, tokens=tokens)).work.macs
        for batch, tokens in [(1, 16), (3, 16), (1, 32)]
    }
    layers = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * NEURONS)
    head = HIDDEN * HIDDEN + 2 * HIDDEN
    assert macs[1, 16] == 16 * layers + LAYERS * 2 * 16 * 16 * HIDDEN + head
    assert macs[1, 32] == 32 * layers + LAYERS * 2 * 32 * 32 * HIDDEN + head
    assert macs[3, 16] == 3 * macs[1, 16]


def test_the_work_on_larger_images_has_more_patches(tmp_path: Path) -> None:
    folder = save(build("vit"), tmp_path / "model")
    own, larger = (inspect_network(folder, Workload(image=image)).work.macs for image in (None, 16))
    assert inspect_network(folder, Workload(image=8)).work.macs == own
    layers, patch = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * NEURONS), HIDDEN * 4 * 4
    tokens, patches = 17, 16
    assert larger == tokens * layers + LAYERS * 2 * tokens**2 * HIDDEN + patches * patch + 2 * HIDDEN


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[Artifact, Any]:
    """A BERT of which two layers are left, as an artifact, and the module."""
    from tiny import manifest

    folder = save(build("bert"), tmp_path / "original")
    model = replay(task_for(folder).load_model(), PLAN)
    out = tmp_path / "pruned"
    save_weights(model, out, PLAN)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    described = manifest(format="torch", components=torch_components(), source={"name": "tiny", "architecture": "B"})
    return write_artifact(out, described), model


def test_a_pruned_artifact_shows_what_is_left_of_each_layer(pruned: tuple[Artifact, Any]) -> None:
    artifact, model = pruned
    record = inspect(artifact.path, workload=Workload(tokens=16))
    assert record.kind == "artifact"
    assert record.artifact is not None
    assert (record.artifact.format, record.artifact.sealed, record.artifact.stages) == ("torch", False, ())
    network = record.network
    assert network is not None
    assert network.pruned == "encoder"
    assert network.parameters == sum(parameter.numel() for parameter in model.parameters())
    encoder = network.encoder
    assert encoder is not None
    width = HIDDEN // HEADS
    each = [
        4 * HIDDEN * heads * width + 3 * heads * width + HIDDEN + 2 * HIDDEN * neurons + neurons + HIDDEN + 4 * HIDDEN
        for heads, neurons in ((3, 16), (1, 48))
    ]
    assert encoder.layers == (
        EncoderLayerRecord(index=0, heads=3, neurons=16, parameters=each[0]),
        EncoderLayerRecord(index=2, heads=1, neurons=48, parameters=each[1]),
    )
    assert (encoder.of_layers, encoder.of_heads, encoder.of_neurons) == (LAYERS, HEADS, NEURONS)
    matrices = 4 * HIDDEN * 4 * width + 2 * HIDDEN * 64
    assert network.work.macs == 16 * matrices + 2 * 16 * 16 * 4 * width + HIDDEN * HIDDEN + 2 * HIDDEN


@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_a_hidden_size_that_was_pruned_is_that_of_the_weights(family: str, tmp_path: Path) -> None:
    folder = save(build(family), tmp_path / "original")
    model = task_for(folder).load_model()
    plan = whole_plan(model).model_copy(update={"hidden": tuple(range(20))})
    out = tmp_path / "pruned"
    save_weights(replay(model, plan), out, plan)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    record = inspect_network(out, Workload(tokens=16))
    encoder = record.encoder
    assert encoder is not None
    assert (encoder.width, encoder.of_width, encoder.head_width) == (20, HIDDEN, HIDDEN // HEADS)
    assert {(layer.heads, layer.neurons) for layer in encoder.layers} == {(HEADS, NEURONS)}
    assert record.parameters == sum(parameter.numel() for parameter in model.parameters())
    tokens, patches = (5, 4) if family == "vit" else (16, 0)
    head = 20 * 2 if family == "vit" else 20 * HIDDEN + HIDDEN * 2
    layers = LAYERS * (4 * 20 * HIDDEN + 2 * 20 * NEURONS)
    assert record.work.macs == tokens * layers + LAYERS * 2 * tokens**2 * HIDDEN + patches * 20 * 4 * 4 + head


@pytest.mark.skipif(not THINS, reason=NO_THINNING)
def test_tokens_that_are_left_out_are_not_counted(tmp_path: Path) -> None:
    folder = save(build("bert"), tmp_path / "original")
    task, workload = task_for(folder), Workload(batch=2, tokens=16)
    model, out = task.load_model(), tmp_path / "pruned"
    plan = whole_plan(model).model_copy(update={"tokens": (0.5, 0.25)})
    save_weights(replay(model, plan), out, plan)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    record = inspect_network(out, workload)
    assert record.encoder is not None
    assert record.encoder.tokens == (0.5, 0.25)
    graph = inspect_graph(export(task, model, tmp_path / "onnx").file(), workload, "model")
    assert record.work.macs == graph.work.macs
    whole = inspect_network(folder, workload)
    assert record.memory is not None
    assert whole.memory is not None
    assert (record.memory.activations_bytes or 0) < (whole.memory.activations_bytes or 0)


def test_a_plan_that_does_not_fit_the_weights_is_an_error(pruned: tuple[Artifact, Any]) -> None:
    plan = PLAN.model_copy(update={"layers": PLAN.layers[:1]})
    (pruned[0].path / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    with pytest.raises(ModelError, match="the plan keeps 1 layers") as caught:
        inspect(pruned[0].path)
    assert caught.value.why == "the weights have 2"


def test_a_family_that_nobody_knows_is_told_by_its_tensors(tmp_path: Path) -> None:
    config = {"architectures": ["OtherModel"], "model_type": "other", "hidden_size": 8, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = {"net.first.weight": np.zeros((8, 4), np.float16), "head.weight": np.zeros((2, 8), np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    record = inspect_network(tmp_path, Workload())
    assert (record.architecture, record.family, record.encoder, record.memory) == ("OtherModel", "other", None, None)
    assert {part.precision: part.parameters for part in record.weights} == {"fp16": 32, "fp32": 16}
    assert {part.name: part.parameters for part in record.parts} == {"net": 32, "head": 16}
    assert record.work.macs is None
    assert "was not run" in record.work.notes[0]


def test_a_head_that_nobody_knows_is_not_counted_and_said(tmp_path: Path) -> None:
    folder = save(build("bert"), tmp_path / "model")
    known = inspect_network(folder, Workload()).work
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForNothing"]}
    (folder / "config.json").write_text(json.dumps(config))
    work = inspect_network(folder, Workload()).work
    assert not work.complete
    assert work.notes == ("what BertForNothing has after its layers was not counted",)
    assert (known.macs or 0) - (work.macs or 0) == HIDDEN * HIDDEN + 2 * HIDDEN


def test_a_module_given_as_code_is_told_by_its_tensors(tmp_path: Path) -> None:
    from tiny import manifest

    tensors = {
        "first.0.weight": np.zeros((16, 3, 3, 3), np.float32),
        "first.1.weight": np.zeros(16, np.float32),
        "first.1.running_mean": np.zeros(16, np.float32),
        "first.1.num_batches_tracked": np.zeros(1, np.int64),
        "head.weight": np.zeros((5, 16), np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "module.json").write_text("{}")
    described = manifest(format="torch", components=torch_components(), source={"architecture": "Plain", "name": "net"})
    network = inspect(write_artifact(tmp_path, described).path).network
    assert network is not None
    assert (network.architecture, network.family, network.encoder, network.pruned) == ("Plain", "", None, "")
    assert {part.name: (part.tensors, part.parameters) for part in network.parts} == {
        "first": (2, 16 * 27 + 16),
        "head": (1, 80),
    }
    assert network.work.macs is None
    assert "`edgekit inspect` counts it in the exported artifact" in network.work.notes[0]


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not valid JSON"), ("[]", "is no valid model configuration")]
)
def test_a_broken_configuration_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        inspect_network(tmp_path, Workload())


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has no weights"):
        inspect_network(tmp_path, Workload())


def test_every_family_of_the_tests_is_known() -> None:
    assert set(IMAGE) < set(ARCHITECTURES)
