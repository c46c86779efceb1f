"""A run that takes tokens out of the tokenizer: from there on everything is fed by what the artifact reads with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from end_to_end.made import model_folder, text_data, write_csv
from tflites import INSTALLED, REASON
from vocabularies import OTHERS, texts

import edgekit
from edgekit.artifact import open_artifact
from edgekit.formats.tokenizer import read_tokenizer
from edgekit.formats.vocabulary import read_vocabulary


def recipe_of(*stages: str) -> str:
    tables = "".join(f'[[stages]]\nstage = "{stage}"\n' for stage in stages)
    return f'schema = "edgekit.recipe/1"\nname = "smaller"\n\n{tables}'


RECIPE = recipe_of("prune", "vocabulary", "export", "quantize", "verify")
SHORTEST = recipe_of("vocabulary", "export", "verify")
SETTINGS = {
    "prune.samples": "64",
    "prune.layers": "1.0",
    "prune.ratio": "0.3",
    "quantize.tolerance": "1.0",
    "quantize.embeddings": "int4",
}


def compress(model: Path, data: Path, folder: Path, recipe: str = RECIPE, **options: Any) -> edgekit.Report:
    (folder / "recipe.toml").write_text(recipe)
    values: dict[str, Any] = {
        "target": "x86-64-vnni",
        "recipe": folder / "recipe.toml",
        "max_drop": 1.0,
        "workload": edgekit.Workload(tokens=16),
        "jobs": 1,
        "keep_stages": True,
        "output": folder / "out",
    }
    return edgekit.compress(model, data=data, **(values | options))


@pytest.mark.usefixtures("device")
def test_an_artifact_reads_with_the_tokenizer_that_was_cut_for_it(tokenizers: Any, tmp_path: Path) -> None:
    import torch

    model = tokenizers.model("wordpiece", tmp_path / "model")
    corpus = texts(160, seed=3, words=40)
    data = write_csv(tmp_path / "data.csv", {"text": corpus, "label": [len(text) % 2 for text in corpus]})
    report = compress(model, data, tmp_path, settings=SETTINGS)
    out = tmp_path / "out"
    rows = {row.stage: row for row in report.ledger}
    assert [row.stage for row in report.ledger] == ["original", "prune", "vocabulary", "export", "quantize"]
    assert all(row.kept for row in report.ledger)
    # every text of these data is of the same words: nothing changes but the size
    assert rows["vocabulary"].metric == rows["prune"].metric
    assert rows["vocabulary"].size_bytes < rows["prune"].size_bytes - 300 * 4 * tiny.HIDDEN

    whole, cut = read_tokenizer(model), read_tokenizer(out)
    stage = out / "stages" / "2-vocabulary"
    plan = read_vocabulary(stage)
    assert plan is not None
    assert len(cut.ids) == len(plan.kept) < 200 < len(whole.ids) == plan.size
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(cut.ids)
    assert not (out / "vocabulary.json").exists()

    # torch, the exported and the quantized graph answer with the new numbers
    pruned, smaller = (edgekit.load_pruned(out / "stages" / name) for name in ("1-prune", "2-vocabulary"))
    before, after = tiny.task_for(out / "stages" / "1-prune"), tiny.task_for(stage)
    columns = {"text": corpus[:8], "label": [0] * 8}
    one, other = (task.encode(columns).batch(range(8)) for task in (before, after))
    torch.testing.assert_close(
        torch.from_numpy(tiny.logits(before, pruned, one)), torch.from_numpy(tiny.logits(after, smaller, other))
    )
    assert edgekit.verify(out).golden["task"] == 0.0
    assert edgekit.evaluate(out / "stages" / "3-export", data, threads=1).metrics[0].value == rows["export"].metric
    exported, predictor = edgekit.load(out / "stages" / "3-export"), edgekit.load(out)
    for text in OTHERS:
        assert sum(score for _, score in predictor.predict(text)) == pytest.approx(1)
    torch_scores = [dict(edgekit.load(stage).predict(text)) for text in corpus[:4]]
    for text, scores in zip(corpus[:4], torch_scores, strict=True):
        assert dict(exported.predict(text)) == pytest.approx(scores, abs=1e-3)
    # what is left of the table of words is INT4, and onnxruntime looks its rows up so
    graph = edgekit.inspect(out).graphs[0]
    assert ("com.microsoft.GatherBlockQuantized", "int4", 1) in {
        (one.kind, one.precision, one.count) for one in graph.operators
    }
    tables = {layer.weight: layer.precision for layer in graph.layers if layer.kind == "GatherBlockQuantized"}
    assert tables == {(len(cut.ids), tiny.HIDDEN // 2): "int4"}  # two in a byte
    assert ("weights only", "u4") in {(group.method, group.scheme) for group in graph.quantization}
    manifest = open_artifact(out).manifest
    assert manifest.components["model"].integers == "u8s8, tables of 4 bits"
    assert manifest.components["model"].precision == "int8"
    assert [record.stage for record in manifest.stages] == ["prune", "vocabulary", "export", "quantize", "verify"]


@pytest.mark.usefixtures("device")
def test_words_that_the_recipe_names_keep_their_tokens(tokenizers: Any, tmp_path: Path) -> None:
    model = tokenizers.model("bytes", tmp_path / "model")
    (tmp_path / "model" / "spiece.model").write_bytes(b"SentencePiece's")
    whole = read_tokenizer(model)
    corpus = texts(60, seed=3, words=20)
    data = write_csv(tmp_path / "data.csv", {"text": corpus, "label": [len(text) % 2 for text in corpus]})
    word = max((token for token in whole.pieces if token.isascii() and token.isalpha()), key=len)
    report = compress(
        model, data, tmp_path, SHORTEST, settings={"vocabulary.keep": f'["{word}"]', "vocabulary.min_count": "3"}
    )
    cut = read_tokenizer(tmp_path / "out")
    assert word in cut.ids
    assert not any(path.name == "spiece.model" for path in (tmp_path / "out").rglob("*"))
    (said,) = [stage.details for stage in report.stages if stage.stage == "vocabulary"]
    assert (said["tokenizer"], said["tokens_after"]) == ("BPE", len(cut.ids))
    assert len(cut.ids) < len(whole.ids)


@pytest.mark.skipif(not INSTALLED, reason=REASON)
@pytest.mark.usefixtures("device")
def test_tflite_is_fed_by_the_smaller_tokenizer_and_the_original_by_its_own(tokenizers: Any, tmp_path: Path) -> None:
    model = tokenizers.model("unigram", tmp_path / "model")
    known, others = texts(60, seed=3, words=20), texts(20, seed=4)
    columns = [{"text": corpus, "label": [len(text) % 2 for text in corpus]} for corpus in (known, others)]
    for name, rows in zip(("train", "validation"), columns, strict=True):
        write_csv(tmp_path / "data" / f"{name}.csv", rows)
    report = compress(
        model,
        tmp_path / "data",
        tmp_path,
        SHORTEST,
        format="tflite",
        settings={"export.lengths": "[64]", "vocabulary.min_count": "2"},
    )
    out, task = tmp_path / "out", tiny.task_for(model)
    assert len(read_tokenizer(out).ids) < len(read_tokenizer(model).ids)
    assert edgekit.verify(out).golden["task"] == 0.0
    assert report.quality is not None
    before, after = (edgekit.evaluate(path, tmp_path / "data", threads=1) for path in (model, out))
    assert (before.metrics[0].value, after.metrics[0].value) == (report.quality.before, report.quality.after)
    # texts of other words are other numbers now, and the artifact reads them as its folder in torch does
    assert task.encode(columns[1]).batch([0])["input_ids"].max() >= len(read_tokenizer(out).ids)
    torch_scores = dict(edgekit.load(out / "stages" / "1-vocabulary").predict(others[0]))
    assert dict(edgekit.load(out).predict(others[0])) == pytest.approx(torch_scores, abs=1e-4)


def test_a_tokenizer_without_pieces_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(edgekit.EdgekitError, match="the tokenizer is of the kind WordLevel") as caught:
        compress(model_folder("bert", tmp_path / "model"), text_data(tmp_path / "data"), tmp_path)
    assert caught.value.id == "model.unsuitable-tokenizer"
    assert not (tmp_path / "out").exists()


def test_images_have_no_vocabulary(tmp_path: Path) -> None:
    from end_to_end.made import data_for

    with pytest.raises(edgekit.EdgekitError, match="the stage vocabulary is for texts") as caught:
        compress(
            model_folder("vit", tmp_path / "model"),
            data_for("vit", tmp_path / "data"),
            tmp_path,
            workload=edgekit.Workload(),
        )
    assert (caught.value.id, caught.value.hint) == ("usage.nothing-to-prune", "Use a recipe without it.")


def test_numbers_of_transformers_own_are_an_error(tokenizers: Any, tmp_path: Path) -> None:
    from edgekit.errors import ModelError
    from edgekit.stages.vocabulary import _compare

    task = tiny.task_for(tokenizers.model("wordpiece", tmp_path / "model"))
    found = read_tokenizer(task.folder)
    _compare(found, task)
    task.tokenizer.add_tokens(["of transformers' own"])  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="numbers the tokenizer's tokens otherwise") as caught:
        _compare(found, task)
    assert caught.value.why == f"its class is {type(task.tokenizer).__name__}"  # type: ignore[attr-defined]
