"""Other tools' recipes: read from `peers/`, run with their seconds and memory, and kept for the next run."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekit.environment import code_digest
from edgekit.source import digest_files, model_files
from edgekit.tasks.data_source import resolve_data

FOLDER = Path(__file__).parent / "peers"
MEASURED, RECORD = "measured.json", "record.json"
LIMIT_SECONDS = 3600
LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
LONGEST_REASON = 300


class PeerFailed(Exception):
    """A recipe gave no artifact; its text is the reason."""


@dataclass(frozen=True)
class Recipe:
    """One way of a peer to an artifact.

    Attributes:
        name: as the table has it.
        documentation: address of what the commands follow.
        commands: run in order in the folder of the result, with the places that ``places`` names.
        result: pattern of the graph, or of an artifact's folder, that they leave.
        precision: of the result.
    """

    name: str
    documentation: str
    commands: tuple[str, ...]
    result: str
    precision: str = "int8"


@dataclass(frozen=True)
class Peer:
    """A tool: its recipes, and its environment, which is this one where it has no pins.

    ``quantize_only`` is its command for a graph that is there already, where it has one: ``quantize_only.py``.
    """

    key: str
    title: str
    packages: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    pins: Path | None = None
    quantize_only: tuple[Recipe, ...] = ()


@dataclass(frozen=True)
class Job:
    """What every peer is given: the same model, data and device; and the folder of an FP32 graph, where that is it."""

    model: Path
    data: Path
    texts: Path
    task: str
    target: str
    graph: Path | None = None

    def places(self, out: Path) -> dict[str, str]:
        """What stands in the braces of a command."""
        given = {name: str(value) for name, value in vars(self).items()}
        return {**given, "out": str(out), "peers": str(FOLDER)}


def known_peers(folder: Path = FOLDER) -> dict[str, Peer]:
    """The peers by name, edgekit among them."""
    return {file.stem: read_peer(file) for file in sorted(folder.glob("*.toml"))}


def read_peer(file: Path) -> Peer:
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    recipes, alone = (
        tuple(Recipe(**{**entry, "commands": tuple(entry["commands"])}) for entry in table.get(kind, ()))
        for kind in ("recipes", "quantize_only")
    )
    pins = file.with_suffix(".txt")
    return Peer(
        file.stem,
        table["title"],
        tuple(table["packages"]),
        recipes,
        table.get("environment", {}),
        pins if pins.exists() else None,
        alone,
    )


def make(peer: Peer, recipe: Recipe, job: Job, programs: Path, folder: Path, *, again: bool) -> dict[str, Any]:
    """What a recipe costs and leaves; from an earlier run where all that decides it is the same.

    Raises:
        PeerFailed: it leaves nothing.
    """
    out = folder / f"{peer.key}-{recipe.name.replace(' ', '-')}-{identity(peer, recipe, job)[:16]}"
    record = out / RECORD
    if record.is_file() and not again:
        earlier: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return earlier
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    made = run_recipe(peer, recipe, job, programs, out)
    record.write_text(json.dumps(made), encoding="utf-8")
    return made


def run_recipe(peer: Peer, recipe: Recipe, job: Job, programs: Path, out: Path) -> dict[str, Any]:
    """What a recipe costs and leaves in an empty folder.

    Raises:
        PeerFailed: it leaves nothing.
    """
    places = job.places(out)
    environment = surroundings(programs, {name: text.format(**places) for name, text in peer.environment.items()})
    steps = [
        {"command": command, **run_measured([word.format(**places) for word in shlex.split(command)], environment, out)}
        for command in recipe.commands
    ]
    left = sorted(out.glob(recipe.result))
    if len(left) != 1:
        raise PeerFailed(f"it ended without an error and left {len(left)} files called {recipe.result}")
    return {
        "steps": steps,
        "seconds": sum(step["seconds"] for step in steps),
        "peak_memory_bytes": max(step["peak_memory_bytes"] for step in steps),
        "result": str(left[0]),
        "made": now(),
    }


def identity(peer: Peer, recipe: Recipe, job: Job) -> str:
    """sha256 of all that decides what a recipe makes."""
    words = " ".join(recipe.commands)
    scripts = [file for file in sorted(FOLDER.rglob("*")) if file.is_file() and file.name in words]
    parts = [
        repr(recipe),
        repr(sorted(peer.environment.items())),
        code_digest() if peer.pins is None else peer.pins.read_text(encoding="utf-8"),
        *(file.read_text(encoding="utf-8") for file in scripts),
        digest_files(job.model, model_files(job.model)),
        job.texts.read_text(encoding="utf-8"),
        resolve_data(job.data).digest,
        job.target,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def surroundings(programs: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of a peer's commands: its own programs first, nothing fetched from the hub.

    Python may keep what it compiles, as pip has done for a package that is installed.
    """
    rest = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    path = f"{programs}{os.pathsep}{rest.get('PATH', os.defpath)}"
    return {**rest, "PATH": path, "VIRTUAL_ENV": str(programs.parent), "HF_HUB_OFFLINE": "1", **more}


def run_measured(command: Sequence[str], environment: Mapping[str, str], out: Path) -> dict[str, Any]:
    """Seconds and peak memory of one command.

    Raises:
        PeerFailed: it fails, with the last thing that it said; or it does not end.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", str(FOLDER / "measured.py"), str(out / MEASURED), *command],
        env=dict(environment),
        cwd=out,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(f"it did not end within {LIMIT_SECONDS} s") from error
    finally:
        if process.poll() is None:  # also after Ctrl-C, which does not reach a session of its own
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise PeerFailed(last_line(said) or last_line(printed) or f"exit {process.returncode}")
    measured: dict[str, Any] = json.loads((out / MEASURED).read_text(encoding="utf-8"))
    return measured


def last_line(text: str) -> str:
    """The last line with something in it; where that is a progress bar, what stands after its last return."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def reason(error: object, job: Job, out: Path, folder: Path) -> str:
    """Why something failed, as a row holds it: not too long, and without the folders of this machine.

    Args:
        error: what was raised.
        job: what was to be done.
        out: the recipe's folder.
        folder: of environments and artifacts.
    """
    here = {"root": folder, "environment": sys.prefix, "edgekit": FOLDER.parents[1], "home": Path.home()}
    places = {**{name: str(place) for name, place in here.items()}, **job.places(out)}
    text = " ".join(str(error).split())
    for name, place in sorted(places.items(), key=lambda item: -len(item[1])):
        if len(place) > 1 and os.sep in place:
            text = text.replace(place, name.upper())
    return text[:LONGEST_REASON]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
