"""A graph in a process of its own: what a stranger made, and a runtime that this environment does not have."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgekit.artifact import Artifact, Component
from edgekit.confinement import death, lacks_memory, limits_for, out_of_memory, out_of_time, start
from edgekit.environment import version_of
from edgekit.errors import EdgekitError, HostError, ModelError
from edgekit.formats.flatbuffer import RUNTIME as LITERT_PACKAGE
from edgekit.formats.flatbuffer import load_model, require
from edgekit.runtimes import graph_child
from edgekit.runtimes.litert import NAME as LITERT
from edgekit.runtimes.litert import too_large
from edgekit.runtimes.ort import NAME as ONNXRUNTIME
from edgekit.tasks.base import Array

SCRIPT = Path(graph_child.__file__)


@dataclass(frozen=True)
class Host:
    """Which runtime a child runs a graph in.

    Attributes:
        runtime: its name, as ``graph_child.py`` takes it.
        label: name and version, for errors.
        options: of the interpreter.
        env: variables of its own, beside those that every confined process has.
    """

    runtime: str
    label: str
    options: Sequence[str] = ("-P",)
    env: Mapping[str, str] | None = None


class Child:
    """A graph in a process that ends with this object.

    Args:
        file: the graph.
        component: what the manifest says of it.
        host: what runs it.
        threads: threads within one operator.

    Raises:
        ModelError: the runtime refuses the file, or crashes on it.
        ResourceLimitError: it takes more time or memory than it may.
        HostError: the process failed.
    """

    def __init__(self, file: Path, component: Component, host: Host, threads: int = 1) -> None:
        parts = (file, *(file.parent / name for name in component.files[1:]))
        self.limits = limits_for(sum(part.stat().st_size for part in parts))
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        process: subprocess.Popen[bytes] = start(
            [sys.executable, *host.options, str(SCRIPT)],
            self.limits,
            also=host.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        self._file, self._host, self._process, self._errors = file, host, process, errors
        self._turn = threading.Lock()
        self.close = weakref.finalize(self, _end, process, errors)
        described = component.model_dump(mode="json")
        spec = {"graph": str(file.resolve()), "component": described, "threads": threads, "runtime": host.runtime}
        self._ask(json.dumps(spec).encode())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays; see ``tflite_graph.Graph.run`` for what fits into a TFLite graph.

        Raises:
            UsageError: a sample is larger than every signature.
            ModelError: the inputs are not the component's, or the runtime fails or crashes on them.
            ResourceLimitError: it takes more time or memory than it may.
            HostError: the process failed.
        """
        return graph_child.unpack_arrays(self._ask(graph_child.pack_arrays(feeds)))

    def _ask(self, content: bytes) -> bytes:
        with self._turn:  # threads that share it wait for each other
            given = self._exchange(content)
        kind, answer = given[:1], given[1:]
        if kind == graph_child.DONE:
            return answer
        reason = answer.decode(errors="replace").strip()
        if kind == graph_child.TOO_LARGE:
            raise too_large(ValueError(reason))
        first = (reason.splitlines() or [""])[0]
        if lacks_memory(reason):
            raise out_of_memory(repr(self._file.name), self.limits, first)
        raise ModelError(f"{self._host.label} does not run {self._file.name!r}", id="model.does-not-load", why=first)

    def _exchange(self, content: bytes) -> bytes:
        """Send a frame and wait for the answer."""
        process, hung = self._process, threading.Event()
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None

        def stop() -> None:  # without ``self``: a timer's thread that has yet to end must not keep this object alive
            hung.set()
            process.kill()

        timer = threading.Timer(self.limits.seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            graph_child.write_frame(process.stdin, content)
            answer = graph_child.read_frame(process.stdout)
        except OSError:  # it is gone
            answer = None
        finally:
            timer.cancel()
        if answer:
            return answer
        if hung.is_set():
            raise out_of_time(repr(self._file.name), self.limits)
        raise self._dead()

    def _dead(self) -> EdgekitError:
        """Why there was no answer."""
        code = self._process.wait()
        self._errors.seek(0)
        told = self._errors.read().decode(errors="replace").strip()
        last = (told.splitlines() or [f"it ended with code {code}"])[-1]
        return death(repr(self._file.name), code, told, self.limits) or HostError(
            f"{self._host.runtime} failed", id="environment.measuring", why=last
        )


class ConfinedRunner:
    """The components of an artifact, each in a process of its own with limits: for graphs that a stranger made.

    Args:
        artifact: of format ``onnx`` or ``tflite``.
        threads: threads within one operator.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        self._children = {
            name: open_child(artifact.file(name), part, threads) for name, part in artifact.manifest.components.items()
        }

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays; see ``Child.run``."""
        return self._children[component].run(feeds)

    def close(self) -> None:
        """End the processes, where their memory is wanted before nobody needs them any more."""
        for child in self._children.values():
            child.close()


def open_child(file: Path, component: Component, threads: int = 1) -> Child:
    """A graph of either format in a process of its own, in this environment's runtime.

    Raises:
        HostError: LiteRT is not installed.
        EdgekitError: as ``Child``.
    """
    if file.suffix.lower() != ".tflite":
        return Child(file, component, Host(ONNXRUNTIME, f"{ONNXRUNTIME} {version_of(ONNXRUNTIME)}"), threads)
    require((LITERT_PACKAGE,))
    load_model(file)  # LiteRT reads a file that was cut short beyond its end
    return Child(file, component, Host(LITERT, f"LiteRT {version_of(LITERT_PACKAGE)}"), threads)


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Stop a child and close what it was spoken to through."""
    process.kill()
    process.communicate()
    errors.close()
