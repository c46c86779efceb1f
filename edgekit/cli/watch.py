"""Commands that read what others made, watched from outside: a crash of the reader is one more error with an id.

Parsers of weights, tokenizers, images and tables are native code. So these commands go on in a process of their own,
forked before any framework is loaded, which costs milliseconds; the first one waits, hands signals on, and tells what
became of it. What runs a graph has tighter limits of its own (``runtimes/child.py``). Linux only; elsewhere a command
runs as it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.errors import EdgekitError

WATCHED = ("eval", "inspect", "predict", "verify")
# Reading a file that lies here has an end. The others score data and fetch models, which takes as long as it takes.
TIMED = ("inspect",)
POLL_SECONDS = 0.5
# What a terminal's Ctrl-C has as its origin (SI_KERNEL): the whole group of processes has got it already.
FROM_TERMINAL = 0x80
# prctl(PR_SET_PDEATHSIG): the watched process does not outlive the one that waits for it.
PARENT_DEATH_SIGNAL = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def wanted(arguments: Sequence[str]) -> bool:
    """Whether a command line is watched: a process that has threads is not forked."""
    return sys.platform == "linux" and arguments[:1] in [[name] for name in WATCHED] and threading.active_count() == 1


def watch(arguments: Sequence[str], run: Callable[[], int]) -> int | EdgekitError:
    """Run a command in a process of its own.

    Args:
        arguments: of the command line.
        run: does the work, prints, and gives the exit code.

    Returns:
        Its exit code; what became of it, where it did not end by itself.
    """
    from edgekit.confinement import death, limit_self, limits_for, out_of_time

    # os.path's question, since pathlib raises where a text to predict is longer than a name may be
    files = [Path(word) for word in arguments[1:] if not word.startswith("-") and os.path.exists(word)]
    limits = limits_for(sum(map(_size_bytes, files)))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGCHLD))
    waiting = os.getpid()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _end_with(waiting)
        limit_self(replace(limits, cpu_seconds=None))
        return run()
    ends_at = time.monotonic() + limits.seconds if arguments[0] in TIMED and files else None
    try:
        code = _wait(child, ends_at)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    name = repr(files[0].name) if files else "what was given"
    if code is None:
        return out_of_time(name, limits)
    if -code in SIGNALS:  # it came before the command was ready for it
        return 128 - code
    return code if code >= 0 else death(name, code, "", limits) or code


def _size_bytes(path: Path) -> int:
    """Of a file, or of the files in a folder; 0 where that may not be read, which the command itself will tell."""
    try:
        parts = list(path.iterdir()) if path.is_dir() else [path]
        return sum(part.stat().st_size for part in parts if part.is_file())
    except OSError:
        return 0


def _wait(child: int, ends_at: float | None) -> int | None:
    """The code of a process, negative for a signal; None where its time was over and it was ended."""
    while True:
        found = signal.sigtimedwait((*SIGNALS, signal.SIGCHLD), POLL_SECONDS)
        if found is not None and found.si_signo != signal.SIGCHLD and found.si_code != FROM_TERMINAL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, found.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if ends_at is not None and time.monotonic() > ends_at:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None


def _end_with(parent: int) -> None:
    """Have this process end when its parent does."""
    import ctypes

    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
