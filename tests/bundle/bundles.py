"""Small artifacts of texts and images, and bundles made of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import tiny

from edgekit.artifact import Artifact, open_artifact, write_artifact
from edgekit.bundle.build import make_bundle
from edgekit.measure.golden import write_golden

FAMILIES = ("bert", "vit")
TOLERANCE = 1e-3


def make_artifact(family: str, folder: Path, **changes: Any) -> Artifact:
    """A random classifier as ``compress`` would leave it: graph, pre-processing, labels and golden samples."""
    model = tiny.build(family, **changes)
    task = tiny.task_for(tiny.save(model, folder / "model"))
    artifact = tiny.export(task, task.load_model(), folder / "artifact")
    for file in (folder / "model").glob("*.json"):
        shutil.copyfile(file, artifact.path / file.name)
    examples = tiny.examples_for(task, 4)
    write_golden(artifact, task, [examples.batch([index]) for index in range(4)])
    manifest = artifact.manifest.model_copy(
        update={
            "labels": task.labels,
            "target": "x86-64",
            "runtime": "onnxruntime",
            "preprocessing": task.preprocessing,
            "golden_tolerance": TOLERANCE,
            "tools": {"edgekit": "0.1.0"},
        }
    )
    write_artifact(artifact.path, manifest)
    return open_artifact(artifact.path)


def bundle_of(artifact: Artifact, platform: str, out: Path, form: str | None = None) -> Path:
    """A bundle, in a folder."""
    make_bundle(artifact.path, platform, out, form)
    return out


def run(*command: str | Path, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program and take what it prints."""
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, **more)


def commands_of(readme: Path) -> list[str]:
    """The commands of the first block of a README."""
    _, _, rest = readme.read_text(encoding="utf-8").partition("```sh\n")
    block, _, _ = rest.partition("```")
    return block.strip().splitlines()


def flip(file: Path, place: int | None = None) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 0x20
    file.write_bytes(content)


def shorten(file: Path) -> None:
    """Take away the last line."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:-1]), encoding="utf-8")
