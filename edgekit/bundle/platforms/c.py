"""C: one header and one source, against the C interface of ONNX Runtime."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.schema import Bundle

# The source is written in parts, which become one file in this order.
PARTS = (
    "head.c",
    "support.c",
    "json.c",
    "normalizer.c",
    "pieces.c",
    "tokenizer.c",
    "image.c",
    "runtime.c",
    "model.c",
    "selftest.c",
)
SOURCE, HEADER, EXAMPLE = "edgekit_model.c", "edgekit_model.h", "example.c"


def source() -> str:
    """``edgekit_model.c``."""
    folder = resources.files("edgekit.bundle").joinpath("c")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in PARTS)


def _write(folder: Path, bundle: Bundle) -> None:
    (folder / SOURCE).write_text(source(), encoding="utf-8")
    copy_sources("c", folder, (HEADER, EXAMPLE))
    (folder / "README.md").write_text(fill("c", "README.md", bundle, C, folder), encoding="utf-8")


C = Platform(
    name="c",
    description="C11, one header and one source",
    content="bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=(SOURCE, HEADER, EXAMPLE),
    write=_write,
)
