"""What a run decides by measurement: written down as it falls, so that the run can be gone on with, and repeated.

Each file has a sum over what it says. One that is not as it was written is named in the log and removed: what it said
is decided again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import write_text
from edgekit.cache import cache_key, replace
from edgekit.stages.base import Decisions

DECISIONS = "decisions.json"
# Beside it, a folder for each decision with the one file ``DECISION``.
CLAIMS, DECISION = "decided", "decision.json"
SCHEMA = "edgekit.decisions/1"

log = logging.getLogger(__name__)


def read_decided(file: Path) -> dict[str, JsonValue]:
    """What a file of decisions says.

    Raises:
        ValueError: it is not as it was written.
        FileNotFoundError: it is not there.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.pop("sha256") == cache_key(record) and record["schema"] == SCHEMA:
            return dict(record["decided"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it cannot be read") from error
    raise ValueError("it changed")


def find_damage(folder: Path) -> str | None:
    """The first file of a run's decisions that is not as it was written, and how; None where all are."""
    for file in _files(folder):
        try:
            read_decided(file)
        except FileNotFoundError:
            continue
        except ValueError as error:
            return f"{file.relative_to(folder).as_posix()}: {error}"
    return None


def _files(folder: Path) -> list[Path]:
    return [*sorted((folder / CLAIMS).glob(f"*/{DECISION}")), folder / DECISIONS]


def _write(file: Path, decided: Mapping[str, JsonValue]) -> None:
    record: dict[str, JsonValue] = {"schema": SCHEMA, "decided": dict(decided)}
    write_text(file, json.dumps(record | {"sha256": cache_key(record)}, indent=1, sort_keys=True))


class RunDecisions(Decisions):
    """Decisions of a run, written down the moment they fall; those of a lock come first.

    Of several processes that do the same run at once, the first to decide something decides it for all: a decision is a
    folder that is renamed into place, which fails where there is one already.

    Args:
        file: where they are kept.
        locked: the lock's.
    """

    def __init__(self, file: Path, locked: dict[str, JsonValue]) -> None:
        self._file = file
        self.locked = locked
        self.known: dict[str, JsonValue] = dict(locked)
        self.known |= self._written()

    def decide(self, name: str, measure: Callable[[], JsonValue]) -> JsonValue:
        """The decision of this name."""
        if name not in self.known:
            self._write({name: self._first(name, measure())})
        return self.known[name]

    def adopt(self, decided: Mapping[str, JsonValue]) -> None:
        """Take what was decided while an object was made that this run takes, unless the lock says otherwise."""
        taken = {name: value for name, value in decided.items() if name not in self.locked}
        if any(name not in self.known or self.known[name] != value for name, value in taken.items()):
            self._write(taken)

    def _first(self, name: str, value: JsonValue) -> JsonValue:
        """What the first process decided, which may be this one."""
        claim = self._file.parent / CLAIMS / hashlib.sha256(name.encode()).hexdigest()[:32]
        mine = self._file.parent / f".{uuid.uuid4().hex}"
        mine.mkdir(parents=True)
        _write(mine / DECISION, {name: value})
        claim.parent.mkdir(exist_ok=True)
        try:
            mine.rename(claim)
            return value
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            first = self._read(claim / DECISION)
            if name not in first:  # it was damaged: this process is the first, then
                replace(mine, claim)
                return value
            return first[name]
        finally:
            shutil.rmtree(mine, ignore_errors=True)

    def _write(self, decided: Mapping[str, JsonValue]) -> None:
        self.known = self._written() | self.known | dict(decided)
        _write(self._file, self.known)

    def _written(self) -> dict[str, JsonValue]:
        """What is on the disk, be it of this process or of another one."""
        found: dict[str, JsonValue] = {}
        for file in _files(self._file.parent):
            found |= self._read(file)
        return found

    def _read(self, file: Path) -> dict[str, JsonValue]:
        """What a file says; nothing where it is absent. A damaged one is named in the log, and removed."""
        with contextlib.suppress(FileNotFoundError):
            try:
                return read_decided(file)
            except ValueError as error:
                log.warning("cache: %s is damaged (%s); what it said is decided again", file, error)
                with contextlib.suppress(OSError):  # a cache that may only be read
                    file.unlink()
        return {}

    def inside(self, stage: str) -> dict[str, JsonValue]:
        """What was decided inside one stage."""
        return {name: value for name, value in self.known.items() if name.startswith(f"{stage}.")}

    def locked_for(self, stage: str) -> dict[str, JsonValue]:
        """What a lock has decided inside one stage."""
        return {name: value for name, value in self.locked.items() if name.startswith(f"{stage}.")}


class Noted(Decisions):
    """The decisions of a run, and which of them were asked for.

    Args:
        inner: of the run.
    """

    def __init__(self, inner: Decisions) -> None:
        self._inner = inner
        self.made: dict[str, JsonValue] = {}

    def decide(self, name: str, measure: Callable[[], JsonValue]) -> JsonValue:
        """The decision of this name."""
        self.made[name] = self._inner.decide(name, measure)
        return self.made[name]

    def inside(self, stage: str) -> dict[str, JsonValue]:
        """What was decided inside one stage so far."""
        return self._inner.inside(stage)
