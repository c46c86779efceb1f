"""iOS: a Swift package around the C of the platform ``c``, with the bundle as its resource."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.platforms.base import Platform, copy_sources, fill
from edgekit.bundle.platforms.c import HEADER, SOURCE, source
from edgekit.bundle.schema import Bundle

CORE, SWIFT, TESTS = "Sources/CEdgekitModel", "Sources/EdgekitModel", "Tests/EdgekitModelTests"


def _write(folder: Path, bundle: Bundle) -> None:
    copy_sources("c", folder / CORE / "include", (HEADER,))
    (folder / CORE / SOURCE).write_text(source(), encoding="utf-8")
    copy_sources("swift", folder / SWIFT, ("EdgekitModel.swift",))
    copy_sources("swift", folder / TESTS, ("SelfTestTests.swift",))
    for name in ("Package.swift", "README.md"):
        (folder / name).write_text(fill("swift", name, bundle, IOS, folder), encoding="utf-8")


IOS = Platform(
    name="ios",
    description="iOS and macOS, a Swift package",
    content=f"{SWIFT}/bundle",
    forms=("onnx", "ort"),
    kinds=("text", "image"),
    needs=(
        "Package.swift",
        f"{CORE}/{SOURCE}",
        f"{CORE}/include/{HEADER}",
        f"{SWIFT}/EdgekitModel.swift",
        f"{TESTS}/SelfTestTests.swift",
    ),
    write=_write,
    serves="arm",
)
