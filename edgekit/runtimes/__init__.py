"""The table of runtimes that an artifact can run in."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.artifact import Artifact, Format
from edgekit.environment import version_of
from edgekit.runtimes import litert, ort, tflite_runtime
from edgekit.runtimes.litert import LiteRTRunner
from edgekit.runtimes.ort import OnnxRunner
from edgekit.tasks.base import Runner

LITERT = litert.NAME
# What each runtime takes.
FORMATS_OF: dict[str, tuple[Format, ...]] = {
    ort.NAME: ("onnx",),
    litert.NAME: ("tflite",),
    tflite_runtime.NAME: ("tflite",),
}
# What runs a format on this machine.
RUNNERS: dict[Format, Callable[[Artifact, int], Runner]] = {"onnx": OnnxRunner, "tflite": LiteRTRunner}


def open_runner(artifact: Artifact, threads: int = 1) -> Runner:
    """The runtime that takes an artifact's format here, with the artifact loaded."""
    return RUNNERS[artifact.format](artifact, threads)


def runtime_here(format_: Format) -> str:
    """Name and version of what runs a format on this machine."""
    name, package = {"onnx": (ort.NAME, ort.NAME), "tflite": ("LiteRT", litert.PACKAGE)}[format_]
    return f"{name} {version_of(package)}"
