"""Pieces that every view is made of: tables, titles, lists. Text is never read as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_DIGEST = re.compile(r"[0-9a-f]{64}")
SHORT_DIGEST = 12  # characters of a sha256 that are shown
LONGEST = 12  # items of a list that are still shown one by one
GOOD, BAD, DOUBT, FAINT, STRONG = "green", "red", "yellow", "dim", "bold"


def make_table(*columns: str, right: Sequence[str] = (), unbroken: Sequence[str] = ()) -> Table:
    """A table with a line under its header.

    Args:
        columns: headers.
        right: those whose cells stand to the right.
        unbroken: those whose cells keep to one line each.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style=STRONG)
    for name in columns:
        table.add_column(
            Text(name), justify="right" if name in right else "left", no_wrap=name in unbroken, overflow="fold"
        )
    return table


def whole_line(*parts: str | tuple[str, str]) -> Text:
    """A line that is neither broken nor cut at a terminal's edge: it has a path in it, which somebody may copy.

    Args:
        *parts: texts, or texts with their style.
    """
    return Text.assemble(*parts, no_wrap=True, overflow="ignore")


def make_grid(rows: Iterable[Sequence[str | Text]]) -> Table:
    """Rows without a header; all but the last column keep to one line, and the last wraps under itself."""
    given = [list(row) for row in rows]
    grid = Table.grid(padding=(0, 2))
    for index in range(max((len(row) for row in given), default=0)):
        grid.add_column(no_wrap=index < len(given[0]) - 1, overflow="fold")
    for row in given:
        grid.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return grid


def title(text: str) -> Padding:
    """A heading, with a line above it."""
    return Padding(Text(text, style=STRONG), (1, 0, 0, 0))


def items(texts: Iterable[str], style: str = "") -> Table:
    """A list with dashes."""
    return make_grid([(Text("-", style=style), Text(text, style=style)) for text in texts])


def pairs(values: Mapping[str, object]) -> str:
    """A flat mapping in one line: ``batch 1, tokens 128``; None is left out."""
    return ", ".join(f"{key} {_plain(value)}" for key, value in values.items() if value is not None)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return " ".join(_plain(item) for item in value) if len(value) <= LONGEST else f"({len(value)} of them)"
    if isinstance(value, Mapping):
        return f"({pairs(value)})"
    return f"{value[:SHORT_DIGEST]}..." if isinstance(value, str) and _DIGEST.fullmatch(value) else str(value)


def workload_of(task: str, workload: Mapping[str, object]) -> str:
    """A workload in one line, without what does not matter to the task: images have no length in tokens."""
    unused = "tokens" if task.startswith("image") else "image"
    return pairs({name: value for name, value in workload.items() if name != unused})
