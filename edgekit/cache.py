"""The cache: finished stages by the sha256 of everything that decides them, and the unfinished work of running ones.

    objects/KEY/     a finished artifact, with the hash of each file; read only after every hash was checked
    work/KEY/        checkpoints of a stage that runs; taken up by the next run of the same key, then removed
    runs/KEY/        what a run decided by measurement, and its log
    tmp/ID/          what is being written, before it is renamed into place
    roots/KIND-KEY/  what an emulated processor runs with, see ``devices/emulation/root.py``
    demo/KEY/        the model and the data of `edgekit demo`, copied out of their object
    processes/       which process uses which of these, see ``marks.py``

Nothing that computes depends on a lock: an object is written under a name of its own and renamed into place, and the
second of two writers keeps what the first one put there. When an object was last used is the time of its list of files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import walk, write_text
from edgekit.marks import mark
from edgekit.source import sha256_file

OBJECT = ".object.json"
SCHEMA = "edgekit.object/1"

log = logging.getLogger(__name__)


def cache_key(*parts: JsonValue) -> str:
    """sha256 of the parts' canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def default_root() -> Path:
    """``$EDGEKIT_CACHE``, else ``edgekit`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if configured := os.environ.get("EDGEKIT_CACHE"):
        return Path(configured).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgekit"


class Cache:
    """A directory of finished and unfinished work.

    Args:
        root: where it lies; ``default_root()`` when None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def get(self, key: str) -> Path | None:
        """The finished object of a key, or None. A corrupt one is named in the log, removed, and counts as absent."""
        folder = self.root / "objects" / key
        if not folder.is_dir():
            return None
        mark(self.root, f"objects/{key}")
        problem = find_damage(folder)
        if problem is None:
            with contextlib.suppress(OSError):  # a cache that may only be read
                os.utime(folder / OBJECT)
            return folder
        log.warning("cache: object %s is damaged (%s); it is made again", key[:12], problem)
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def put(self, key: str, folder: Path) -> Path:
        """Move a finished directory into the cache and return where it lies now."""
        files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in walk(folder)}
        write_text(folder / OBJECT, json.dumps({"schema": SCHEMA, "files": files}, indent=1, sort_keys=True))
        mark(self.root, f"objects/{key}")
        place = self.root / "objects" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(place)
        except OSError:
            if self.get(key) is None:  # what was there was damaged, and is gone now
                folder.rename(place)
            else:
                shutil.rmtree(folder)
        return place

    def scratch(self) -> Path:
        """A new empty directory on the cache's file system."""
        name = uuid.uuid4().hex
        mark(self.root, f"tmp/{name}")
        folder = self.root / "tmp" / name
        folder.mkdir(parents=True)
        return folder

    def work(self, key: str) -> Path:
        """The directory in which a stage keeps its checkpoints."""
        mark(self.root, f"work/{key}")
        folder = self.root / "work" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget_work(self, key: str) -> None:
        """Remove a stage's checkpoints, once its result is an object."""
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def run(self, key: str) -> Path:
        """The directory of a run's decisions and log."""
        mark(self.root, f"runs/{key}")
        folder = self.root / "runs" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def object_files(folder: Path) -> list[Path]:
    """The files of a cached object without the cache's own."""
    return [path for path in walk(folder) if path.name != OBJECT]


def copy_object(folder: Path, destination: Path) -> None:
    """Copy a cached object out of the cache, keeping its layout; files become readable by everyone (0644)."""
    for path in object_files(folder):
        copied = destination / path.relative_to(folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
        copied.chmod(0o644)


def find_damage(folder: Path) -> str | None:
    """What of an object is not as it was put, or None: every file is hashed."""
    try:
        record = json.loads((folder / OBJECT).read_text(encoding="utf-8"))
        expected = dict(record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{OBJECT} cannot be read"
    present = {path.relative_to(folder).as_posix(): path for path in object_files(folder)}
    if missing := expected.keys() ^ present.keys():
        return f"{min(missing)} is missing or was added"
    for name, path in present.items():
        try:
            if sha256_file(path) != expected[name]:
                return f"{name} changed"
        except OSError:
            return f"{name} cannot be read"
    return None


@contextmanager
def folders_in(root: Path) -> Iterator[Callable[[], Path]]:
    """Makes empty folders in ``root``; it is gone after the block, and they with it unless they were moved away."""
    numbers = count()

    def make() -> Path:
        folder = root / str(next(numbers))
        folder.mkdir()
        return folder

    try:
        yield make
    finally:
        shutil.rmtree(root, ignore_errors=True)
