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
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.artifact import Artifact, Component
from edgekit.cache import Cache, cache_key
from edgekit.errors import HostError, ModelError
from edgekit.formats.flatbuffer import load_model
from edgekit.formats.tflite import hybrid_layers
from edgekit.runtimes import tflite_graph
from edgekit.runtimes.litert import too_large
from edgekit.tasks.base import Array

NAME = "tflite-runtime"
VERSION = "2.14.0"
NEWEST_PYTHON = (3, 11)
PACKAGES = (f"{NAME}=={VERSION}", "numpy==1.26.4")
# What it computes rightly; of INT8, weights that are unpacked before they are multiplied, and integers on both sides.
METHODS = ("fp16", "weight-only", "static")
INSTALL_SECONDS = 600
RUN_SECONDS = 600
SCRIPT = Path(tflite_graph.__file__)


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
    found = cache.get(key)
    if found is None:
        folder = cache.scratch()
        _install(folder)
        found = cache.put(key, folder)
    return found


def run_graph(
    file: Path, component: Component, calls: Sequence[Mapping[str, Array]], threads: int = 1, cache: Cache | None = None
) -> list[dict[str, Array]]:
    """Run a file on several feeds in one child process; see ``tflite_graph.Graph.run`` for what fits.

    Args:
        file: the graph.
        component: what is said of it: ``describe_component``.
        calls: named arrays, for each call.
        threads: threads within one operator.
        cache: where the runtime lies.

    Raises:
        ModelError: the runtime refuses the file, or would compute it wrongly.
        UsageError: a sample is larger than every signature.
        HostError: there is no runtime here, or the child failed.
    """
    import numpy as np

    check_file(file)
    packages = environment(cache)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        feeds = {f"{number}/{key}": value for number, call in enumerate(calls) for key, value in call.items()}
        np.savez(folder / "feeds.npz", **feeds)  # type: ignore[arg-type]  # names are inputs, not flags
        spec = {
            "graph": str(file),
            "component": component.model_dump(),
            "threads": threads,
            "runtime": "tflite-runtime",
            "feeds": str(folder / "feeds.npz"),
            "outputs": str(folder / "outputs.npz"),
        }
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        _answer(_run_child(packages, folder / "spec.json"), file)
        with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
            outputs: list[dict[str, Array]] = [{} for _ in calls]
            for key in stored.files:
                number, _, output = key.partition("/")
                outputs[int(number)][output] = stored[key]
    return outputs


class TFLiteRuntimeRunner:
    """The components of a TFLite artifact in tflite-runtime; each call is a process of its own, so large batches pay.

    Args:
        artifact: an artifact of format ``tflite``.
        threads: threads within one operator.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        self._artifact = artifact
        self._threads = threads
        for name in artifact.manifest.components:
            check_file(artifact.file(name))

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on named arrays."""
        part = self._artifact.manifest.components[component]
        return run_graph(self._artifact.file(component), part, [feeds], self._threads)[0]


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
        )


def _run_child(packages: Path, spec: Path) -> subprocess.CompletedProcess[str]:
    """The child: no site-packages but the folder's, and nothing written into the folder."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    surroundings["PYTHONPATH"] = str(packages)
    command = [sys.executable, "-S", "-B", "-P", str(SCRIPT), str(spec)]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env=surroundings
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"{NAME} hung and was stopped", id="environment.measuring", why=f"no answer in {RUN_SECONDS} s"
        ) from error


def _answer(done: subprocess.CompletedProcess[str], file: Path) -> dict[str, str]:
    if done.returncode == 0:
        answer: dict[str, str] = json.loads(done.stdout)
        return answer
    if done.returncode in (tflite_graph.REFUSED, tflite_graph.TOO_LARGE):
        refused = str(json.loads(done.stdout)["refused"]).strip()
        if done.returncode == tflite_graph.TOO_LARGE:
            raise too_large(ValueError(refused))
        raise ModelError(
            f"{NAME} {VERSION} does not run {file.name!r}",
            id="model.does-not-load",
            why=refused.splitlines()[0] if refused else "",
        )
    last = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
    raise HostError(f"{NAME} failed", id="environment.measuring", why=last[0])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
