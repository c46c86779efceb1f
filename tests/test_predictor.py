"""Artifacts that somebody else may have made run in processes with limits, whoever asks them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import ENDLESS, proto
from safetensors.numpy import save_file

from edgekit.artifact import WHOLE, Artifact, open_artifact, write_artifact
from edgekit.errors import ResourceLimitError
from edgekit.formats.foreign import graph_artifact, resolve_graph
from edgekit.measure.golden import check_golden
from edgekit.predictor import artifact_subject
from edgekit.tasks.base import TaskOptions

FEEDS: dict[str, Any] = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """An artifact whose graph gives no answer, with golden inputs."""
    monkeypatch.setenv("EDGEKIT_MODEL_SECONDS", "6")
    onnx.save(proto(ENDLESS), tmp_path / "endless.onnx")
    made = graph_artifact(resolve_graph(tmp_path / "endless.onnx", {}, None, images=False), "tensors")
    folder = tmp_path / "artifact"
    shutil.copytree(made.path, folder)
    (folder / "golden").mkdir()
    save_file({"0/in/x": FEEDS["x"], "0/out/y": FEEDS["x"]}, folder / "golden" / f"{WHOLE}.safetensors")
    write_artifact(folder, made.manifest)
    return open_artifact(folder)


def test_an_artifact_that_never_answers_is_stopped(endless: Artifact) -> None:
    subject = artifact_subject(endless.path, TaskOptions(), None, 1)
    with pytest.raises(ResourceLimitError) as caught:
        subject.runner.run(WHOLE, FEEDS)
    assert caught.value.id == "resource-limit.model-time"
    with pytest.raises(ResourceLimitError, match="gave no answer"):
        check_golden(endless, subject.task)
