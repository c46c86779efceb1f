from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import proto
from safetensors.numpy import save_file

from edgekit.artifact import WHOLE, open_artifact, write_artifact
from edgekit.errors import VerificationError
from edgekit.formats.foreign import graph_artifact, resolve_graph
from edgekit.measure.golden import TASK_FILE, check_golden, relative_difference
from edgekit.predictor import artifact_subject
from edgekit.tasks.base import TaskOptions

SHARE = "agraph (float[N, 3] x) => (float[N, 3] y) { y = Div(x, x) }"
ONES = np.ones((1, 3), np.float32)


@pytest.mark.parametrize(
    ("mine", "reference", "difference"),
    [
        ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 0.0),
        ([1.0, 2.0, 4.0], [1.0, 3.0, 4.0], 0.25),
        ([1.0, 2.0], [1.0, 2.0, 4.0], np.inf),
        ([1.0, np.nan, 4.0], [1.0, 2.0, 4.0], np.inf),
        ([1.0, 2.0, 4.0], [1.0, np.nan, 4.0], np.inf),
        ([1.0, -np.inf, 4.0], [1.0, -np.inf, 4.0], 0.0),
        ([2.0, -np.inf, 4.0], [1.0, -np.inf, 4.0], 0.25),
        ([1.0, np.inf, 4.0], [1.0, 2.0, 4.0], np.inf),
        ([1.0, -np.inf, 4.0], [1.0, np.inf, 4.0], np.inf),
    ],
)
def test_answers_are_apart_by_their_largest_difference(
    mine: list[float], reference: list[float], difference: float
) -> None:
    assert relative_difference(np.float32(mine), np.float32(reference)) == difference


@pytest.mark.parametrize("fed", [1.0, 0.0])
def test_answers_that_are_no_numbers_are_not_the_golden_ones(tmp_path: Path, fed: float) -> None:
    onnx.save(proto(SHARE), tmp_path / "share.onnx")
    made = graph_artifact(resolve_graph(tmp_path / "share.onnx", {}, None, images=False), "tensors")
    folder = tmp_path / "artifact"
    shutil.copytree(made.path, folder)
    (folder / "golden").mkdir()
    save_file({"0/in/x": ONES * np.float32(fed), "0/out/y": ONES}, folder / "golden" / f"{WHOLE}.safetensors")
    save_file({"0/in/x": ONES, "0/out/logits": ONES}, folder / "golden" / f"{TASK_FILE}.safetensors")
    write_artifact(folder, made.manifest.model_copy(update={"golden_tolerance": 1e-4}))
    task = artifact_subject(folder, TaskOptions(), None, 1).task
    if fed:
        assert check_golden(open_artifact(folder), task) == {WHOLE: 0.0, TASK_FILE: 0.0}
        return
    with pytest.raises(VerificationError, match="outputs differ by inf") as raised:
        check_golden(open_artifact(folder), task)
    assert raised.value.id == "verification.answers-differ"
