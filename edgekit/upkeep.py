"""Looking after the cache: what lies in it, whether it is sound, and removing what is not needed.

What a living process uses is never removed: each process says so (``marks.py``). Unfinished work that no process of
the last day has named was left by something else; whether that still runs cannot be known, and it stays until nothing
in it has changed for a day.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edgekit.artifact import MANIFEST, SUMS, walk
from edgekit.cache import OBJECT, Cache, find_damage, object_files
from edgekit.devices.emulation.root import find_root_damage
from edgekit.marks import DAY_SECONDS, mark, read_marks, used_entries
from edgekit.progress import Progress, Silent
from edgekit.settings import Frozen
from edgekit.sizes import read_size
from edgekit.source import MODULE
from edgekit.summed import find_damage as find_damaged_record

LIMIT = "EDGEKIT_CACHE_LIMIT"

log = logging.getLogger(__name__)

Place = Literal["objects", "work", "runs", "tmp", "demo", "roots"]
Use = Literal["free", "in use", "unknown"]
PLACES: tuple[Place, ...] = ("objects", "work", "runs", "tmp", "demo", "roots")
HASHED = ("objects", "demo", "roots")
# Entries that a process works in; the others are whole, or small.
UNFINISHED = ("work", "tmp")
OUTPUTS, DEMO_MODEL, EVENTS = "outputs.safetensors", "digits-vit", "events.jsonl"
# A teacher's answers, which the trainings of a run share (stages/distill.py), and what their folder is called here.
ANSWERS, KEPT_ANSWERS = "answers-*", "answers"
# What the events of a stage's log begin with.
EVENT_STAGES = {"distill": "distill", "calibration": "quantize"}
KINDS: dict[Place, str] = {
    "objects": "object",
    "work": "unfinished",
    "runs": "decisions",
    "tmp": "being written",
    "demo": "demo",
    "roots": "emulator",
}


class Entry(Frozen):
    """One entry of the cache.

    Attributes:
        place: folder of the cache that it lies in.
        key: its name there.
        kind: ``stage``, ``original``, ``result``, ``outputs``, ``demo``, ``module``, ``unfinished``, ``answers`` ...
        stage: name of the stage that it is the result of, of an emulator its kind; empty where that is not known.
        source: name of the model that it came from; empty where it is not known.
        files: how many.
        size_bytes: of all of them.
        created: when it was put there, in seconds since 1970.
        used: when it was last used; of unfinished work, last changed.
        use: whether a living process uses it.
        processes: the numbers of these processes.
    """

    place: Place
    key: str
    kind: str
    stage: str
    source: str
    files: int
    size_bytes: int
    created: float
    used: float
    use: Use
    processes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.place}/{self.key}"


class Listing(Frozen):
    """What lies in a cache, the last used first."""

    schema_: Literal["edgekit.cache/1"] = Field("edgekit.cache/1", alias="schema")
    root: str
    now: float
    entries: tuple[Entry, ...]
    size_bytes: int
    free_bytes: int


class Damage(Frozen):
    """An entry that is not as it was put.

    Attributes:
        name: its place and key.
        problem: what is wrong.
        removed: whether it was removed.
    """

    name: str
    problem: str
    removed: bool


class Soundness(Frozen):
    """What ``cache verify`` checked.

    Attributes:
        objects, files, size_bytes: what was hashed.
        damaged: what is not as it was put.
        unchecked: entries of which the cache keeps no hashes: work in progress, decisions of runs.
    """

    schema_: Literal["edgekit.cache-verify/1"] = Field("edgekit.cache-verify/1", alias="schema")
    root: str
    objects: int
    files: int
    size_bytes: int
    damaged: tuple[Damage, ...]
    unchecked: int

    @property
    def sound(self) -> bool:
        return all(damage.removed for damage in self.damaged)


class Pruning(Frozen):
    """What ``cache prune`` removed, or would.

    Attributes:
        removed: entries that were removed; in a dry run, that would be.
        kept_in_use: entries that were to go, and that living processes use.
        kept_unknown: unfinished work that was to go, and of which it is not known whether a process uses it.
        freed_bytes: size of what was removed.
        left_bytes: size of what is left.
        dry_run: whether nothing was removed.
    """

    schema_: Literal["edgekit.cache-prune/1"] = Field("edgekit.cache-prune/1", alias="schema")
    root: str
    removed: tuple[Entry, ...]
    kept_in_use: tuple[Entry, ...]
    kept_unknown: tuple[Entry, ...]
    freed_bytes: int
    left_bytes: int
    dry_run: bool


@dataclass(frozen=True)
class Choice:
    """What is to go; without any, what ended processes left behind and no run needs: what is half-written, and answers.

    Attributes:
        older_than: entries that were not used for so many seconds.
        keep_below: the longest unused until the rest has so many bytes at most.
        everything: all of it.
    """

    older_than: float | None = None
    keep_below: int | None = None
    everything: bool = False


def list_cache(cache: Cache, now: float | None = None) -> Listing:
    """Every entry of a cache, the last used first."""
    moment = time.time() if now is None else now
    used, named = used_entries(cache.root), _named(cache.root)
    entries = []
    for place in PLACES:
        for folder in sorted((cache.root / place).glob("*")):
            with contextlib.suppress(OSError):  # removed meanwhile
                entries.append(_entry(place, folder, used, named, moment))
    root = cache.root if cache.root.exists() else next(path for path in cache.root.parents if path.exists())
    return Listing(
        root=str(cache.root),
        now=moment,
        entries=tuple(sorted(entries, key=lambda entry: -entry.used)),
        size_bytes=sum(entry.size_bytes for entry in entries),
        free_bytes=shutil.disk_usage(root).free,
    )


def verify_cache(cache: Cache, *, fix: bool = False, progress: Progress | None = None) -> Soundness:
    """Hash every file of every object again, and what each run has decided.

    Args:
        cache: the cache.
        fix: remove what is damaged and not in use.
        progress: told how far it is.
    """
    told, listing = progress or Silent(), list_cache(cache)
    hashed = [entry for entry in listing.entries if entry.place in HASHED]
    told.start("verify the cache", len(hashed))
    damaged, unchecked = [], 0
    for entry in listing.entries:
        problem = _problem(cache, entry)
        if entry in hashed:
            told.advance()
        elif problem is None:
            unchecked += 1
        if problem is not None:
            removed = fix and entry.use == "free" and remove_entry(cache, entry)
            damaged.append(Damage(name=entry.name, problem=problem, removed=removed))
    told.finish()
    return Soundness(
        root=str(cache.root),
        objects=len(hashed),
        files=sum(entry.files for entry in hashed),
        size_bytes=sum(entry.size_bytes for entry in hashed),
        damaged=tuple(damaged),
        unchecked=unchecked,
    )


def plan_pruning(listing: Listing, choice: Choice) -> Pruning:
    """What a choice would remove."""
    chosen = list(_chosen(listing, choice))
    free = [entry for entry in chosen if entry.use == "free"]
    freed = sum(entry.size_bytes for entry in free)
    return Pruning(
        root=listing.root,
        removed=tuple(free),
        kept_in_use=tuple(entry for entry in chosen if entry.use == "in use"),
        kept_unknown=tuple(entry for entry in chosen if entry.use == "unknown"),
        freed_bytes=freed,
        left_bytes=listing.size_bytes - freed,
        dry_run=True,
    )


def carry_out(cache: Cache, plan: Pruning) -> Pruning:
    """Remove what a plan says, but what a process has begun to use meanwhile."""
    removed = [entry for entry in plan.removed if remove_entry(cache, entry)]
    late = [entry for entry in plan.removed if entry not in removed]
    freed = sum(entry.size_bytes for entry in removed)
    return plan.model_copy(
        update={
            "removed": tuple(removed),
            "kept_in_use": (*plan.kept_in_use, *late),
            "freed_bytes": freed,
            "left_bytes": plan.left_bytes + plan.freed_bytes - freed,
            "dry_run": False,
        }
    )


def read_limit() -> int | None:
    """The most bytes that a cache is to keep, from ``$EDGEKIT_CACHE_LIMIT``; None where there is no limit.

    Raises:
        UsageError: it is no size.
    """
    said = os.environ.get(LIMIT)
    return read_size(said, LIMIT) if said else None


def keep_below(cache: Cache, limit: int) -> None:
    """Remove what was not used for longest until so many bytes are left, but what living processes use."""
    plan = plan_pruning(list_cache(cache), Choice(keep_below=limit))
    if plan.removed:
        done = carry_out(cache, plan)
        log.info("cache: %d entries removed to keep below %s", len(done.removed), os.environ.get(LIMIT, limit))


def remove_entry(cache: Cache, entry: Entry) -> bool:
    """Remove an entry; False where a process uses it after all.

    A process says that it uses an entry before it looks for it. So it is seen here at once, or after the entry was
    moved away and the marks are read again: then it gets it back, unless it has found nothing and made it anew.
    """
    if entry.name in used_entries(cache.root):
        return False
    source, away = cache.root / entry.name, cache.root / "tmp" / f"removed-{uuid.uuid4().hex}"
    away.parent.mkdir(parents=True, exist_ok=True)
    mark(cache.root, f"tmp/{away.name}")
    try:
        source.rename(away)
    except FileNotFoundError:
        return True  # somebody else removed it
    if entry.name in used_entries(cache.root):
        with contextlib.suppress(OSError):  # the process has already made it anew
            away.rename(source)
            return False
    if away.is_dir() and not away.is_symlink():
        shutil.rmtree(away)
    else:
        away.unlink()
    return True


def _chosen(listing: Listing, choice: Choice) -> Iterator[Entry]:
    """Entries that are to go, whether they are free or not; the longest unused first."""
    left, oldest_first = listing.size_bytes, sorted(listing.entries, key=lambda entry: entry.used)
    for entry in oldest_first:
        leftover = entry.place == "tmp" or entry.kind == KEPT_ANSWERS
        old = choice.older_than is not None and listing.now - entry.used > choice.older_than
        # decisions are small, and repeat a run when they are kept
        too_much = choice.keep_below is not None and left > choice.keep_below and entry.place != "runs"
        if leftover or choice.everything or old or too_much:
            left -= entry.size_bytes if entry.use == "free" else 0
            yield entry


def _named(root: Path) -> frozenset[str]:
    """What processes named that ended within a day: nobody works on it any more."""
    return frozenset(entry for found in read_marks(root) if found.state == "ended" for entry in found.entries)


def _entry(place: Place, folder: Path, used: Mapping[str, tuple[int, ...]], named: frozenset[str], now: float) -> Entry:
    files = walk(folder) if folder.is_dir() else [folder]
    facts = [path.lstat() for path in files]
    times = [fact.st_mtime for fact in facts] or [folder.stat().st_mtime]
    changed = max(*times, folder.stat().st_mtime)
    if place == "objects" and (folder / OBJECT).is_file():  # where `Cache.get` leaves the time
        changed = (folder / OBJECT).stat().st_mtime
    kind, stage, source = _describe(place, folder)
    name = f"{place}/{folder.name}"
    # the demo's copy is used where its object is
    processes = used.get(name, ()) or (used.get(f"objects/{folder.name}", ()) if place == "demo" else ())
    use: Use = "in use" if processes else "free"
    if not processes and place in UNFINISHED and name not in named and now - changed < DAY_SECONDS:
        use = "unknown"
    return Entry(
        place=place,
        key=folder.name,
        kind=kind,
        stage=stage,
        source=source,
        files=len(files),
        size_bytes=sum(fact.st_size for fact in facts),
        created=folder.stat().st_mtime if place in ("objects", "roots") else min(times),
        used=changed,
        use=use,
        processes=processes,
    )


def _describe(place: Place, folder: Path) -> tuple[str, str, str]:
    """Kind of an entry, and where they are known, its stage and the model that it came from."""
    if place == "work":
        shared = any(folder.glob(ANSWERS))
        return (KEPT_ANSWERS, "distill", "") if shared else (KINDS[place], _working_on(folder), "")
    if place == "roots":
        return KINDS[place], folder.name.rpartition("-")[0], ""
    if place != "objects":
        return KINDS[place], "", ""
    manifest = _read_json(folder / MANIFEST)
    if isinstance(manifest, dict):
        stages, source = manifest.get("stages") or [], manifest.get("source") or {}
        stages = [one for one in stages if isinstance(one, dict)] if isinstance(stages, list) else []
        source = source if isinstance(source, dict) else {}
        stage = str(stages[-1].get("stage", "")) if stages else ""
        kind = "result" if (folder / SUMS).is_file() else "stage" if stages else "original"
        return kind, stage if kind == "stage" else "", str(source.get("name") or "")
    for name, kind in ((OUTPUTS, "outputs"), (MODULE, "module"), (DEMO_MODEL, "demo")):
        if (folder / name).exists():
            return kind, "", ""
    return KINDS[place], "", ""


def _working_on(folder: Path) -> str:
    """The stage whose checkpoints these are, told by the first event of its log."""
    try:
        with (folder / EVENTS).open(encoding="utf-8") as stream:
            event = json.loads(stream.readline())["event"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return EVENT_STAGES.get(str(event).partition(".")[0], "")


def _problem(cache: Cache, entry: Entry) -> str | None:
    """What is wrong with an entry, as far as the cache can tell."""
    folder = cache.root / entry.name
    if entry.place == "objects":
        return find_damage(folder)
    if entry.place == "roots":
        return find_root_damage(folder)
    if entry.place == "runs":
        return find_damaged_record(folder)
    return _differs(folder, cache.root / "objects" / entry.key) if entry.place == "demo" else None


def _differs(copy: Path, original: Path) -> str | None:
    """Whether the demo's copy has other sizes than the object that it was copied from, where that is still there."""
    if not original.is_dir():
        return None
    sizes = [
        {path.relative_to(root).as_posix(): path.stat().st_size for path in object_files(root)}
        for root in (copy, original)
    ]
    wrong = sorted(name for name in sizes[0].keys() | sizes[1].keys() if sizes[0].get(name) != sizes[1].get(name))
    return f"{wrong[0]} is not as in its object" if wrong else None


def _read_json(file: Path) -> Any:
    """A small JSON file; None where it is absent or cannot be read."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
