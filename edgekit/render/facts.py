"""Facts that stand below a table: what was measured, on what, and lists with a heading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.render.parts import STRONG, items, make_grid, pairs, title
from edgekit.render.wording import runtime_text

# What of a host is worth a line; all of it is in the JSON document.
HOST_KEYS = ("processor", "architecture", "cores")


def titled(heading: str, lines: Sequence[str], style: str = "") -> list[RenderableType]:
    """A list under its heading; nothing where it is empty."""
    return [title(heading), items(lines, style)] if lines else []


def machine_facts(host: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What of a host is worth a line."""
    return {key: host[key] for key in HOST_KEYS if key in host}


def facts(groups: Mapping[str, Mapping[str, object]]) -> Table:
    """Groups of facts, one a line, under their names."""
    return make_grid([(Text(name, style=STRONG), pairs(values)) for name, values in groups.items() if values])


def named(runtime: Mapping[str, object]) -> dict[str, object]:
    """A runtime's facts with the name that people call it."""
    return {**runtime, "name": runtime_text(str(runtime.get("name")))}
