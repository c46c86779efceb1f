"""Whether the disk has room: what is written for sure is asked for before it is begun."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgekit.errors import ResourceLimitError


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, there or not yet."""
    return shutil.disk_usage(_nearest(folder)).free


def need_room(wanted: Iterable[tuple[Path, int]]) -> None:
    """See that every disk has room for all that goes there.

    Args:
        wanted: folders, there or not yet, and bytes.

    Raises:
        ResourceLimitError: one has not.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in wanted:
        place = _nearest(folder)
        device = place.stat().st_dev
        disks[device] = (disks.get(device, (place, 0))[0], disks.get(device, (place, 0))[1] + size)
    for place, size in disks.values():
        free = shutil.disk_usage(place).free
        if free < size:
            raise ResourceLimitError(
                f"there is not enough room on the disk of {str(place)!r}",
                id="resource-limit.disk-space",
                why=f"at least {_megabytes(size)} are needed, and {_megabytes(free)} are free",
            )


@contextlib.contextmanager
def telling_full(folder: Path, size_bytes: int) -> Iterator[None]:
    """Whatever native code says that writes into a folder, a disk that is full is told as that.

    Args:
        folder: where it writes.
        size_bytes: that it writes, about.

    Raises:
        OSError: it failed, and there is not so much room by then (ENOSPC).
    """
    try:
        yield
    except Exception as error:
        if free_bytes(folder) < size_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _nearest(folder: Path) -> Path:
    """The folder, or the one around it that is there."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
