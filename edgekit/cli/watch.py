"""Commands that read what others made, watched from outside: a crash of the reader is one more error with an id.

Parsers of weights, tokenizers, images and tables are native code. So these commands go on in a process of their own,
forked before any framework is loaded, which costs milliseconds; the first one waits, hands signals on, and tells what
became of it. What runs a graph has tighter limits of its own (``runtimes/child.py``). Linux only; elsewhere a command
runs as it is.

That a command ends which answers no signal is not done from here but by ``stopping.py``, which every command has.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bounds import visible
from edgekit.cli.stopping import fork
from edgekit.errors import EdgekitError

WATCHED = ("bench", "bundle", "compress", "costs", "eval", "inspect", "predict", "profile", "verify")
# Reading a file that lies here has an end. The others train, score data and fetch models, as long as it takes.
TIMED = ("inspect",)
TRAINING = ("compress",)
# What the command has within it its own limits for, it shall tell itself; this is for what has none.
LATER_SECONDS = 5.0
POLL_SECONDS = 0.5
# How long the last words of a command are waited for, where something else still has its stderr open.
LAST_WORDS_SECONDS, LAST_WORDS_CHUNKS, CHUNK_BYTES = 1.0, 16, 4096
# What a terminal's Ctrl-C has as its origin (SI_KERNEL): the whole group of processes has got it already.
FROM_TERMINAL = 0x80
# prctl(PR_SET_PDEATHSIG): the watched process does not outlive the one that waits for it.
PARENT_DEATH_SIGNAL = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Within which a signal to a whole group reaches all of it.
SAME_MOMENT_SECONDS = 0.02


@dataclass(frozen=True)
class _End:
    """How a watched process ended.

    Attributes:
        code: of the exit, negative for a signal.
        stopped_by: the signal that it was to be stopped by; 0 without one.
        late: whether its time was over, and it was ended.
    """

    code: int
    stopped_by: int = 0
    late: bool = False


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
    limits = limits_for(sum(map(_size_bytes, files)), trains=arguments[0] in TRAINING)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGCHLD))
    try:
        heard, native = os.pipe()
        waiting = os.getpid()
        child = fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _end_with(waiting)
            limit_self(replace(limits, cpu_seconds=None))
            os.close(heard)
            _speak_through(native)
            return run()
        os.close(native)
        passing = _Passing(heard)
        limits = replace(limits, seconds=limits.seconds + LATER_SECONDS)
        end = _wait(child, time.monotonic() + limits.seconds if arguments[0] in TIMED and files else None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    told = passing.last_words()
    name = repr(files[0].name) if files else "what was given"
    if end.late:
        return out_of_time(name, limits)
    if -end.code in SIGNALS:  # it came before the command was ready for it, or did not let it answer
        return 128 - end.code
    if end.code == -signal.SIGKILL and end.stopped_by:  # the last that `stopping.py` does
        return 128 + end.stopped_by
    return end.code if end.code >= 0 else death(name, end.code, told, limits) or end.code


class _Passing(threading.Thread):
    """Passes on what native code says on stderr, and keeps the last of it: why it gave up.

    Args:
        heard: where it is read.
    """

    def __init__(self, heard: int) -> None:
        super().__init__(daemon=True)
        self._heard, self._last = heard, deque[bytes](maxlen=LAST_WORDS_CHUNKS)
        self.start()

    def run(self) -> None:
        """Until nobody has the other end open."""
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")  # a character may lie in two chunks
        with contextlib.suppress(OSError):  # whoever reads stderr has stopped
            while chunk := os.read(self._heard, CHUNK_BYTES):
                self._last.append(chunk)
                os.write(2, _harmless(decoder.decode(chunk)))
            os.write(2, _harmless(decoder.decode(b"", final=True)))
        while os.read(self._heard, CHUNK_BYTES):  # for the command may not wait for it
            pass

    def last_words(self) -> str:
        """What was said last."""
        self.join(LAST_WORDS_SECONDS)
        return b"".join(self._last).decode(errors="replace")


def _harmless(text: str) -> bytes:
    """What native code says, which may be a name in a file, without what steers a terminal; bars go back in a line."""
    return "\r".join(map(visible, text.split("\r"))).encode()


def _speak_through(pipe: int) -> None:
    """Let Python write to stderr as it is, which may be a terminal, and native code into a pipe."""
    stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors)
    os.dup2(pipe, 2)
    os.close(pipe)
    sys.stderr = stderr


def _size_bytes(path: Path) -> int:
    """Of a file, or of the files in a folder; 0 where that may not be read, which the command itself will tell."""
    try:
        parts = list(path.iterdir()) if path.is_dir() else [path]
        return sum(part.stat().st_size for part in parts if part.is_file())
    except OSError:
        return 0


def _wait(child: int, ends_at: float | None) -> _End:
    """Wait for a process, and hand signals on to it; where its time is over, it is ended."""
    stopped_by, ready = 0, set[int]()
    while True:
        found = signal.sigtimedwait((*SIGNALS, signal.SIGCHLD), POLL_SECONDS)
        if found is not None and found.si_signo != signal.SIGCHLD:
            stopped_by = found.si_signo
            if found.si_code != FROM_TERMINAL:
                _hand_on(child, found.si_signo, ready)
        ready |= _caught(child)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _End(os.waitstatus_to_exitcode(status), stopped_by)
        if ends_at is not None and time.monotonic() > ends_at:
            os.kill(child, signal.SIGKILL)  # what it has started ends with it: `become.py`
            os.waitpid(child, 0)
            return _End(-signal.SIGKILL, late=True)


def _hand_on(child: int, number: int, ready: set[int]) -> None:
    """Send a signal to a process, unless it has got it with all of its group: the second one would end it at once.

    Args:
        child: the process.
        number: of the signal.
        ready: what it was seen to catch; each signal once, as ``stopping.py`` has it.
    """
    time.sleep(SAME_MOMENT_SECONDS)
    if number not in ready or number in _caught(child):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _caught(process: int) -> set[int]:
    """The signals that a process has a handler for: SigCgt of proc(5)."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:  # it has ended
        return set()
    mask = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")), 0)
    return {int(number) for number in SIGNALS if mask >> (number - 1) & 1}


def _end_with(parent: int) -> None:
    """Have this process end when its parent does."""
    import ctypes

    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
