"""Whose turn it is: of several processes that want the same object of a cache, one makes it and the others wait.

    turns/KEY   locked by the process that makes the object, or does the run; gone when nobody does

This saves work, and no object is wrong without it: where a file system has no locks, or only pretends to have them, the
same object is made more than once, and the first that is put stays. Two searches of one command would write over each
other's trials there. The operating system takes a lock away when its
process ends, however it ends. A signal interrupts the waiting.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.marks import lock
from edgekit.progress import Progress

FOLDER = "turns"

log = logging.getLogger(__name__)


@contextmanager
def turn(root: Path, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Have an object to oneself, after whoever makes it now.

    Args:
        root: of the cache.
        key: of the object.
        waiting: told where another process makes it.
    """
    file = root / FOLDER / key
    descriptor = _take(file, waiting)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                file.unlink()
            os.close(descriptor)


@contextmanager
def turn_of_a_run(root: Path, key: str, progress: Progress) -> Iterator[None]:
    """Do a whole run alone: two that search at once would write over each other's trials, looks and time.

    Args:
        root: of the cache.
        key: of the run.
        progress: told of the waiting.
    """
    waited: list[bool] = []

    def tell() -> None:
        waited.append(True)
        progress.start("wait for another process that does the same", None)

    with turn(root, key, tell):
        if waited:
            progress.finish()
        yield


def sweep_turns(root: Path) -> None:
    """Remove the files of turns that processes had which were killed."""
    for file in (root / FOLDER).glob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or of another user
            descriptor = os.open(file, os.O_RDWR)
            try:
                if lock(descriptor) and _is(file, descriptor):
                    file.unlink()
            finally:
                os.close(descriptor)


def _take(file: Path, waiting: Callable[[], None]) -> int | None:
    """Lock a file, and wait for that; None where there are no locks, or the cache may only be read."""
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return None
            raise
        try:
            got = lock(descriptor)
            if got is False:
                log.info("another process makes %s; waiting for it", file.name[:12])
                waiting()
                got = lock(descriptor, wait=True)
        except BaseException:  # a signal while it waited
            os.close(descriptor)
            raise
        if not got:
            with contextlib.suppress(OSError):
                file.unlink()
            os.close(descriptor)
            return None
        if _is(file, descriptor):
            return descriptor
        os.close(descriptor)  # the one before has removed it


def _is(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
