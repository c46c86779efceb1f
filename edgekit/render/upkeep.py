"""What the commands of ``cache`` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.bounds import visible
from edgekit.render import figures
from edgekit.render.parts import BAD, DOUBT, FAINT, GOOD, STRONG, items, make_grid, make_table, whole_line
from edgekit.report import MEGABYTE
from edgekit.upkeep import Entry, Listing, Pruning, Soundness

SHORT_KEY = 10
MINUTE, HOUR, DAY = 60, 3600, 86400
MOST_ROWS = 12


def listing_view(listing: Listing) -> RenderableType:
    """What ``cache ls`` prints."""
    where = whole_line((listing.root, STRONG))
    free = f"{figures.storage(listing.free_bytes)} free on its disk"
    if not listing.entries:
        return Group(where, Text(f"empty; {free}"))
    count = len(listing.entries)
    sums = f"{count} entr{'y' if count == 1 else 'ies'}, {figures.storage(listing.size_bytes)}; {free}"
    return Group(where, Text(sums), Text(), entries_table(listing.entries, listing.now))


def entries_table(entries: Sequence[Entry], now: float) -> RenderableType:
    """Entries, one a row; below them, which of them are in use."""
    figured = ("MB", "made", "used")
    table = make_table("what", "model", *figured, "key", right=figured, unbroken=("what", *figured, "key"))
    for entry in entries:
        cells = (what(entry), visible(entry.source), f"{entry.size_bytes / MEGABYTE:.1f}")
        times = (age(now - entry.created), age(now - entry.used))
        table.add_row(*map(Text, (*cells, *times)), Text(visible(entry.key[:SHORT_KEY]), style=FAINT))
    busy = [Text(f"{label(entry)}: {_user(entry)}", style=DOUBT) for entry in entries if entry.use != "free"]
    return Group(table, Text(), *busy) if busy else table


def what(entry: Entry) -> str:
    """What an entry is: ``stage quantize``, ``result``, ``unfinished distill``."""
    return visible(f"{entry.kind} {entry.stage}".strip())


def label(entry: Entry) -> str:
    """What it is, and the beginning of its key."""
    return f"{what(entry)} {visible(entry.key[:SHORT_KEY])}"


def age(seconds: float) -> str:
    """How long ago, in its largest unit: ``40 s``, ``5 min``, ``3 h``, ``12 d``."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def _user(entry: Entry) -> str:
    if entry.use == "in use":
        return f"used by process {', '.join(map(str, entry.processes))}"
    return "whether a process works on it is not known"


def soundness_view(record: Soundness) -> RenderableType:
    """What ``cache verify`` prints."""
    word = ("mended" if record.damaged else "sound") if record.sound else "damaged"
    lines = [f"{record.objects} objects with {record.files} files, {figures.storage(record.size_bytes)}, were hashed"]
    if record.unchecked:
        lines.append(f"{record.unchecked} entries of unfinished work and decisions have no hashes")
    parts: list[RenderableType] = [
        whole_line((word, f"{STRONG} {GOOD if record.sound else BAD}"), f"  {record.root}"),
        items(lines),
    ]
    if record.damaged:
        rows = [
            (
                Text("removed" if one.removed else "damaged", style=GOOD if one.removed else BAD),
                visible(_cut(one.name)),
                visible(one.problem),
            )
            for one in record.damaged
        ]
        parts += [Text(), make_grid(rows)]
    if not record.sound:
        parts.append(Text("--fix removes what is damaged and not in use; it is made again when it is needed."))
    return Group(*parts)


def pruning_view(record: Pruning, now: float) -> RenderableType:
    """What ``cache prune`` prints."""
    verb = "would remove" if record.dry_run else "removed"
    count = len(record.removed)
    said = f"{verb} {count} entr{'y' if count == 1 else 'ies'}, {figures.storage(record.freed_bytes)}"
    parts: list[RenderableType] = [Text(f"{said}; {figures.storage(record.left_bytes)} left", style=STRONG)]
    if record.removed and record.dry_run:
        shown = record.removed[:MOST_ROWS]
        parts += [Text(), entries_table(shown, now)]
        if count > len(shown):
            parts.append(Text(f"and {count - len(shown)} more", style=FAINT))
    if not (record.kept_in_use or record.kept_unknown):
        return Group(*parts)
    lines = [f"{label(entry)} stays: {_user(entry)}" for entry in record.kept_in_use]
    lines += [
        f"{label(entry)} stays until it has not changed for a day: {_user(entry)}" for entry in record.kept_unknown
    ]
    return Group(*parts, Text(), items(lines, DOUBT))


def _cut(name: str) -> str:
    place, _, key = name.partition("/")
    return f"{place}/{key[:SHORT_KEY]}"
