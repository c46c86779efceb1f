"""Node: TypeScript that web and React Native share, with onnxruntime-node."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.schema import Bundle

SHARED = ("normalizer.ts", "tokenizer.ts", "image.ts", "model.ts", "selftest.ts")
OWN = ("node.ts", "cli.ts")


def _write(folder: Path, bundle: Bundle) -> None:
    copy_sources("typescript", folder / "src", SHARED)
    copy_sources("node", folder / "src", OWN)
    copy_sources("node", folder, ("tsconfig.json",))
    for name in ("package.json", "README.md"):
        (folder / name).write_text(fill("node", name, bundle, NODE, folder), encoding="utf-8")


NODE = Platform(
    name="node",
    description="Node, in TypeScript",
    content="bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=("package.json", "tsconfig.json", *(f"src/{name}" for name in (*SHARED, *OWN))),
    write=_write,
)
