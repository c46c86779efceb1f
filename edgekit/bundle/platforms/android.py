"""Android: a Gradle library module in Kotlin with ONNX Runtime, and the same model as an AI pack."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.schema import Bundle

SOURCES = (
    "AndroidBundle.kt",
    "Images.kt",
    "Model.kt",
    "Normalizer.kt",
    "OnnxRuntime.kt",
    "Pieces.kt",
    "SelfTest.kt",
    "Tokenizer.kt",
)
CODE, MANIFEST = "model/src/main/kotlin/edgekit/model", "model/src/main/AndroidManifest.xml"
# Where each template goes.
PROJECT = {
    "settings.gradle.kts": "settings.gradle.kts",
    "build.gradle.kts": "build.gradle.kts",
    "model.gradle.kts": "model/build.gradle.kts",
    "model-pack.gradle.kts": "model-pack/build.gradle.kts",
    "AndroidManifest.xml": MANIFEST,
    "README.md": "README.md",
}


def _write(folder: Path, bundle: Bundle) -> None:
    copy_sources("kotlin", folder / CODE, SOURCES)
    for template, name in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(fill("android", template, bundle, ANDROID, folder), encoding="utf-8")


ANDROID = Platform(
    name="android",
    description="Android, in Kotlin, as a Gradle module",
    content="model/src/main/assets/bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=(*PROJECT.values(), *(f"{CODE}/{name}" for name in SOURCES)),
    write=_write,
    serves="arm",
)
