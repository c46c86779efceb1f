"""Virtual environments of pinned packages, made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# As in the Makefile: an index that has a CPU build of torch, searched beside the package index.
TORCH_INDEX = "TORCH_INDEX"
# Left in an environment when all of it is installed.
STAMP = "pins.txt"
QUIET = ("--quiet", "--disable-pip-version-check")

Run = Callable[[Sequence[str]], str]


class EnvironmentFailed(Exception):
    """An environment could not be made; its text is the last thing that was said."""


def run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        EnvironmentFailed: it fails, or is not there.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:  # the Python that an environment was made of is gone
        raise EnvironmentFailed(f"{Path(command[0]).name} does not start: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()
        raise EnvironmentFailed(next((line for line in said if line.startswith("ERROR:")), said[-1]))
    return done.stdout


def make_environment(pins: Path, folder: Path, call: Run = run) -> Path:
    """The programs of an environment that has just these packages; it is made anew when the pins are others.

    torch is installed first, and only where it brings no CUDA libraries: these are gigabytes that no processor needs.

    Raises:
        EnvironmentFailed: torch would bring them, or a package cannot be had.
    """
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    wanted = pins.read_text(encoding="utf-8")
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return programs
    shutil.rmtree(folder, ignore_errors=True)
    call((sys.executable, "-m", "venv", str(folder)))
    pip = (str(programs / "python"), "-m", "pip", "install", *QUIET)
    index = (("--extra-index-url", os.environ[TORCH_INDEX]),) if os.environ.get(TORCH_INDEX) else ()
    for torch in (line for line in wanted.splitlines() if line.startswith("torch==")):
        command = (*pip, *(word for option in index for word in option), torch)
        brought = cuda_packages(call((*command, "--dry-run", "--report", "-")))
        if brought:
            raise EnvironmentFailed(
                f"{torch} would bring {', '.join(brought)}: name an index that has a CPU build with {TORCH_INDEX}"
            )
        call(command)
    call((*pip, "-r", str(pins)))
    stamp.write_text(wanted, encoding="utf-8")
    return programs


def cuda_packages(report: str) -> list[str]:
    """What of a report of `pip install --dry-run --report -` is there for NVIDIA's GPUs only."""
    names = sorted(package["metadata"]["name"].lower() for package in json.loads(report)["install"])
    return [name for name in names if name.startswith(("nvidia-", "cuda-")) or name == "triton"]


def installed(programs: Path, packages: Sequence[str], call: Run = run) -> dict[str, str]:
    """Versions of packages in an environment, and of its Python."""
    code = (
        "import importlib.metadata as m, json, platform, sys; "
        "print(json.dumps({'python': platform.python_version(), **{p: m.version(p) for p in sys.argv[1:]}}))"
    )
    versions: dict[str, str] = json.loads(call((str(programs / "python"), "-c", code, *packages)))
    return versions
