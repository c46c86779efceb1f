"""Encoders whose hidden size was pruned pass every stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
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
from tiny import HIDDEN
from zoo import make

import edgekit
from edgekit.errors import UsageError
from edgekit.formats.encoder import stream_width
from edgekit.formats.onnx import load_graph
from edgekit.quantization.schemes import weighted_nodes

LAYERS, LEFT = 2, 16
COMMON: dict[str, Any] = {"target": "x86-64-vnni", "max_drop": 1.0, "jobs": 1}


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("family", ["bert", "distilbert", "vit"])
def test_a_narrower_encoder_passes_every_stage(family: str, tmp_path: Path) -> None:
    model, data = model_folder(family, tmp_path / "model", layers=LAYERS), data_for(family, tmp_path / "data")
    settings = SHORT | {"prune.hidden": "0.5", "prune.ratio": "0.6"}
    out = tmp_path / "out"
    report = edgekit.compress(
        model, data=data, settings=settings, workload=WORKLOAD, keep_stages=True, output=out, **COMMON
    )
    check_kept(report)
    details: dict[str, Any] = {stage.stage: stage.details for stage in report.stages}
    assert (details["prune"]["hidden"], details["prune"]["hidden_of"]) == (LEFT, HIDDEN)
    rows = {entry["rewrite"]: entry for entry in details["optimize"]["model"]["rewrites"]}
    assert rows["attention"]["nodes"] == LAYERS
    assert rows["first_token"]["nodes"] > 0
    assert details["quantize"]["fallback_layers"] == []
    assert weighted_nodes(load_graph(out / "model.onnx"), embeddings=True) == []
    edgekit.verify(out)
    check_torch_and_onnx_agree(out)


def check_torch_and_onnx_agree(out: Path) -> None:
    """The distilled checkpoint is loaded by its plan, and its export answers as it does."""
    import transformers

    folder = out / "stages" / "2-distill"
    module = edgekit.load_pruned(folder)
    assert stream_width(module) == LEFT
    assert json.loads((folder / "config.json").read_text()).get("hidden_size", HIDDEN) == HIDDEN  # the original's
    with pytest.raises(RuntimeError, match="size"):  # transformers has one width for stream and heads
        transformers.AutoModel.from_pretrained(folder)
    (batch,) = tiny.batches(tiny.task_for(folder), 4)
    check_answers_alike(module, out / "stages" / "3-export" / "model.onnx", batch)


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_its_lock_repeats_it_and_other_recipes_say_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    settings = SHORT | {"prune.hidden": str(LEFT), "quantize.embeddings": "int4", "distill.embeddings": "int4"}
    made = edgekit.compress(model, data=data, settings=settings, workload=WORKLOAD, output=tmp_path / "out", **COMMON)
    lock = tmp_path / "out" / "recipe.lock.toml"
    assert f"hidden = {LEFT}\n" in lock.read_text()
    check_lock_repeats(made, model, data, tmp_path, monkeypatch)

    edgekit.compress(model, data=data, settings=SHORT, workload=WORKLOAD, output=tmp_path / "usual", **COMMON)
    (pruned, *_) = json.loads((tmp_path / "usual" / "manifest.json").read_text())["stages"]
    assert "hidden" not in pruned["settings"]
    told = (tmp_path / "usual" / "recipe.lock.toml").read_text()
    assert 'stage = "prune"' in told
    assert "\nhidden = " not in told.partition('stage = "distill"')[0]


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ("33", "prune.hidden=33 was given, and the model has a hidden size of 32"),
        ("0.0", "--set prune.hidden=0.0 is not valid"),
    ],
)
def test_a_hidden_size_that_cannot_be_is_an_error(hidden: str, message: str, tmp_path: Path) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=LAYERS), text_data(tmp_path)
    with pytest.raises(UsageError) as caught:
        edgekit.compress(
            model,
            data=data,
            settings=SHORT | {"prune.hidden": hidden},
            workload=WORKLOAD,
            output=tmp_path / "out",
            **COMMON,
        )
    assert caught.value.what == message


def test_a_module_has_no_hidden_size_that_is_known(tmp_path: Path) -> None:
    recipe = tmp_path / "prune.toml"
    recipe.write_text(
        'schema = "edgekit.recipe/1"\nname = "prune"\n\n[[stages]]\nstage = "prune"\nhidden = 0.5\n'
        'importance = "weights"\n\n[[stages]]\nstage = "export"\n\n[[stages]]\nstage = "verify"\n'
    )
    with pytest.raises(UsageError) as caught:
        edgekit.compress(
            make("perceptron"), input="1x12", target="x86-64-vnni", recipe=recipe, jobs=1, output=tmp_path / "out"
        )
    assert caught.value.what == "prune.hidden=0.5 was asked for, and Perceptron is no transformer encoder"
    assert caught.value.why == "it is known of encoders only"
