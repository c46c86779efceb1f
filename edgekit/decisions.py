"""What a run decides by measurement: written down as it falls, so that the run can be gone on with, and repeated.

A file that is not as it was written is named in the log and removed: what it said is decided again.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from edgekit.cache import replace
from edgekit.placing import moved
from edgekit.stages.base import Decisions
from edgekit.summed import read_summed, write_summed

DECISIONS = "decisions.json"
# Beside it, a folder for each decision with the one file ``DECISION``.
CLAIMS, DECISION = "decided", "decision.json"
SCHEMA = "edgekit.decisions/1"


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
        write_summed(mine / DECISION, SCHEMA, {"decided": {name: value}})
        claim.parent.mkdir(exist_ok=True)
        try:
            if moved(mine, claim):
                return value
            first = _read(claim / DECISION)
            if name not in first:  # it was damaged: this process is the first, then
                replace(mine, claim)
                return value
            return first[name]
        finally:
            shutil.rmtree(mine, ignore_errors=True)

    def _write(self, decided: Mapping[str, JsonValue]) -> None:
        self.known = self._written() | self.known | dict(decided)
        write_summed(self._file, SCHEMA, {"decided": self.known})

    def _written(self) -> dict[str, JsonValue]:
        """What is on the disk, be it of this process or of another one."""
        found: dict[str, JsonValue] = {}
        folder = self._file.parent
        for file in (*sorted((folder / CLAIMS).glob(f"*/{DECISION}")), self._file):
            found |= _read(file)
        return found

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


def _read(file: Path) -> dict[str, JsonValue]:
    """What a file of decisions says; nothing where it is absent."""
    record = read_summed(file, SCHEMA)
    return dict(cast("dict[str, JsonValue]", record["decided"])) if record is not None else {}
