"""Python without edgekit: numpy and onnxruntime (or LiteRT), Pillow for images."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, coordinates, copy_sources, fill
from edgekit.bundle.schema import Bundle

SOURCES = ("__init__.py", "__main__.py", "image.py", "model.py", "normalizer.py", "testing.py", "tokenizer.py")
PACKAGE = "edgekit_model"


def _write(folder: Path, bundle: Bundle) -> None:
    copy_sources("reference", folder / PACKAGE, SOURCES)
    versions = coordinates()["python"]
    runtime = "ai-edge-litert" if bundle.model.forms[0].format == "tflite" else "onnxruntime"
    needed = ["numpy", runtime, *(["pillow"] if bundle.preprocessing.kind == "image" else [])]
    lines = [f"{name}{versions[name]}\n" for name in needed]
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "README.md").write_text(fill("python", "README.md", bundle, PYTHON, folder), encoding="utf-8")


PYTHON = Platform(
    name="python",
    description="Python without edgekit, on any computer",
    content="bundle",
    forms=("onnx", "ort", "tflite"),
    kinds=("text", "image"),
    needs=("requirements.txt", *(f"{PACKAGE}/{name}" for name in SOURCES)),
    write=_write,
    ids=("int64", "int32"),
)
