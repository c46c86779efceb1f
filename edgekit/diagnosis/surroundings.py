"""What the checks look at outside edgekit, each behind one function, so that tests can put another in its place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.cache import default_root
from edgekit.diagnosis.machine import Kernel
from edgekit.environment import Host, host
from edgekit.measure.machine import read_cpu_times

PROBE = Path(__file__).with_name("probe.py")
PROBE_SECONDS = 180
HUB = "https://huggingface.co"
HUB_SECONDS = 4.0
SAMPLE_SECONDS = 0.5
# The words by which huggingface_hub reads a switch as on.
ON = ("1", "on", "yes", "true")

Answers = dict[str, dict[str, Any]]


def import_all(modules: Sequence[str]) -> Answers:
    """What importing each module came to, in one other process; one that ends it is named by its exit code."""
    answers: Answers = {}
    left = list(modules)
    while left:
        command = [sys.executable, "-P", str(PROBE), *left]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
            lines, end = done.stdout.splitlines(), f"it ended the process with code {done.returncode}"
        except subprocess.TimeoutExpired as error:
            lines = (error.stdout or b"").decode().splitlines()
            end = f"it was not imported within {PROBE_SECONDS} s"
        for line in lines:
            with contextlib.suppress(ValueError, LookupError, TypeError):  # else what a module printed
                answer = json.loads(line)
                answers[answer["module"]] = answer
        unsaid = [module for module in left if module not in answers]
        if not unsaid:
            break
        answers[unsaid[0]] = {"module": unsaid[0], "error": end}
        left = unsaid[1:]
    return answers


def reach_hub(endpoint: str) -> str | None:
    """Why the hub cannot be reached, or None: any answer of it will do."""
    if not endpoint.startswith(("http://", "https://")):
        return "its address is neither http nor https"
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "edgekit-doctor"})
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def sample_load() -> tuple[float, float] | None:
    """Shares of the processors' time that other processes took, and other virtual machines; None where unknown."""
    before = read_cpu_times()
    time.sleep(SAMPLE_SECONDS)
    after = read_cpu_times()
    if before is None or after is None or after.total <= before.total:
        return None
    span = after.total - before.total
    stolen = (after.stolen - before.stolen) / span
    busy = span - (after.idle - before.idle) - (after.stolen - before.stolen) - (after.own - before.own)
    return max(0.0, busy) / span, stolen


def free_bytes(path: Path) -> int:
    """Room on the file system of a path, which may not exist yet."""
    return shutil.disk_usage(nearest_existing(path)).free


def cannot_write(folder: Path) -> str | None:
    """Why nothing can be written into a folder, or into the one that it would be made in; None when it can."""
    place = nearest_existing(folder)
    if not place.is_dir():
        return f"{str(place)!r} is a file"
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror or str(error)


def nearest_existing(path: Path) -> Path:
    """The path itself, or the first of its parents that is there."""
    return path if path.exists() or path == path.parent else nearest_existing(path.parent)


def is_on(value: str | None) -> bool:
    """Whether a variable is a switch that is on."""
    return (value or "").strip().lower() in ON


@dataclass(frozen=True)
class Surroundings:
    """Where the checks look.

    Attributes:
        host: this machine.
        kernel: what it says of memory and clocks.
        variables: the environment.
        cache: root of the cache.
        folder: where the command was called.
        temporary: where short-lived files go.
        imports: imports modules.
        hub: asks the hub for a sign of life.
        load: shares of time that others take.
    """

    host: Host = field(default_factory=host)
    kernel: Kernel = field(default_factory=Kernel)
    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cache: Path = field(default_factory=default_root)
    folder: Path = field(default_factory=Path.cwd)
    temporary: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    imports: Callable[[Sequence[str]], Answers] = import_all
    hub: Callable[[str], str | None] = reach_hub
    load: Callable[[], tuple[float, float] | None] = sample_load
