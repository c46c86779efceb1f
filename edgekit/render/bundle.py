"""A bundle that was made, and the check of one, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Group, RenderableType

from edgekit.render import figures
from edgekit.render.parts import BAD, GOOD, STRONG, items, whole_line


class BundleFacts(Protocol):
    """What a view needs of a bundle that was made."""

    @property
    def path(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def files(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def model_bytes(self) -> int: ...


class ProblemFacts(Protocol):
    """One thing that is wrong."""

    @property
    def rule(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def what(self) -> str: ...


class CheckFacts(Protocol):
    """What a view needs of a check."""

    @property
    def path(self) -> str: ...
    @property
    def files(self) -> int: ...
    @property
    def rules(self) -> Sequence[str]: ...
    @property
    def problems(self) -> Sequence[ProblemFacts]: ...


def bundle_view(record: BundleFacts) -> RenderableType:
    """What ``bundle`` prints."""
    size, model = (figures.measurement("size", "bytes", value) for value in (record.size_bytes, record.model_bytes))
    lines = [
        f"{record.files} files, {size}; the model as {record.form}, {model}",
        "its self-test gives the artifact's answers",
    ]
    head = whole_line(("bundled", f"{STRONG} {GOOD}"), f"  for {record.platform}  {record.path}")
    return Group(head, items(lines))


def check_view(record: CheckFacts) -> RenderableType:
    """What ``bundle check`` prints."""
    if record.problems:
        lines = [f"{one.rule}: {one.where}: {one.what}" for one in record.problems]
        return Group(whole_line(("broken", f"{STRONG} {BAD}"), f"  {record.path}"), items(lines))
    lines = [f"{record.files} files, each hashed; {len(record.rules)} rules hold"]
    return Group(whole_line(("sound", f"{STRONG} {GOOD}"), f"  {record.path}"), items(lines))
