"""What a run decides by measurement: written down as it falls, so that the run can be gone on with, and repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import write_text
from edgekit.stages.base import Decisions

DECISIONS = "decisions.json"


class RunDecisions(Decisions):
    """Decisions of a run, written down the moment they fall; those of a lock come first.

    Args:
        file: where they are kept.
        locked: the lock's.
    """

    def __init__(self, file: Path, locked: dict[str, JsonValue]) -> None:
        self._file = file
        self.locked = locked
        self.known: dict[str, JsonValue] = dict(locked)
        if file.is_file():
            self.known |= json.loads(file.read_text(encoding="utf-8"))

    def decide(self, name: str, measure: Callable[[], JsonValue]) -> JsonValue:
        """The decision of this name."""
        if name not in self.known:
            self.known[name] = measure()
            write_text(self._file, json.dumps(self.known, indent=1, sort_keys=True))
        return self.known[name]

    def adopt(self, decided: Mapping[str, JsonValue]) -> None:
        """Take what was decided elsewhere, unless it is decided here."""
        for name, value in decided.items():
            self.decide(name, lambda value=value: value)  # type: ignore[misc]  # mypy: a default is no argument

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
