"""Who uses what of a cache, so that what is being worked on is not removed.

    processes/PID-ID   a line of JSON on the process, then the name of each entry that it reads or writes

The process holds a lock on its file, which the operating system takes away when the process ends, however it ends.
Nothing that computes waits for a lock or depends on one: only what removes entries looks at them. Where the file system
has no locks, the file says so, and its process counts as alive for a day.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

FOLDER = "processes"
SCHEMA = "edgekit.process/1"
# A mark without a lock counts as alive for so long. An ended one is kept for so long: what it names was left behind.
DAY_SECONDS = 24 * 3600
# Roots that one process keeps a mark in; only tests have more than one.
MOST_ROOTS = 8

State = Literal["alive", "ended"]


class _Header(BaseModel):
    schema_: str = SCHEMA
    pid: int
    locked: bool


@dataclass(frozen=True)
class Mark:
    """What one process said.

    Attributes:
        file: where it said so.
        pid: its number, on the machine that it ran on.
        state: whether it is alive.
        entries: names of what it used, as ``objects/KEY``.
    """

    file: Path
    pid: int
    state: State
    entries: frozenset[str]


class _Held:
    """The file of this process in one cache, open and locked."""

    def __init__(self, root: Path) -> None:
        folder = root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        unseen = folder / f".{name}"  # until it is locked
        self.pid = os.getpid()
        self.descriptor = os.open(unseen, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        locked = bool(lock(self.descriptor)) and _is_locked(unseen)
        header = _Header(pid=self.pid, locked=locked)
        os.write(self.descriptor, (header.model_dump_json() + "\n").encode())
        unseen.rename(folder / name)
        self.entries: set[str] = set()

    def add(self, entry: str) -> None:
        if entry not in self.entries:
            os.write(self.descriptor, f"{entry}\n".encode())
            self.entries.add(entry)

    def close(self) -> None:
        os.close(self.descriptor)


_held: OrderedDict[Path, _Held] = OrderedDict()


def mark(root: Path, entry: str) -> None:
    """Say that this process uses an entry of a cache; a cache that cannot be written is used unmarked.

    Args:
        root: of the cache.
        entry: its place and name, as ``objects/KEY``.
    """
    with contextlib.suppress(OSError):
        held = _held.get(root)
        if held is None or held.pid != os.getpid():  # the second in a process that was forked off
            _held[root] = held = _Held(root)
            while len(_held) > MOST_ROOTS:
                _held.popitem(last=False)[1].close()
        held.add(entry)


def read_marks(root: Path) -> list[Mark]:
    """What every process said of a cache, those that ended within a day included."""
    return list(_read(root / FOLDER))


def used_entries(root: Path) -> dict[str, tuple[int, ...]]:
    """Entries that living processes use, with the numbers of these processes; this process does not count."""
    used: dict[str, tuple[int, ...]] = {}
    mine = _held.get(root)
    for found in read_marks(root):
        if found.state == "alive" and not (mine is not None and _same_file(found.file, mine.descriptor)):
            for entry in found.entries:
                used[entry] = (*used.get(entry, ()), found.pid)
    return used


def left_behind(root: Path) -> frozenset[str]:
    """Entries that processes named which ended within a day, and that no living one names."""
    marks = read_marks(root)
    ended = {entry for found in marks if found.state == "ended" for entry in found.entries}
    return frozenset(ended - {entry for found in marks if found.state == "alive" for entry in found.entries})


def _read(folder: Path) -> Iterator[Mark]:
    for file in sorted(folder.glob("[!.]*")):
        try:
            first, *lines = file.read_text(encoding="utf-8").splitlines()
            header = _Header.model_validate_json(first)
            locked = _is_locked(file) if header.locked else time.time() - file.stat().st_mtime < DAY_SECONDS
        except (OSError, ValueError, ValidationError):
            continue  # removed meanwhile, or no mark
        yield Mark(file, header.pid, "alive" if locked else "ended", frozenset(lines))


def _sweep(folder: Path) -> None:
    """Remove marks of processes that ended more than a day ago, also such as never came to be seen."""
    old = time.time() - DAY_SECONDS
    ended = [found.file for found in _read(folder) if found.state == "ended"]
    for file in (*ended, *folder.glob(".*")):
        with contextlib.suppress(OSError):
            if file.stat().st_mtime < old:
                file.unlink()


def lock(descriptor: int, *, wait: bool = False, shared: bool = False) -> bool | None:
    """Lock an open file; False where somebody else has it, None where there are no locks.

    Args:
        descriptor: of the file.
        wait: for whoever has it now.
        shared: with others that lock it so.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        return None
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_locked(file: Path) -> bool:
    """Whether somebody holds the lock of a file; on file systems that only pretend to lock, nobody ever does."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return not lock(descriptor, shared=True)  # so that two who look do not see each other
    finally:
        os.close(descriptor)


def _same_file(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except OSError:
        return False
