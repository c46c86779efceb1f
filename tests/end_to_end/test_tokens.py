"""Encoders that leave tokens out between their layers pass every stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tflites
import tiny
from end_to_end.made import (
    SHORT,
    WORKLOAD,
    check_answers_alike,
    check_kept,
    check_lock_repeats,
    data_for,
    model_folder,
    text_data,
)
from zoo import make

import edgekit
from edgekit.errors import ModelError, UsageError
from edgekit.formats.onnx import load_graph
from edgekit.formats.thinning import leaves_tokens_out
from edgekit.quantization.schemes import weighted_nodes

LAYERS = 3
COMMON: dict[str, Any] = {"target": "x86-64-vnni", "max_drop": 1.0, "jobs": 1, "workload": WORKLOAD}
# So much of the widths goes that fewer bytes make good for more nodes on the pretended device.
THINNED = SHORT | {"prune.tokens": "[0.8,0.5]", "prune.ratio": "0.85"}
pytestmark = pytest.mark.skipif(not tiny.THINS, reason=tiny.NO_THINNING)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("family", "ratio"), [("bert", "0.85"), ("vit", "0.6")])
def test_an_encoder_of_fewer_tokens_passes_every_stage(family: str, ratio: str, tmp_path: Path) -> None:
    model, data = model_folder(family, tmp_path / "model", layers=LAYERS), data_for(family, tmp_path / "data")
    out = tmp_path / "out"
    settings = THINNED | {"prune.ratio": ratio, "distill.quantize_last": "0.5"}
    report = edgekit.compress(model, data=data, settings=settings, keep_stages=True, output=out, **COMMON)
    check_kept(report)
    details: dict[str, Any] = {stage.stage: stage.details for stage in report.stages}
    assert details["prune"]["tokens"] == [0.8, 0.5]
    assert details["distill"]["not_compared"] == []
    rows = {entry["rewrite"]: entry for entry in details["optimize"]["model"]["rewrites"]}
    assert rows["attention"]["nodes"] == rows["packed"]["nodes"] == LAYERS
    assert rows["first_token"]["nodes"] > 0
    assert details["quantize"]["fallback_layers"] == []
    assert weighted_nodes(load_graph(out / "model.onnx"), embeddings=True) == []
    edgekit.verify(out)
    check_torch_and_onnx_agree(out)


def check_torch_and_onnx_agree(out: Path) -> None:
    """The distilled checkpoint is loaded by its plan, and its export answers as it does."""

    folder = out / "stages" / "2-distill"
    module = edgekit.load_pruned(folder)
    assert leaves_tokens_out(module)
    assert json.loads((folder / "plan.json").read_text())["tokens"] == [0.8, 0.5]
    (batch,) = tiny.batches(tiny.task_for(folder), 4)
    graph = out / "stages" / "3-export" / "model.onnx"
    assert sum(node.op_type == "TopK" for node in load_graph(graph).graph) == LAYERS - 1
    check_answers_alike(module, graph, batch)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("method", ["static", "fp16"])
def test_other_precisions_take_fewer_tokens(method: str, tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    settings = THINNED | {"quantize.method": method}
    report = edgekit.compress(model, data=data, settings=settings, output=tmp_path / "out", **COMMON)
    check_kept(report)
    assert sum(node.op_type == "TopK" for node in load_graph(tmp_path / "out" / "model.onnx").graph) == LAYERS - 1


@pytest.mark.slow
@pytest.mark.skipif(not tflites.INSTALLED, reason=tflites.REASON)
@pytest.mark.usefixtures("device")
def test_tflite_takes_fewer_tokens(tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    out = tmp_path / "out"
    settings = THINNED | {"export.lengths": "[16]"}
    report = edgekit.compress(model, data=data, settings=settings, format="tflite", output=out, **COMMON)
    check_kept(report)
    (exported,) = [stage.details for stage in report.stages if stage.stage == "export"]
    operators: Any = exported["operators"]
    assert operators["model"]["TOPK_V2"] == LAYERS - 1


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_its_lock_repeats_it_and_other_recipes_say_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    made = edgekit.compress(model, data=data, settings=THINNED, output=tmp_path / "out", **COMMON)
    check_lock_repeats(made, model, data, tmp_path, monkeypatch)

    edgekit.compress(model, data=data, settings=SHORT, output=tmp_path / "usual", **COMMON)
    (pruned, *_) = json.loads((tmp_path / "usual" / "manifest.json").read_text())["stages"]
    assert "tokens" not in pruned["settings"]
    assert "\ntokens = " not in (tmp_path / "usual" / "recipe.lock.toml").read_text().partition('"distill"')[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prune.tokens": "[0.5]"}, "prune.tokens=[0.5] was given, and layers that stay: 3"),
        ({"prune.tokens": "0.0"}, "--set prune.tokens=0.0 is not valid"),
        ({"prune.tokens": "0.5", "distill.dropout": "true"}, "distill.dropout=true cannot go with prune.tokens"),
        ({"prune.tokens": "0.5", "distill.attention": "1.0"}, "distill.attention=1 cannot go with prune.tokens"),
    ],
)
def test_what_fewer_tokens_cannot_go_with_is_an_error(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    with pytest.raises(UsageError) as caught:
        edgekit.compress(model, data=data, settings=SHORT | settings, output=tmp_path / "out", **COMMON)
    assert caught.value.what == message


def test_an_answer_of_every_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    monkeypatch.setattr("edgekit.stages.prune.reads_first_token_alone", lambda *_: False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError) as caught:
        edgekit.compress(model, data=data, settings=THINNED, output=tmp_path / "out", **COMMON)
    assert caught.value.what == "BertForSequenceClassification needs every token"
    assert caught.value.why == "its answer is read of more than the first one"


def test_a_module_has_no_tokens_that_are_known(tmp_path: Path) -> None:
    recipe = tmp_path / "prune.toml"
    recipe.write_text(
        'schema = "edgekit.recipe/1"\nname = "prune"\n\n[[stages]]\nstage = "prune"\ntokens = 0.5\n'
        'importance = "weights"\n\n[[stages]]\nstage = "export"\n\n[[stages]]\nstage = "verify"\n'
    )
    with pytest.raises(UsageError) as caught:
        edgekit.compress(
            make("perceptron"), input="1x12", target="x86-64-vnni", recipe=recipe, jobs=1, output=tmp_path / "out"
        )
    assert caught.value.what == "prune.tokens was asked for, and Perceptron is no transformer encoder"
