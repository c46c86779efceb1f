"""React Native: TypeScript that it shares with Node and the web, with onnxruntime-react-native."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.platforms.node import SHARED as NODES
from edgekit.bundle.schema import Bundle

SHARED = (*NODES, "sha256.ts")
OWN = "native.ts"


def _write(folder: Path, bundle: Bundle) -> None:
    shared = resources.files("edgekit.bundle").joinpath("typescript")
    (folder / "src").mkdir()
    for name in SHARED:
        text = shared.joinpath(name).read_text(encoding="utf-8")
        # Metro takes an import by its name without an ending, and does not look for model.ts where model.js is named.
        (folder / "src" / name).write_text(re.sub(r'from "(\./\w+)\.js"', r'from "\1"', text), encoding="utf-8")
    copy_sources("react-native", folder / "src", (OWN,))
    copy_sources("react-native", folder, ("tsconfig.json",))
    for name in ("package.json", "README.md"):
        (folder / name).write_text(fill("react-native", name, bundle, REACT_NATIVE, folder), encoding="utf-8")


REACT_NATIVE = Platform(
    name="react-native",
    description="React Native, in TypeScript",
    content="bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=("package.json", "tsconfig.json", *(f"src/{name}" for name in (*SHARED, OWN))),
    write=_write,
    serves="arm",
)
