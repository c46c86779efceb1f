"""Where a finished directory is put: in one step, on the disk by then, and never over what edgekit did not make."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from edgekit.artifact import MANIFEST, SUMS, UNSEALED, read_kept, walk
from edgekit.bounds import MAX_MANIFEST_BYTES, MAX_SUMS_BYTES
from edgekit.errors import ArtifactError, UsageError

# What systems put into folders that somebody looks at.
SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")


def is_output(path: str | Path) -> bool:
    """Whether a directory is an artifact by its manifest, and holds nothing else: who replaces it removes all of it."""
    root = Path(path).expanduser()
    try:
        manifest = json.loads(read_kept(root / MANIFEST, MAX_MANIFEST_BYTES))
        if not str(manifest["schema"]).startswith("edgekit.artifact/"):
            return False
        known = {*UNSEALED, *manifest.get("files", ()), *sealed_names(root)}
    except (ArtifactError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    return holds_only(root, known)


def holds_only(root: Path, known: Collection[str]) -> bool:
    """Whether a directory has no files but these, by their names, and what systems put into folders by themselves."""
    names = (file.relative_to(root).as_posix() for file in walk(root))
    return all(name in known or name.rpartition("/")[2] in SYSTEM_FILES for name in names)


def sealed_names(root: Path) -> set[str]:
    """What ``SHA256SUMS`` names; nothing where it is not there.

    Raises:
        ArtifactError: it is larger than one is.
        ValueError: it is no UTF-8 text.
    """
    listed = read_kept(root / SUMS, MAX_SUMS_BYTES).decode() if (root / SUMS).is_file() else ""
    return {line.partition("  ")[2] for line in listed.splitlines()}


def check_output(out: Path, ours: Callable[[Path], bool] = is_output) -> None:
    """Refuse an output path that holds something which is not ours.

    Args:
        out: where something is to be put.
        ours: whether a directory is an earlier output of the same kind.

    Raises:
        UsageError: the path is a file, a mount point, or a directory that is neither empty nor ours.
    """
    if os.path.ismount(os.path.realpath(out)):
        raise _is_mount_point(out)
    if out.is_dir() and (not any(out.iterdir()) or ours(out)):
        return
    if out.exists() or out.is_symlink():
        raise UsageError(
            f"{str(out)!r} exists and was not made by edgekit, or not all that is in it",
            id="usage.output-taken",
            why="allowed: a new path, an empty directory, or an earlier output of edgekit, which is replaced",
            hint="Choose another path with -o.",
        )


def _is_mount_point(out: Path) -> UsageError:
    return UsageError(
        f"{str(out)!r} is a mount point",
        id="usage.output-taken",
        why="an output is put in its place in one step, which cannot be done with a mount point",
        hint=f"Name a folder inside it: {out / 'model'}",
    )


def publish(staged: Path, out: Path, ours: Callable[[Path], bool] = is_output) -> None:
    """Put a finished directory in the place of ``out`` in one step: a reader sees the old or the new one, never a mix.

    ``staged`` lies on the same file system as ``out``, and is gone afterwards. ``ours`` is that of ``check_output``.
    """
    check_output(out, ours)
    write_through(staged)
    out = out.resolve()  # a link to an earlier output stays a link
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        if moved(staged, out):
            return
    except OSError as error:
        if error.errno == errno.EBUSY:  # a folder of the same file system is mounted there, which no path shows
            raise _is_mount_point(out) from error
        raise
    if exchange(staged, out):
        shutil.rmtree(staged, ignore_errors=True)  # the old one, by now
        return
    old = staged.with_name(f"{staged.name}-old")  # a system without renameat2: two renames
    out.rename(old)
    try:
        staged.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def moved(folder: Path, place: Path) -> bool:
    """Rename a folder, unless one that is not empty lies where it is to be: then False, and both stay."""
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def write_through(folder: Path) -> None:
    """Have all of a directory on the disk: else its name may be there after a power cut, and its files empty."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories atomically (Linux ``renameat2``, ``RENAME_EXCHANGE``); False where that cannot be had."""
    at_fdcwd, rename_exchange = -100, 2
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if function(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(other))
