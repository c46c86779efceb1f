"""Flutter: a package in Dart with flutter_onnxruntime, and the bundle among its assets."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.schema import BUNDLE, Bundle

LIBRARY = "edgekit_model.dart"
SOURCES = (
    "bundle.dart",
    "images.dart",
    "model.dart",
    "normalizer.dart",
    "pieces.dart",
    "self_test.dart",
    "tokenizer.dart",
)


def _write(folder: Path, bundle: Bundle) -> None:
    copy_sources("flutter", folder / "lib", (LIBRARY,))
    copy_sources("flutter", folder / "lib" / "src", SOURCES)
    (folder / "README.md").write_text(fill("flutter", "README.md", bundle, FLUTTER, folder), encoding="utf-8")
    # Flutter takes up the files of each folder that is named, and not those of the folders in it.
    folders = sorted({Path(name).parent.as_posix() for name in (BUNDLE, *bundle.files)})
    assets = "".join(f"    - {FLUTTER.content}/{name}/\n".replace("/./", "/") for name in folders)
    project = fill("flutter", "pubspec.yaml", bundle, FLUTTER, folder)
    (folder / "pubspec.yaml").write_text(project + assets, encoding="utf-8")


FLUTTER = Platform(
    name="flutter",
    description="Flutter, a package in Dart",
    content="assets/bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=("pubspec.yaml", f"lib/{LIBRARY}", *(f"lib/src/{name}" for name in SOURCES)),
    write=_write,
    serves="arm",
)
