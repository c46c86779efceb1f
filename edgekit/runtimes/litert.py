"""LiteRT as a Runner, for outputs: TFLite files of edgekit's own and of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit.artifact import Artifact, Component
from edgekit.environment import version_of
from edgekit.errors import ModelError, UsageError
from edgekit.formats.flatbuffer import RUNTIME, load_model, require
from edgekit.runtimes.tflite_graph import DoesNotFit, Graph
from edgekit.tasks.base import Array

NAME = "litert"
PACKAGE = RUNTIME


def open_graph(file: Path, component: Component, threads: int) -> Graph:
    """A file in LiteRT.

    Args:
        file: the graph.
        component: what is said of it: ``describe_component``.
        threads: threads within one operator.

    Raises:
        ModelError: the file is damaged, or LiteRT refuses it; the reason is its own.
        HostError: LiteRT is not installed.
    """
    require((RUNTIME,))
    load_model(file)  # LiteRT reads a file that was cut short beyond its end
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(file), num_threads=threads)
        interpreter.allocate_tensors()  # where an operator that LiteRT lacks shows
        return Graph(interpreter, component.model_dump())
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"LiteRT {version_of(RUNTIME)} does not load {file.name!r}",
            id="model.does-not-load",
            why=(str(error).strip() or type(error).__name__).splitlines()[0],
        ) from error


class LiteRTRunner:
    """The components of a TFLite artifact, each in an interpreter of its own.

    Args:
        artifact: an artifact of format ``tflite``.
        threads: threads within one operator.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        self._graphs = {
            name: open_graph(artifact.file(name), part, threads) for name, part in artifact.manifest.components.items()
        }

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays; see ``Graph.run``.

        Raises:
            UsageError: a sample is larger than every signature.
            ModelError: the inputs are not the component's, or LiteRT fails on them.
        """
        try:
            return self._graphs[component].run(dict(feeds))
        except DoesNotFit as error:
            raise too_large(error) from error
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"LiteRT {version_of(RUNTIME)} does not run the component {component!r}",
                id="model.does-not-load",
                why=(str(error).strip() or type(error).__name__).splitlines()[0],
            ) from error


def too_large(error: Exception) -> UsageError:
    """The error of a sample that is larger than every signature."""
    return UsageError(
        "a sample is larger than every signature of the TFLite file",
        id="usage.workload",
        why=str(error),
        hint="Export with a length that holds it, or cut texts with --max-length.",
    )
