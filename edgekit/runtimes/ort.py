"""onnxruntime as a Runner, for outputs: what is measured runs in ``devices/runner.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import Artifact
from edgekit.confinement import lacks_memory
from edgekit.disk import telling_full
from edgekit.environment import version_of
from edgekit.errors import EdgekitError, ModelError, ResourceLimitError
from edgekit.tasks.base import Array, Runner

if TYPE_CHECKING:
    import onnxruntime

NAME = "onnxruntime"
PROVIDER = "CPUExecutionProvider"


def load() -> None:
    """Import onnxruntime, which who has to wait for something else can do meanwhile."""
    import onnxruntime  # noqa: F401


def open_session(
    file: Path, threads: int, *, optimized: bool = True, written: Path | None = None, laid_out: bool = False
) -> onnxruntime.InferenceSession:
    """A session on the CPU.

    Args:
        file: the graph.
        threads: threads within one operator.
        optimized: False runs the graph as it stands, for calibration.
        written: where the graph goes after the optimizations that no layout of this processor's is part of.
        laid_out: it goes there after all of them.

    Raises:
        ModelError: onnxruntime refuses the graph; the reason is its own.
        ResourceLimitError: there is no memory for it.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if written is not None:
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if laid_out else levels.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(written)
    refusals = (
        state.Fail,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.InvalidArgument,
        state.NotImplemented,
        state.NoSuchFile,
        state.RuntimeException,
    )
    try:
        return ort.InferenceSession(str(file), options, providers=[PROVIDER])
    except refusals as error:
        raise _refused(error, f"does not load {file.name!r}") from error


def _refused(error: Exception, what: str) -> EdgekitError:
    why = str(error).splitlines()[0]
    if lacks_memory(why):
        return ResourceLimitError("onnxruntime got no memory for the model", id="resource-limit.memory", why=why)
    return ModelError(f"onnxruntime {version_of(NAME)} {what}", id="model.does-not-load", why=why)


def fuse(file: Path, destination: Path, *, laid_out: bool = False) -> None:
    """Write a graph as onnxruntime runs it on any processor of an architecture: fused, not laid out anew for this one.

    Args:
        file: the graph.
        destination: the file that is written.
        laid_out: write it as it is run here, laid out for this processor, too.

    Raises:
        ModelError: onnxruntime refuses the graph; the reason is its own.
        OSError: the disk is full.
    """
    with telling_full(destination.parent, file.stat().st_size):
        open_session(file, 1, written=destination, laid_out=laid_out)


class OnnxRunner:
    """The components of an ONNX artifact, each in a session of its own.

    Args:
        artifact: an artifact of format ``onnx``.
        threads: threads within one operator.
        optimized: False runs the graphs as they stand.
    """

    def __init__(self, artifact: Artifact, threads: int = 1, *, optimized: bool = True) -> None:
        self._sessions = {
            name: open_session(artifact.file(name), threads, optimized=optimized)
            for name in artifact.manifest.components
        }
        self._outputs = {
            name: [output.name for output in session.get_outputs()] for name, session in self._sessions.items()
        }

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays."""
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        refusals = (state.Fail, state.InvalidArgument, state.RuntimeException, state.NotImplemented, state.EPFail)
        try:
            values = self._sessions[component].run(None, dict(feeds))
        except refusals as error:
            raise _refused(error, "does not run the model") from error
        return dict(zip(self._outputs[component], values, strict=True))


class RecordingRunner:
    """A Runner that keeps what each component is fed and gives, states included.

    Args:
        runner: does the work.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.fed: dict[str, list[dict[str, Array]]] = {}
        self.gave: dict[str, list[dict[str, Array]]] = {}

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component and remember what went in and came out."""
        outputs = self._runner.run(component, feeds)
        self.fed.setdefault(component, []).append(dict(feeds))
        self.gave.setdefault(component, []).append(outputs)
        return outputs
