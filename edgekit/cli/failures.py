"""What each error means to the person at the terminal: a kind, an exit code, and what, why and what to do next."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import cast

import typer

from edgekit.cli.groups import NAME
from edgekit.errors import EdgekitError, HostError, ResourceLimitError, UnknownNameError, UsageError

INTERNAL_EXIT_CODE = EdgekitError.exit_code
INTERRUPTED_EXIT_CODE = 128 + signal.SIGINT
TERMINATED_EXIT_CODE = 128 + signal.SIGTERM
# As if SIGPIPE had ended the process, which Python ignores: whoever read the output has stopped.
OUTPUT_CLOSED_EXIT_CODE = 141
MEGABYTE = 1e6
# What a finalizer may still take, so that a signal does not find it there again.
AGAIN_SECONDS = 0.02
DEBUG_VARIABLE = "EDGEKIT_DEBUG"
# What a disk, a file system on the network or a stick answers that is broken, gone, or for reading only.
DISK_FAILS = (errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE)
RESUME_HINT = "The same command again goes on where this one stopped."
# typer's usage errors, reached by their one public subclass: click's own class in older versions, a copy in newer ones.
CommandLineError = cast("type[Exception]", typer.BadParameter.__base__)


@dataclass(frozen=True)
class Failure:
    """An error as the command line tells it; the fields are those of `EdgekitError.as_dict`."""

    id: str
    kind: str
    exit_code: int
    what: str
    why: str = ""
    hint: str = ""

    def as_dict(self) -> dict[str, str | int]:
        """The error as the ``--json`` document carries it."""
        return asdict(self)


class Terminated(BaseException):
    """SIGTERM arrived. No ``Exception``, so that nothing on the way mistakes it for a failure."""


@contextlib.contextmanager
def raise_on_signals(*, last: bool = False) -> Iterator[list[BaseException]]:
    """Turn SIGTERM into `Terminated`, as Ctrl-C is one, so that whatever is open gets closed.

    Python drops what is raised while it calls a finalizer, a weak reference's callback or a hook of a fork. The signal
    is sent once more then, a moment later.

    Args:
        last: whether the process ends with the block: another signal behind the first one ends it at once then, since
            what a handler raises while Python ends is a traceback.

    Yields:
        What was raised for signals that arrived, Ctrl-C among them: a library may raise something else in its place.
    """
    arrived: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived  # only the main thread may install a handler
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        arrived.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        raise arrived[-1]

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as under nohup
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in numbers}

    def send_again(dropped: sys.UnraisableHookArgs) -> None:
        if not any(dropped.exc_value is one for one in arrived):
            drop(dropped)
            return
        number = signal.SIGTERM if isinstance(dropped.exc_value, Terminated) else signal.SIGINT
        signal.signal(number, handle)  # which may be one that is called once: ``stopping.py``
        timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    drop, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield arrived
    finally:
        sys.unraisablehook = drop
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if last and arrived else handler)


def debugging() -> bool:
    """Whether EDGEKIT_DEBUG asks for tracebacks and for what libraries have to say."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def describe(error: BaseException) -> Failure:
    """Any error as a `Failure`."""
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", "interrupted", INTERRUPTED_EXIT_CODE, "interrupted", hint=RESUME_HINT)
    if isinstance(error, Terminated):
        return Failure("terminated", "terminated", TERMINATED_EXIT_CODE, "stopped by SIGTERM", hint=RESUME_HINT)
    if isinstance(error, EdgekitError):
        return Failure(error.id, error.kind, error.exit_code, error.what, error.why, error.hint)
    if isinstance(error, CommandLineError):
        return _from_command_line(error)
    known = _from_system(error)
    if known is not None:
        return describe(known)
    return Failure(
        EdgekitError.kind,
        EdgekitError.kind,
        INTERNAL_EXIT_CODE,
        f"{NAME} failed: {type(error).__name__}: {error}",
        why=f"this is a fault in {NAME}, not in how it was called",
        hint=f"{DEBUG_VARIABLE}=1 shows the traceback; please report it.",
    )


def _from_system(error: BaseException) -> EdgekitError | None:
    """What the operating system or Python ran out of or lacks; None where it is something else."""
    if _is_disk_full(error):
        # of two, as when a file is copied, the second one is written
        name = getattr(error, "filename2", None) or getattr(error, "filename", None)
        where = f" while writing {name!r}" if name else ""
        why = "; ".join([str(error).partition("\n")[0], *_free(name)])
        return ResourceLimitError(f"the disk is full{where}", id="resource-limit.disk-full", why=why)
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        hint = "Lower --batch, --tokens or --image, or use a machine with more memory. " + RESUME_HINT
        return ResourceLimitError(
            "memory ran out", id="resource-limit.memory", why=str(error).partition("\n")[0], hint=hint
        )
    if isinstance(error, OSError) and error.errno in DISK_FAILS:
        return HostError(
            f"the disk fails at {error.filename!r}" if error.filename else "the disk fails",
            id="environment.disk-fails",
            why=str(error),
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UsageError("a path is longer than this system takes", id="usage.no-file", why=str(error)[:200])
    if isinstance(error, PermissionError):
        return HostError(
            f"no permission for {error.filename!r}" if error.filename else "no permission",
            id="environment.no-permission",
            why=str(error),
        )
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != NAME:
        package = error.name.partition(".")[0]
        return HostError(
            f"the package {package!r} is not installed",
            id="environment.no-package",
            why=str(error),
            hint=f"Install it beside {NAME}, with pip.",
        )
    return None


def _is_disk_full(error: BaseException) -> bool:
    """Native code raises what it likes, with the system's words for ENOSPC in it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, Exception) and os.strerror(errno.ENOSPC) in str(error)


def _free(name: object) -> list[str]:
    """How much room there is where a file was to be written."""
    if not isinstance(name, (str, Path)):
        return []
    places = [place for place in (Path(name), *Path(name).parents) if place.exists()]
    return [f"{shutil.disk_usage(places[0]).free / MEGABYTE:,.1f} MB are free there"] if places else []


def _is_torch_out_of_memory(error: BaseException) -> bool:
    # torch is not imported to be asked: on a GPU it raises OutOfMemoryError, on a CPU a RuntimeError of these words.
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def _from_command_line(error: Exception) -> Failure:
    """A usage error that typer found, told in edgekit's manner."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else NAME
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and context is not None and option is not None:
        names = [
            name for parameter in context.command.get_params(context) for name in parameter.opts if name.startswith("-")
        ]
        return describe(UnknownNameError(f"`{path}` option", option, names, id="unknown-name.option"))
    message = str(error.format_message()).strip() if hasattr(error, "format_message") else str(error)
    what, _, why = message.partition("\n")
    what = what.rstrip(".")
    return Failure(
        "usage.command-line",
        UsageError.kind,
        UsageError.exit_code,
        f"{what[:1].lower()}{what[1:]}",
        why=" ".join(why.split()),
        hint=f"`{path} --help` explains it.",
    )
