"""The table of runtimes that an artifact can run in."""

from __future__ import annotations

from edgekit.artifact import Artifact
from edgekit.runtimes import ort
from edgekit.runtimes.ort import OnnxRunner

RUNTIMES: dict[str, type[OnnxRunner]] = {ort.NAME: OnnxRunner}


def open_runner(artifact: Artifact, threads: int = 1) -> OnnxRunner:
    """The runtime that takes an artifact's format, with the artifact loaded."""
    return RUNTIMES[ort.NAME](artifact, threads)
