"""tflite-runtime as a Runner: the last runtime of that name, which 32-bit ARM boards still use.

It was built for numpy 1 and imports with numpy 2, only to fail on use. So it lives apart: its two packages lie in a
folder of edgekit's cache, an object like a finished stage, which is hashed when it is used and goes with ``cache
prune``. The interpreter that runs edgekit runs a child on that folder and on nothing else. Python 3.11 is the last that
it was built for.

It multiplies INT8 weights with float activations wrongly, and says nothing; the same for INT8 tables of embeddings.
Files that ask for it are refused here. What is integer on both sides it computes rightly: convolutions and products of
matrices in static INT8 differ from LiteRT's less than INT8 does from float32.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgekit.artifact import Artifact, Component
from edgekit.cache import Cache, Filled, cache_key
from edgekit.errors import HostError, ModelError
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.tflite import hybrid_layers
from edgekit.runtimes.child import Child, Host
from edgekit.tasks.base import Array

NAME = "tflite-runtime"
VERSION = "2.14.0"
NEWEST_PYTHON = (3, 11)
PACKAGES = (f"{NAME}=={VERSION}", "numpy==1.26.4")
# What it computes rightly; of INT8, weights that are unpacked before they are multiplied, and integers on both sides.
METHODS = ("fp16", "weight-only", "static")
INSTALL_SECONDS = 600


def environment(cache: Cache | None = None) -> Path:
    """The folder with tflite-runtime and its numpy, made on first use.

    Raises:
        HostError: this Python is newer than the runtime, or pip cannot fetch it; the reason is pip's.
    """
    version = sys.version_info[:2]
    if version > NEWEST_PYTHON:
        raise HostError(
            f"{NAME} {VERSION} cannot run here",
            id="environment.no-runtime",
            why=f"it was built for Python up to {_dotted(NEWEST_PYTHON)}, this is {_dotted(version)}",
            hint="Run edgekit with Python 3.11, or choose a target whose runtime is litert.",
        )
    cache = cache or Cache()
    key = cache_key("tflite-runtime", list(PACKAGES), _dotted(version), platform.system(), platform.machine())

    def make(scratch: Callable[[], Path]) -> Filled:
        folder = scratch()
        _install(folder)
        return Filled(folder)

    return cache.get_or_make(key, make)


def open_child(file: Path, component: Component, threads: int = 1, cache: Cache | None = None) -> Child:
    """A file in tflite-runtime, in a process of its own.

    Args:
        file: the graph.
        component: what is said of it: ``describe_component``.
        threads: threads within one operator.
        cache: where the runtime lies.

    Raises:
        ModelError: the runtime refuses the file, or would compute it wrongly.
        HostError: there is no runtime here, or the process failed.
    """
    check_file(file)
    # no site-packages but the folder's, and nothing written into the folder
    packages = {"PYTHONPATH": str(environment(cache))}
    return Child(file, component, Host(NAME, f"{NAME} {VERSION}", ("-S", "-B", "-P"), packages), threads)


class TFLiteRuntimeRunner:
    """The components of a TFLite artifact in tflite-runtime, each in a process of its own.

    Args:
        artifact: an artifact of format ``tflite``.
        threads: threads within one operator.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        self._children = {
            name: open_child(artifact.file(name), part, threads) for name, part in artifact.manifest.components.items()
        }

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays; see ``Child.run``."""
        return self._children[component].run(feeds)


def check_file(file: Path) -> None:
    """Refuse a file that the runtime would compute wrongly.

    Raises:
        ModelError: it multiplies INT8 weights with float activations, or it is no TFLite file.
    """
    found = hybrid_layers(load_model(file))
    if found:
        raise ModelError(
            f"{NAME} {VERSION} would compute {file.name!r} wrongly, and say nothing",
            id="model.does-not-load",
            why=f"{len(found)} layers multiply INT8 weights with float activations, {found[0]!r} among them",
            hint=f"Use --set quantize.method={METHODS[1]} or {METHODS[0]}.",
        )


def _install(folder: Path) -> None:
    """Put the packages into a folder, with this environment's pip or that of one made for the purpose."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        python = sys.executable
        if importlib.util.find_spec("pip") is None:
            _execute([sys.executable, "-m", "venv", name], "make an environment with pip")
            python = str(Path(name) / "bin" / "python")
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:"]
        command = [python, "-m", "pip", "install", *options, "--target", str(folder), *PACKAGES]
        _execute(command, f"install {' and '.join(PACKAGES)}")


def _execute(command: Sequence[str], purpose: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"edgekit could not {purpose}", id="environment.no-runtime", why=f"no end in {INSTALL_SECONDS} s"
        ) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")]
        raise HostError(
            f"edgekit could not {purpose}",
            id="environment.no-runtime",
            why=(lines or done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1],
            hint=f"{NAME} is fetched once and kept in edgekit's cache: run this once where pip reaches an index.",
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
