"""What comes along with a model: its card, its licence, who made what, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from edgekit.artifact import CARD, Artifact, read_kept
from edgekit.bounds import MAX_CARD_BYTES
from edgekit.errors import ArtifactError
from edgekit.report import FILE, Report, load_report

CARD_FILE, LICENCE_FILE, NOTICE_FILE, BENCHMARK_FILE = "MODEL_CARD.md", "LICENSE", "NOTICE", "benchmark.json"
BENCHMARK = "edgekit.bundle.benchmark/1"
_MICROSOFT = "MIT, Copyright (c) Microsoft Corporation"
_LITERT = "Apache-2.0, Copyright The LiteRT Authors"
# Whose code a platform's own runs with, and under which licence (SPDX), for each name of ``coordinates.toml``.
LICENCES = {
    "numpy": "BSD-3-Clause, Copyright NumPy Developers",
    "onnxruntime": _MICROSOFT,
    "ai-edge-litert": _LITERT,
    "pillow": "MIT-CMU, Copyright Jeffrey A. Clark and contributors",
    "onnxruntime-node": _MICROSOFT,
    "onnxruntime-web": _MICROSOFT,
    "onnxruntime-react-native": _MICROSOFT,
    "onnxruntime-android": _MICROSOFT,
    "litert": _LITERT,
    "onnxruntime-swift-package-manager": _MICROSOFT,
    "@dr.pogodin/react-native-fs": "MIT, Copyright Sergey Pogodin, Copyright Johannes Lumpe",
    "base64-js": "MIT, Copyright (c) 2014 Jameson Little",
    "text-encoding-polyfill": "Unlicense, by Joshua Bell and contributors",
    "kotlin": "Apache-2.0, Copyright JetBrains s.r.o. and Kotlin contributors",
    "flutter_onnxruntime": "as the file LICENSE of its package says, by MASIC AI",
    "crypto": "BSD-3-Clause, Copyright the Dart project authors",
}
# What compiles the code, or is a least version: nothing of it becomes part of an app through the bundle.
TOOLS = (
    *("typescript", "@types/node", "@types/base64-js", "android-gradle-plugin", "compile-sdk", "min-sdk"),
    *("swift-tools", "ios", "macos", "dart", "flutter"),
)


def write_documents(artifact: Artifact, packages: Collection[str], folder: Path) -> None:
    """Write the card, the licence, the notice and the benchmark.

    Args:
        artifact: what is bundled.
        packages: names of ``coordinates.toml`` that the bundle's code depends on.
        folder: of the bundle.

    Raises:
        ArtifactError: the artifact's card or report is none.
    """
    report = load_report(artifact.path) if (artifact.path / FILE).is_file() else None
    (folder / CARD_FILE).write_text(_card(artifact), encoding="utf-8")
    (folder / LICENCE_FILE).write_text(_licence(artifact), encoding="utf-8")
    (folder / NOTICE_FILE).write_text(_notice(artifact, packages), encoding="utf-8")
    benchmark = {"schema": BENCHMARK, **_benchmark(report)}
    (folder / BENCHMARK_FILE).write_text(json.dumps(benchmark, indent=2) + "\n", encoding="utf-8")


def _card(artifact: Artifact) -> str:
    """The artifact's own card, whose metadata the Hugging Face hub reads; what is known, where it has none.

    Raises:
        ArtifactError: it is larger than a card, or no UTF-8 text.
    """
    card = artifact.path / CARD
    if card.is_file():
        try:
            return read_kept(card, MAX_CARD_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactError(
                f"{str(card)!r} is no UTF-8 text", id="artifact.invalid-file", why=str(error)
            ) from error
    manifest = artifact.manifest
    name = str(manifest.source.get("name") or "model")
    return (
        f"---\nlibrary_name: {manifest.format}\ntags:\n- edgekit\n---\n\n# {name}\n\nMade by edgekit for the task"
        f" {manifest.task}. The artifact has no report, so nothing is known of what was lost or gained.\n"
    )


def _licence(artifact: Artifact) -> str:
    licence = artifact.manifest.source.get("licence")
    said = (
        f"is under the licence: {licence}"
        if licence
        else ("is under the licence of its source, which does not say it in its folder. Ask whoever made the source")
    )
    name = artifact.manifest.source.get("name") or "model"
    return (
        f"The model ({name}) {said}.\n\nThe code in this bundle was written by edgekit and is under the Apache License,"
        " Version 2.0:\nhttps://www.apache.org/licenses/LICENSE-2.0\n"
    )


def _notice(artifact: Artifact, packages: Collection[str]) -> str:
    source = artifact.manifest.source
    commit = f" at {source['commit']}" if source.get("commit") else ""
    lines = [f"Model: made from {source.get('name') or 'a model'}{commit} by edgekit.", "", "This bundle's code uses:"]
    lines += [f"- {package}: {LICENCES[package]}" for package in sorted(set(packages) - set(TOOLS))]
    return "\n".join(lines) + "\n"


def _benchmark(report: Report | None) -> dict[str, Any]:
    """What the artifact's report has measured, without raw samples."""
    if report is None:
        return {"measurements": [], "because": "the artifact has no report"}
    figures = [one.model_dump(mode="json", exclude={"samples"}) for one in report.after if one.value is not None]
    quality = None
    if report.quality is not None:
        named = ("metric", "before", "after", "n", "split")
        quality = {name: getattr(report.quality, name) for name in named}
    return {
        "measurements": figures,
        "quality": quality,
        "runtime": report.runtime,
        "threads": report.threads,
        "workload": report.workload,
        "because": report.not_measured_because or "",
    }
