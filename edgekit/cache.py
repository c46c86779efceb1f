"""The cache: finished stages by the sha256 of everything that decides them, and the unfinished work of running ones.

    objects/KEY/     a finished artifact, with the hash of each file; read only after every hash was checked
    work/KEY/        checkpoints of a stage that runs, with hashes likewise, or what the trainings of a run share; taken
                     up by the next run of the same key, then removed
    runs/KEY/        what a run decided by measurement, and its log
    tmp/ID/          what is being written, before it is renamed into place
    turns/KEY        locked by the process that makes an object, see ``turns.py``
    roots/KIND-KEY/  what an emulated processor runs with, see ``devices/emulation/root.py``
    demo/KEY/        the model and the data of `edgekit demo`, copied out of their object
    processes/       which process uses which of these, see ``marks.py``

Nothing that computes depends on a lock: an object is written under a name of its own and renamed into place, and the
second of two writers keeps what the first one put there. An object that is damaged is no object: it is named in the
log, and whoever makes it anew exchanges the two in one step. When an object was last used is the time of its list of
files. That list is ``.object.json``: sha256 of each file, what the stage decided by measurement, and sha256 of these.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from edgekit.artifact import is_plain, walk, write_text
from edgekit.marks import DAY_SECONDS, left_behind, mark, used_entries
from edgekit.placing import exchange, moved, write_through
from edgekit.source import sha256_file
from edgekit.turns import sweep_turns, turn

OBJECT = ".object.json"
SCHEMA = "edgekit.object/2"
# How the folder is called in which an output is put together, beside it: .NAME.edgekit-ID
STAGED = "edgekit-"

# Told of what is damaged, beside the log.
listeners: list[Callable[[str], object]] = []

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


class Filled(NamedTuple):
    """A folder that is to become an object, and sha256 of files of it that were hashed since they were written."""

    folder: Path
    known: Mapping[str, JsonValue] = {}


class Cache:
    """A directory of finished and unfinished work.

    Args:
        root: where it lies; ``default_root()`` when None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self._named: set[str] = set()
        self._work: dict[str, Path] = {}

    def get(self, key: str) -> Path | None:
        """The finished object of a key, or None. A corrupt one is named in the log, once, and counts as absent."""
        folder = self.root / "objects" / key
        if not folder.is_dir():
            return None
        mark(self.root, f"objects/{key}")
        problem = find_damage(folder)
        if problem is None:
            with contextlib.suppress(OSError):  # a cache that may only be read
                os.utime(folder / OBJECT)
            return folder
        if key not in self._named:
            self._named.add(key)
            name_damage(f"object {key[:12]} is damaged ({problem}); it is made again")
        return None

    def put(
        self,
        key: str,
        folder: Path,
        decided: Mapping[str, JsonValue] | None = None,
        known: Mapping[str, JsonValue] | None = None,
    ) -> Path:
        """Move a finished directory into the cache and return where it lies now.

        Args:
            key: of the object.
            folder: on the cache's file system, as ``scratch`` makes them; gone afterwards.
            decided: what was decided by measurement while it was made.
            known: sha256 of files of it that were hashed since they were written, by name.
        """
        record_files(folder, decided, known)
        mark(self.root, f"objects/{key}")
        place = self.root / "objects" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        if not moved(folder, place):
            if find_damage(place) is not None:
                replace(folder, place)
            shutil.rmtree(folder, ignore_errors=True)
        self._named.discard(key)
        return place

    def get_or_make(self, key: str, make: Callable[[Callable[[], Path]], Filled]) -> Path:
        """The object of a key: as it lies here, or made now, by one process at a time.

        Args:
            key: of the object.
            make: gets what makes empty folders, and returns the one that becomes the object.
        """
        found = self.get(key)
        if found is None:
            with turn(self.root, key):
                found = self.get(key)
                if found is None:
                    with folders_in(self.scratch()) as scratch:
                        filled = make(scratch)
                        found = self.put(key, filled.folder, known=filled.known)
        return found

    def scratch(self) -> Path:
        """A new empty directory on the cache's file system."""
        folder = self.root / "tmp" / self.claim()
        folder.mkdir(parents=True)
        return folder

    def claim(self) -> str:
        """A name that no other process has, for what is given up when this one ends: see ``sweep``."""
        name = uuid.uuid4().hex
        mark(self.root, f"tmp/{name}")
        return name

    def work(self, key: str) -> Path:
        """The directory in which a stage keeps its checkpoints, or a run what its trainings share.

        It is the same one until it is forgotten, whoever else begins meanwhile. Where another living process works in
        it already, it is one that nobody goes on with; of a stage that is so only without locks.
        """
        mark(self.root, f"work/{key}")
        if key not in self._work:
            self._work[key] = self.scratch() if self._is_shared(f"work/{key}") else self.root / "work" / key
        return self._tidy(self._work[key])

    def forget_work(self, key: str) -> None:
        """Remove a stage's checkpoints, once its result is an object."""
        folder = self.root / "work" / key
        mine = self._work.pop(key, folder)
        if mine != folder:
            shutil.rmtree(mine, ignore_errors=True)
        if folder.is_dir() and not self._is_shared(f"work/{key}"):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, key: str) -> Path:
        """The directory of a run's decisions and log."""
        mark(self.root, f"runs/{key}")
        folder = self.root / "runs" / key
        if self._is_shared(f"runs/{key}"):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        return self._tidy(folder)

    def sweep(self, out: Path) -> None:
        """Remove what ended processes left half-written, here and beside an output."""
        left, used = left_behind(self.root), used_entries(self.root)
        written = [(folder, f"tmp/{folder.name}") for folder in (self.root / "tmp").glob("*")]
        for staged in out.parent.glob(f".{glob.escape(out.name)}.{STAGED}*"):
            written.append((staged, f"tmp/{staged.name.rpartition(STAGED)[2].partition('-')[0]}"))
        for folder, entry in written:
            with contextlib.suppress(OSError):  # gone meanwhile
                old = time.time() - folder.stat().st_mtime > DAY_SECONDS  # whose process nobody knows any more
                if entry in left or (old and entry not in used):
                    shutil.rmtree(folder)
        sweep_turns(self.root)

    def _is_shared(self, entry: str) -> bool:
        return entry in used_entries(self.root)

    @staticmethod
    def _tidy(folder: Path) -> Path:
        """Make a folder, and remove what a killed process has half-written there."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return folder


def record_files(
    folder: Path, decided: Mapping[str, JsonValue] | None = None, known: Mapping[str, JsonValue] | None = None
) -> None:
    """Write the list of a folder's files with their hashes, by which ``find_damage`` sees whether they are whole.

    Args:
        folder: of an object.
        decided: what was decided by measurement while it was made.
        known: sha256 of files of it that were hashed since they were written, by name.
    """
    names = {path.relative_to(folder).as_posix(): path for path in object_files(folder)}
    files: dict[str, JsonValue] = {name: (known or {}).get(name) or sha256_file(path) for name, path in names.items()}
    record: dict[str, JsonValue] = {"schema": SCHEMA, "files": files, "decided": dict(decided or {})}
    write_text(folder / OBJECT, json.dumps(record | {"sha256": cache_key(record)}, indent=1, sort_keys=True))


def name_damage(what: str) -> None:
    """Say what of the cache is damaged, and what is done about it."""
    log.warning("cache: %s", what)
    for tell in listeners:
        tell(what)


def put_whole(staged: Path, place: Path) -> None:
    """Record a folder's files and put it where a later process looks for it, all of it on the disk by then.

    Args:
        staged: the folder; gone afterwards.
        place: on the same file system; what lies there is removed.
    """
    record_files(staged)
    write_through(staged)
    shutil.rmtree(place, ignore_errors=True)
    staged.rename(place)


def put_first(staged: Path, place: Path) -> None:
    """Put a folder where a later process looks for it, unless one lies there; all of it is on the disk by then.

    Args:
        staged: the folder; gone afterwards, but where another process was first.
        place: on the same file system.
    """
    write_through(staged)
    place.parent.mkdir(parents=True, exist_ok=True)
    moved(staged, place)


def object_files(folder: Path) -> list[Path]:
    """The files of a cached object without the cache's own."""
    return [path for path in walk(folder) if path != folder / OBJECT]


def decided_in(folder: Path) -> dict[str, JsonValue]:
    """What was decided by measurement while an object was made."""
    return dict(json.loads((folder / OBJECT).read_text(encoding="utf-8"))["decided"])


def sums_in(folder: Path) -> dict[str, str]:
    """sha256 of each file of an object by its name."""
    return dict(json.loads((folder / OBJECT).read_text(encoding="utf-8"))["files"])


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
        expected, own, schema = dict(record["files"]), record.pop("sha256", None), record["schema"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"{OBJECT} cannot be read"
    if schema != SCHEMA or own != cache_key(record):
        return f"{OBJECT} changed"
    present = {path.relative_to(folder).as_posix(): path for path in object_files(folder)}
    if missing := expected.keys() ^ present.keys():
        return f"{min(missing)} is missing or was added"
    for name, path in present.items():
        try:
            if not is_plain(path) or sha256_file(path) != expected[name]:
                return f"{name} changed"
        except OSError:
            return f"{name} cannot be read"
    return None


def newest_whole(folder: Path, prefix: str) -> Path | None:
    """The last folder, by name, of those that begin so and are as they were recorded; the log names damaged ones.

    Args:
        folder: what they lie in.
        prefix: what their names begin with; so many digits follow that their order is that of the numbers.
    """
    for place in sorted(folder.glob(f"{prefix}*"), reverse=True):
        problem = find_damage(place)
        if problem is None:
            return place
        name_damage(f"the checkpoint {place.name} is damaged ({problem}); an earlier one is taken")
    return None


def replace(folder: Path, place: Path) -> None:
    """Put a folder in the place of a damaged one, which is in its own afterwards, or gone."""
    if not exchange(folder, place):  # a system without renameat2: for a moment there is none
        away = folder.with_name(f"{folder.name}-damaged")
        place.rename(away)
        folder.rename(place)
        shutil.rmtree(away, ignore_errors=True)


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


@contextmanager
def folder_beside(out: Path, cache: Cache) -> Iterator[Path]:
    """An empty folder beside an output, gone after the block, or with ``sweep`` should this process be killed.

    Args:
        out: the output; it does not have to be there.
        cache: in which the folder is marked.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.with_name(f".{out.name}.{STAGED}{cache.claim()}")
    try:
        staged.mkdir()
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def temporary() -> Iterator[Path]:
    """An empty folder, gone after the block; should this process be killed, the next run removes it.

    It lies in the cache, and where that may only be read, in the system's temporary folder.
    """
    try:
        folder = Cache().scratch()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
