"""Ctrl-C and SIGTERM end a command within seconds, also while native code lets Python do nothing.

Python answers a signal between two of its own instructions. A converter or a session that is being built may take
minutes without coming to one. So a command has a watcher: a process that is forked off before anything is loaded, and
that hears of a signal from the handler in C (`signal.set_wakeup_fd`), which runs at once. It gives Python some seconds
to close what is open. If the command is still there then, it is sent the same signal again, which by then ends it: the
kernel puts a handler with ``SA_RESETHAND`` back to the default when it is called (POSIX, sigaction). Children of the
command go with it. A second Ctrl-C is such a second signal, too. What is left lies in the cache as after SIGKILL, and
the same command goes on from it.

On Linux only; elsewhere Python's own answer is all there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgekit.cli.failures import Failure, Terminated, describe
from edgekit.cli.output import error_document
from edgekit.errors import ResourceLimitError

# The command is to end within 5 s; rich and the interpreter take some of it to say so.
GRACE_SECONDS = 3.5
# After which a command that the second signal did not end is killed.
LAST_SECONDS = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SA_RESETHAND = 0x80000000
# What the command says when it is done; no signal has this number.
DONE = b"\0"


class _Action(ctypes.Structure):
    """``struct sigaction`` of glibc and musl for x86-64 and arm64: handler, mask of 1024 bits, flags, restorer."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


@contextlib.contextmanager
def ended_by_signals(*, as_json: bool = False) -> Iterator[None]:
    """Have a watcher for as long as the block lasts; in the main thread, before anything is loaded.

    Args:
        as_json: whether stdout is to get a document where the watcher ends the command.
    """
    if sys.platform != "linux" or sys.maxsize < 2**32:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # Python drops what a handler raises while it forks: a signal waits until the watcher hears it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        watcher = fork()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if watcher == 0:
        _watch(reading, writing, as_json=as_json)
    os.close(reading)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        for number in SIGNALS:
            _reset_when_called(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, DONE)  # not by closing it alone: a forked child may have it, too
        os.close(writing)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(watcher, 0)


def fork() -> int:
    """Fork off a process, as ``os.fork``.

    Raises:
        ResourceLimitError: there may be no more of them.
    """
    try:
        return os.fork()
    except OSError as error:
        raise ResourceLimitError(
            "no process can be started beside this one", id="resource-limit.processes", why=str(error)
        ) from error


def _reset_when_called(number: int) -> None:
    """Let a signal's handler be called once; the second signal ends the process."""
    library, action = ctypes.CDLL(None, use_errno=True), _Action()
    if library.sigaction(number, None, ctypes.byref(action)) != 0:
        raise OSError(ctypes.get_errno(), "sigaction")
    action.flags = ctypes.c_int(action.flags | SA_RESETHAND).value
    if library.sigaction(number, ctypes.byref(action), None) != 0:
        raise OSError(ctypes.get_errno(), "sigaction")


def _watch(reading: int, writing: int, *, as_json: bool) -> None:
    """The watcher: wait for a signal's number or for the end of the command; never returns."""
    try:
        os.close(writing)
        os.setsid()  # Ctrl-C is for the command
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        document = os.dup(1) if as_json else -1
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nowhere, descriptor)
        command = os.getppid()
        heard = os.read(reading, 1)
        if heard and heard[0] in SIGNALS and not _ends(reading, GRACE_SECONDS):
            _end(command, heard[0], reading, document)
    finally:
        os._exit(0)


def _ends(reading: int, seconds: float) -> bool:
    """Whether the command ends in this time: it says so, or its end of the pipe is closed."""
    until = time.monotonic() + seconds
    while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
        heard = os.read(reading, 64)
        if not heard or DONE in heard:
            return True
    return False


def _end(command: int, number: int, reading: int, document: int) -> None:
    """End the command by its signal and, where that does not help, by SIGKILL; and its children.

    Args:
        command: its process.
        number: of the signal.
        reading: where it says that it has ended.
        document: what is stdout for the command; -1 where no document is wanted.
    """
    children = _children(command)
    failure = _failure(number)
    with contextlib.suppress(OSError):  # nobody reads it any more
        os.write(2, f"error[{failure.id}]: {failure.what}\n  hint: {failure.hint}\n".encode())
    if document >= 0:
        with contextlib.suppress(OSError):
            os.write(document, error_document(failure).encode())
    with contextlib.suppress(ProcessLookupError):
        os.kill(command, number)
        if not _ends(reading, LAST_SECONDS):
            os.kill(command, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)


def _failure(number: int) -> Failure:
    failure = describe(KeyboardInterrupt() if number == signal.SIGINT else Terminated())
    return replace(failure, what=f"{failure.what}, while native code did not answer")


def _children(process: int) -> list[int]:
    """Processes that a process started, and theirs, but this one."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            for child in map(int, file.read_text(encoding="ascii").split()):
                if child != os.getpid():
                    found += [child, *_children(child)]
    return found
