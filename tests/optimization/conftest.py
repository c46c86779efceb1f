"""Tiny models, exported once for all tests here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import build, export, save, task_for

from edgekit.artifact import Artifact
from edgekit.tasks.base import Task


# Heads that stay in each layer of a BERT.
PRUNED = {"pruned": ((0, 2, 3), (1, 2), (0, 3)), "one head": ((0, 2, 3), (1,), (2,))}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, torch_alone: Any) -> dict[str, tuple[Task, Artifact]]:
    """For each family its task and its graph; ``PRUNED`` are BERTs of which some heads stay."""
    from edgekit.formats.surgery import LayerPlan, Plan, replay

    found: dict[str, tuple[Task, Artifact]] = {}
    for family in ("bert", "distilbert", "vit"):
        task = task_for(save(build(family), tmp_path_factory.mktemp(family)))
        found[family] = task, export(task, tmp_path_factory.mktemp(f"{family}-onnx"))
    task = found["bert"][0]
    for name, heads in PRUNED.items():
        model = task.load_model()
        layers = tuple(LayerPlan(index=i, heads=h, neurons=tuple(range(16 * (i + 1)))) for i, h in enumerate(heads))
        replay(model, Plan(architecture=type(model).__name__, layers=layers))
        found[name] = task, _export_module(task, model, tmp_path_factory.mktemp("pruned-onnx"))
    return found


def _export_module(task: Task, model: Any, folder: Path) -> Artifact:
    from tiny import manifest

    from edgekit.artifact import WHOLE, write_artifact
    from edgekit.formats.onnx import describe_component, export_component

    export_component(task.components(model)[WHOLE], folder / "model.onnx", 23)
    described = describe_component(folder / "model.onnx")
    return write_artifact(folder, manifest(task=task.name, components={WHOLE: described}))
