"""Android: a Gradle library module in Kotlin with ONNX Runtime or LiteRT, and the same model as an AI pack."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, Runtime, copy_sources, fill
from edgekit.bundle.schema import Bundle

SOURCES = (
    "AndroidBundle.kt",
    "Images.kt",
    "Model.kt",
    "Normalizer.kt",
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


ONNX_RUNTIME = Runtime(
    file=f"{CODE}/OnnxRuntime.kt",
    package="onnxruntime-android",
    group="com.microsoft.onnxruntime",
    library="ONNX Runtime for Android,",
    notes="have pages of 16 KB",
)
LITERT = Runtime(
    file=f"{CODE}/LiteRt.kt",
    package="litert",
    group="com.google.ai.edge.litert",
    library="LiteRT, by its Interpreter on the processor,",
    notes="have pages of 16 KB (up to 2.1 there were none for processors of 32 bits: look whether you need one)",
)


def _write(folder: Path, bundle: Bundle) -> None:
    runtime = ANDROID.runtimes[bundle.model.forms[0].format]
    copy_sources("kotlin", folder / CODE, (*SOURCES, Path(runtime.file).name))
    version = ANDROID.versions(bundle)[runtime.package]
    more = {
        "library": runtime.library,
        "dependency": f"{runtime.group}:{runtime.package}:{version}",
        "runtime": f"{runtime.package} {version}",
        "notes": runtime.notes,
    }
    for template, name in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(fill("android", template, bundle, ANDROID, folder, more), encoding="utf-8")


ANDROID = Platform(
    name="android",
    description="Android, in Kotlin, as a Gradle module",
    content="model/src/main/assets/bundle",
    forms=("onnx", "ort", "tflite"),
    kinds=("text", "image"),
    needs=(*PROJECT.values(), *(f"{CODE}/{name}" for name in SOURCES)),
    write=_write,
    serves="arm",
    runtimes={"onnx": ONNX_RUNTIME, "ort": ONNX_RUNTIME, "tflite": LITERT},
)
