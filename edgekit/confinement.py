"""Where a stranger's file is parsed or run: in a process of its own, with limits, and without secrets.

A parser in native code may crash, never end or ask for all memory there is. In a process of its own that is one error
with an id, and nothing of edgekit's is lost. The process gets the variables of `ALLOWED` and no other, so that tokens
and keys of this one stay here; it is limited in memory and processor time by the system (``setrlimit``), in wall time
by whoever waits for it, and it ends when that one does, however that is (``become.py``).

Memory is limited as private writable memory (``RLIMIT_DATA``) and not as address space, of which CUDA and thread stacks
reserve much more than they use. All of this is Linux's; elsewhere only the wall time is limited.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bounds import GIB, MIB
from edgekit.environment import available_cores, available_memory_bytes
from edgekit.errors import EdgekitError, ModelError, ResourceLimitError, UsageError

# What a process needs to find its files, its libraries and its processors. Everything else stays here.
ALLOWED = (
    "CUDA_VISIBLE_DEVICES",
    "EDGEKIT_DEBUG",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "ORT_DISABLE_TELEMETRY",
    "PATH",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
)
ALLOWED_BEGINNINGS = ("GOMP_", "KMP_", "LC_", "MKL_", "NVIDIA_", "OMP_", "OPENBLAS_")
BECOME = Path(__file__).with_name("become.py")
SECONDS_VARIABLE, MEMORY_VARIABLE = "EDGEKIT_MODEL_SECONDS", "EDGEKIT_MODEL_MB"
# One call of a model takes seconds on the slowest board; reading a file takes as long as a slow card.
SECONDS, BYTES_PER_SECOND = 120.0, 20e6
# An interpreter with a runtime takes 300 MB.
LEAST_BYTES = GIB
# Memory that torch's allocators and threads reserve for each byte that they use: of 2.4 GB `compress` used 1.3.
RESERVED = 2
GRACE_SECONDS = 5
# How the ends of processes that found no memory look, by what they say last.
NO_MEMORY = (
    "bad_alloc",
    "MemoryError",
    "allocate memory",
    "bad allocation",
    "out of memory",
    "Cannot allocate",
    "memory allocation of ",  # Rust's
)


@dataclass(frozen=True)
class Limits:
    """What a process may take.

    Attributes:
        seconds: of wall time, for one answer.
        memory_bytes: private memory.
        cpu_seconds: of all its threads together; None leaves it to the wall time.
    """

    seconds: float
    memory_bytes: int
    cpu_seconds: int | None = None


def limits_for(size_bytes: int, *, once: bool = False, trains: bool = False) -> Limits:
    """The limits of a process that reads or runs a model of so many bytes.

    Args:
        size_bytes: of its files.
        once: whether the process ends with one answer, so that its processor time can be limited, too.
        trains: whether it trains a model or calibrates it, and so reserves more memory than it uses.

    Raises:
        UsageError: a variable that sets one is no number above nothing.
    """
    seconds = _number(SECONDS_VARIABLE, SECONDS) + size_bytes / BYTES_PER_SECOND
    free = max(available_memory_bytes(), LEAST_BYTES) * (RESERVED if trains else 1)
    memory = int(_number(MEMORY_VARIABLE, free / 1e6) * 1e6)
    return Limits(seconds, memory, int(seconds * available_cores()) + 1 if once else None)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        found = float(text) if text else default
    except ValueError:
        found = 0.0
    if 0 < found < float("inf"):
        return found
    raise UsageError(f"{variable} is {text!r}", id="usage.bad-value", why="allowed: a number above 0")


def surroundings(also: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a confined process: the variables that are allowed, and ``also``."""
    kept = {name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith(ALLOWED_BEGINNINGS)}
    return kept | dict(also or {})


def start(command: Sequence[str], limits: Limits, *, also: Mapping[str, str] | None = None, **pipes: Any) -> Any:
    """Start a confined process, as ``subprocess.Popen``.

    A small program sets the limits and becomes the wanted one: set from here, they would come after that has begun on
    a busy machine, and to run Python between fork and exec is not safe where there are threads.

    Args:
        command: the program and its arguments.
        limits: that it gets.
        also: variables beside those that are allowed.
        **pipes: further arguments of ``subprocess.Popen``.
    """
    if sys.platform != "linux":
        return subprocess.Popen(command, env=surroundings(also), **pipes)
    lifeline, held = os.pipe()
    wanted = json.dumps({"lifeline": lifeline, "limits": _bounds(limits)})
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(BECOME), wanted, *command],
            env=surroundings(also),
            pass_fds=(lifeline,),
            **pipes,
        )
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(lifeline)
    weakref.finalize(process, os.close, held)
    return process


def run(command: Sequence[str], limits: Limits) -> subprocess.CompletedProcess[str]:
    """Run a confined process to its end.

    Raises:
        subprocess.TimeoutExpired: it took longer than allowed, and was stopped.
    """
    pipe = subprocess.PIPE
    with start(
        command, limits, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace"
    ) as process:
        try:
            out, told = process.communicate(timeout=limits.seconds)
        except BaseException:  # also Ctrl-C: no process of a stranger's is left behind
            process.kill()
            process.communicate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, told)


def limit_self(limits: Limits) -> None:
    """Put limits on this very process."""
    if sys.platform == "linux":
        import resource

        for kind, bounds in _bounds(limits).items():
            resource.setrlimit(kind, bounds)


def _bounds(limits: Limits) -> dict[int, tuple[int, int]]:
    """The soft and the hard limit of each kind, within those that this process has.

    At the soft limit of processor time comes SIGXCPU, which says what it is; at the hard one SIGKILL.
    """
    import resource

    wanted = {
        resource.RLIMIT_DATA: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }
    if limits.cpu_seconds is not None:
        wanted[resource.RLIMIT_CPU] = (limits.cpu_seconds, limits.cpu_seconds + GRACE_SECONDS)
    found = {}
    for kind, (soft, hard) in wanted.items():
        _, hardest = resource.getrlimit(kind)
        most = hard if hardest == resource.RLIM_INFINITY else min(hard, hardest)
        found[kind] = (min(soft, most), most)
    return found


def death(name: str, code: int, told: str, limits: Limits) -> EdgekitError | None:
    """What the end of a confined process means; None where it ended by itself and says why.

    Args:
        name: of the file that it read or ran, as a sentence has it.
        code: as ``subprocess`` has it, negative for a signal.
        told: what it said on its standard error.
        limits: that it had.
    """
    last = (told.strip().splitlines() or [""])[-1]
    if code == -signal.SIGXCPU:
        return out_of_time(name, limits)
    if code == -signal.SIGKILL or (code != 0 and lacks_memory(told[-2000:])):
        return out_of_memory(name, limits, last)
    if code < 0:
        return ModelError(
            f"the process that reads or runs {name} crashed",
            id="model.crashes",
            why=f"it was ended by {signal.Signals(-code).name}; edgekit itself is unharmed",
        )
    return None


def lacks_memory(told: str) -> bool:
    """Whether what a runtime says is that it got no memory."""
    return any(sign in told for sign in NO_MEMORY)


def out_of_memory(name: str, limits: Limits, why: str = "") -> ResourceLimitError:
    """The error of a model that asked for more memory than its process may have."""
    return ResourceLimitError(
        f"{name} asked for more memory than the {limits.memory_bytes // MIB} MiB that it may have",
        id="resource-limit.model-memory",
        why=why[:300],
        hint=f"Give it a smaller workload, or another limit with {MEMORY_VARIABLE}.",
    )


def out_of_time(name: str, limits: Limits) -> ResourceLimitError:
    """The error of a model that gave no answer."""
    return ResourceLimitError(
        f"{name} gave no answer in {limits.seconds:.0f} s, and its process was stopped",
        id="resource-limit.model-time",
        hint=f"Where it is only slow, allow it more seconds with {SECONDS_VARIABLE}.",
    )
