"""Small artifacts of texts and images, and bundles made of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import tiny
from bundle.made_tokenizers import MADE

from edgekit.artifact import WHOLE, Artifact, open_artifact, write_artifact
from edgekit.bundle.build import make_bundle
from edgekit.measure.golden import write_golden
from edgekit.source import sha256_file

FAMILIES = ("bert", "vit")
# Families that are a BERT with another tokenizer: which one, and its pad token.
TOKENIZERS = {"wordpiece": ("wordpiece", "[PAD]"), "bpe": ("byte bpe", "<pad>"), "unigram": ("unigram", "<pad>")}
# What is damaged in which family's bundle.
DAMAGED = [
    *(
        (family, name)
        for family in TOKENIZERS
        for name in ("tokenizer/compiled.json", "model/model.onnx", "labels.txt")
    ),
    *(("vit", name) for name in ("model/model.onnx", "labels.txt")),
]
TOLERANCE = 1e-3


def make_artifact(family: str, folder: Path, **changes: Any) -> Artifact:
    """A random classifier as ``compress`` would leave it: graph, pre-processing, labels and golden samples."""
    if family in TOKENIZERS:
        words = tokenizer_of(family)
        tiny.save(tiny.build("bert", layers=1, vocab_size=len(words), **changes), folder / "model")
        words.save_pretrained(folder / "model")
    else:
        tiny.save(tiny.build(family, layers=1, **changes), folder / "model")
    task = tiny.task_for(folder / "model")
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


def artifact_of(tflites: Any, family: str, folder: Path) -> Artifact:
    """A tiny .tflite as ``compress`` would leave it."""
    exported = tflites[family]
    folder.mkdir()
    shutil.copyfile(exported.file, folder / "model.tflite")
    for file in (exported.file.parent / family).glob("*.json"):
        shutil.copyfile(file, folder / file.name)
    component = exported.component.model_copy(update={"files": ("model.tflite",)})
    task = exported.task
    assert task is not None
    manifest = tiny.manifest(format="tflite", components={WHOLE: component})
    manifest = manifest.model_copy(
        update={
            "task": "text-classification" if family == "bert" else "image-classification",
            "labels": task.labels,
            "runtime": "litert",
            "preprocessing": task.preprocessing,
            "golden_tolerance": TOLERANCE,
        }
    )
    write_artifact(folder, manifest)
    made = open_artifact(folder)
    examples = tiny.examples_for(task, 4)
    write_golden(made, task, [examples.batch([index]) for index in range(4)])
    write_artifact(folder, manifest)
    return open_artifact(folder)


def tokenizer_of(family: str) -> Any:
    """The tokenizer of a family, as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    made, pad = TOKENIZERS[family]
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=MADE[made](), pad_token=pad, model_max_length=32, model_input_names=names
    )


def damage(content: Path, name: str) -> None:
    """Change one byte of a file of a bundle; take a line away from its labels."""
    (shorten if name == "labels.txt" else flip)(content / name)


def bundle_of(artifact: Artifact, platform: str, out: Path, form: str | None = None) -> Path:
    """A bundle, in a folder."""
    make_bundle(artifact.path, platform, out, form)
    return out


def sums(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, but of what Python compiled."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "__pycache__")
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


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
