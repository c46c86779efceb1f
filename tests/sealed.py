"""A small sealed artifact with everything that a result of a run has, made without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
from cli.samples import make_report

from edgekit.artifact import WHOLE, Artifact, Component, TensorSpec, write_artifact
from edgekit.sealing import seal

LOCK = """schema = "edgekit.recipe/1"
name = "quantize"

[[stages]]
stage = "export"

[lock]
target = "arm64"
source = "5555"
seed = 3
jobs = 1
threads = 1
workload = {batch = 1, tokens = 128}
numeric_level = "x86_64-avx2-py3.11"

[lock.versions]
torch = "2.13.0+cpu"

[lock.decisions."keep.quantize"]
kept = true
reason = "smaller"
"""


def sealed_artifact(root: Path, **changes: Any) -> Artifact:
    """A sealed folder; ``changes`` are of its manifest."""
    (root / "golden").mkdir(parents=True)
    (root / "model.onnx").write_bytes(b"graph" * 50)
    (root / "golden" / "model.safetensors").write_bytes(b"golden" * 10)
    part = Component(
        files=("model.onnx",),
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
        precision="int8",
    )
    values: dict[str, Any] = {
        "source": {
            "name": "minilm",
            "digest": "5" * 64,
            "licence": "apache-2.0",
            "architecture": "Bert",
            "commit": "c",
        },
        "target": "arm64",
        "components": {WHOLE: part},
        "data": {"name": "sst2", "digest": "d" * 64},
        "tools": {"torch": "2.13.0+cpu", "onnx-ir": "1.1.0"},
    }
    artifact = write_artifact(root, tiny.manifest(**(values | changes)))
    (root / "recipe.lock.toml").write_text(LOCK)
    make_report(root.with_name(f"{root.name}-report")).save(root)
    seal(root)
    return artifact
