"""Web: a page and its TypeScript with onnxruntime-web, all from one origin."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.platforms.node import SHARED
from edgekit.bundle.schema import Bundle

OWN = ("sha256.ts",)
SOURCES = ("web.ts", "page.ts")
SITE = ("index.html", "page.css", "icon.svg", "service-worker.js")
PROJECT = ("tsconfig.json", "copy-runtime.mjs", "serve.mjs")


def _write(folder: Path, bundle: Bundle) -> None:
    copy_sources("typescript", folder / "src", (*SHARED, *OWN))
    copy_sources("web", folder / "src", SOURCES)
    copy_sources("web", folder / "public", SITE)
    copy_sources("web", folder, PROJECT)
    for name in ("package.json", "README.md"):
        (folder / name).write_text(fill("web", name, bundle, WEB, folder), encoding="utf-8")


WEB = Platform(
    name="web",
    description="a page in a browser, in TypeScript, with a demonstration",
    content="public/bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=(
        "package.json",
        *PROJECT,
        *(f"src/{name}" for name in (*SHARED, *OWN, *SOURCES)),
        *(f"public/{name}" for name in SITE),
    ),
    write=_write,
    serves="any",
)
