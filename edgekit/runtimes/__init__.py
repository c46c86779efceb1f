"""The table of runtimes that an artifact can run in."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.artifact import Artifact, Format
from edgekit.environment import version_of
from edgekit.runtimes import litert, ort, tflite_runtime
from edgekit.runtimes.child import ConfinedRunner
from edgekit.runtimes.litert import LiteRTRunner
from edgekit.runtimes.ort import OnnxRunner
from edgekit.runtimes.tflite_runtime import TFLiteRuntimeRunner
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


def open_runner(artifact: Artifact, threads: int = 1, runtime: str | None = None) -> Runner:
    """An artifact in a runtime here.

    Args:
        artifact: an exported one.
        threads: within one operator.
        runtime: its name; None, or one that does not take the format, is the one that does.

    Raises:
        ModelError: the runtime does not load it.
        HostError: there is no such runtime here.
    """
    if artifact.format == "tflite" and runtime == tflite_runtime.NAME:
        return TFLiteRuntimeRunner(artifact, threads)
    return RUNNERS[artifact.format](artifact, threads)


def open_confined(artifact: Artifact, threads: int = 1, runtime: str | None = None) -> Runner:
    """The same for an artifact that somebody else may have made: its graphs run in processes with limits.

    Args:
        artifact: as for ``open_runner``, as are the others.
        threads: within one operator.
        runtime: its name.

    Raises:
        ModelError: the runtime does not load it, or crashes on it.
        ResourceLimitError: it takes more time or memory than it may.
        HostError: there is no such runtime here.
    """
    if artifact.format == "tflite" and runtime == tflite_runtime.NAME:
        return TFLiteRuntimeRunner(artifact, threads)
    return ConfinedRunner(artifact, threads)


def runtime_here(format_: Format, runtime: str | None = None) -> str:
    """Name and version of what ``open_runner`` runs a format in on this machine."""
    if format_ == "tflite" and runtime == tflite_runtime.NAME:
        return f"{tflite_runtime.NAME} {tflite_runtime.VERSION}"
    name, package = {"onnx": (ort.NAME, ort.NAME), "tflite": ("LiteRT", litert.PACKAGE)}[format_]
    return f"{name} {version_of(package)}"
