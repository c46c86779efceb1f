"""A pruned and distilled checkpoint loads in a fresh process, from safetensors and a plan, with equal outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from end_to_end.made import SHORT, WORKLOAD, data_for, model_folder

import edgekit

RECIPE = """
schema = "edgekit.recipe/1"
name = "train"

[[stages]]
stage = "prune"

[[stages]]
stage = "distill"

[[stages]]
stage = "export"

[[stages]]
stage = "verify"
"""
SCRIPT = """
import sys
import numpy as np, torch
import edgekit

feeds, *folders = sys.argv[1:]
with np.load(feeds) as stored:
    inputs = {name: torch.from_numpy(stored[name]) for name in stored.files}
for folder in folders:
    model = edgekit.load_pruned(folder)
    with torch.no_grad():
        np.save(f"{folder}.npy", model(**inputs).logits.numpy())
    print(sum(parameter.numel() for parameter in model.parameters()), model.training)
"""
STAGES = ("1-prune", "2-distill")


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("family", ["bert", pytest.param("vit", marks=pytest.mark.slow)])
def test_pruned_checkpoint_gives_equal_outputs_in_a_fresh_process(family: str, tmp_path: Path) -> None:
    import torch

    (tmp_path / "train.toml").write_text(RECIPE)
    model = model_folder(family, tmp_path / "model", layers=2)
    edgekit.compress(
        model,
        data=data_for(family, tmp_path / "data"),
        target="x86-64-vnni",
        recipe=tmp_path / "train.toml",
        settings={key: value for key, value in SHORT.items() if key.startswith(("prune", "distill"))},
        max_drop=1.0,
        workload=WORKLOAD,
        jobs=1,
        keep_stages=True,
        output=tmp_path / "out",
    )
    whole = sum(parameter.numel() for parameter in tiny.task_for(model).load_model().parameters())
    (batch,) = tiny.batches(tiny.task_for(model), 8)
    feeds = {name: values for name, values in batch.items() if name != "labels"}
    np.savez(tmp_path / "feeds.npz", **feeds)
    folders = [tmp_path / "out" / "stages" / stage for stage in STAGES]
    command = [sys.executable, "-P", "-c", SCRIPT, str(tmp_path / "feeds.npz"), *map(str, folders)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for folder, line in zip(folders, done.stdout.splitlines(), strict=True):
        assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt"}
        assert len(json.loads((folder / "plan.json").read_text())["layers"]) == 2
        pruned = edgekit.load_pruned(folder)
        with torch.no_grad():
            mine = pruned(**{name: torch.from_numpy(values) for name, values in feeds.items()}).logits.numpy()
        count = sum(parameter.numel() for parameter in pruned.parameters())
        assert count < whole * 0.9
        assert line == f"{count} False"
        assert np.array_equal(np.load(f"{folder}.npy"), mine)
        assert mine.shape == (8, 2)


@pytest.mark.usefixtures("device")
def test_load_pruned_refuses_an_exported_artifact(tmp_path: Path) -> None:
    edgekit.compress(
        model_folder("bert", tmp_path / "model", layers=1),
        target="x86-64-vnni",
        recipe="export",
        workload=WORKLOAD,
        jobs=1,
        output=tmp_path / "out",
    )
    with pytest.raises(edgekit.EdgekitError, match="is an artifact of format 'onnx'") as caught:
        edgekit.load_pruned(tmp_path / "out")
    assert "--keep-stages" in str(caught.value)
