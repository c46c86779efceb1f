"""Every shipped recipe runs on a text and on an image model: a new one stands here by itself.

One that takes tokens out of the tokenizer needs a tokenizer that writes words in pieces, and has no use for images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from end_to_end.made import SHORT, WORKLOAD, data_for, model_folder

import edgekit
from edgekit.recipe import load_recipe, recipe_names

# What the weights are afterwards: a new recipe has to say it here.
PRECISIONS = {
    "default": "int8",
    "distill": "int8",
    "export": "fp32",
    "fp16": "fp16",
    "gentle": "int8",
    "quantize": "int8",
    "smallest": "int8",
    "static": "int8",
}


def stages_of(name: str) -> list[str]:
    return [step.stage.name for step in load_recipe(name).steps]


def cases() -> list[Any]:
    """Recipes with the kinds of model that they run on.

    One that distills is slow here: ``test_architectures`` runs it on every architecture.
    """
    found = []
    for name in recipe_names():
        stages = stages_of(name)
        marks = pytest.mark.slow if "distill" in stages else ()
        families = ("wordpiece",) if "vocabulary" in stages else ("bert", "vit")
        found += [pytest.param(name, family, marks=marks) for family in families]
    return found


@pytest.fixture(scope="module")
def made(tokenizers: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each family a model and its data, the same for all recipes, so that they share what is cached."""
    root = tmp_path_factory.mktemp("recipes")
    models = {family: model_folder(family, root / family / "model") for family in ("bert", "vit")}
    models["wordpiece"] = tokenizers.model("wordpiece", root / "wordpiece" / "model")
    return {family: (model, data_for(family, root / family / "data")) for family, model in models.items()}


def test_every_recipe_has_a_precision() -> None:
    assert sorted(PRECISIONS) == recipe_names()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("name", "family"), cases())
def test_recipe_runs(name: str, family: str, made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    model, data = made[family]
    stages = stages_of(name)
    report = edgekit.compress(
        model,
        data=data,
        target="x86-64-vnni",
        recipe=name,
        settings={key: value for key, value in SHORT.items() if key.split(".")[0] in stages},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        keep_stages=True,
        output=tmp_path / "out",
    )
    assert [entry.stage for entry in report.ledger] == ["original", *stages[:-1]]
    quantized = [entry for entry in report.ledger if entry.stage == "quantize"]
    assert all(entry.size_delta_bytes < 0 for entry in quantized), quantized
    assert report.artifact.manifest.components["model"].precision == PRECISIONS[name]
    assert report.artifact.manifest.stages[-1].stage == "verify"
    assert report.passed
    assert report.quality is not None
    assert report.quality.cosine > (0.99 if "prune" not in stages else 0.0)
    assert edgekit.verify(tmp_path / "out").golden["model"] == 0.0
    kept = sorted((tmp_path / "out" / "stages").iterdir())
    assert [folder.name for folder in kept] == [f"{n}-{stage}" for n, stage in enumerate(stages[:-1], 1)]
