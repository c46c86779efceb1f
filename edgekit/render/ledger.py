"""The loss ledger as one table: what each stage changed, and whether that was kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.table import Table
from rich.text import Text

from edgekit.ledger import ORIGINAL, LedgerRow
from edgekit.render import figures, wording
from edgekit.render.parts import DOUBT, FAINT, STRONG, make_table
from edgekit.report import Report

# From this width on, a value and its change stand side by side; below, one above the other.
WIDE = 100
STAGE, CHANGE, OUTCOME = "stage", "change", "what happened"
BRACKETS = "( ): what an undone stage would give"

_Read = Callable[[LedgerRow], float | None]
_Write = Callable[[float | None], str]


@dataclass(frozen=True)
class _Figure:
    """One figure of the ledger.

    Attributes:
        name: header of its column.
        value: reads it off a row.
        done: the change that a kept row made.
        would: the change that an undone row would have made.
        write: its value as text.
        write_change: a change of it as text.
    """

    name: str
    value: _Read
    done: _Read
    would: _Read
    write: _Write
    write_change: _Write

    def change(self, row: LedgerRow) -> str:
        """What a row changed, or would have."""
        return self.write_change(self.done(row) if row.kept else self.would(row))

    def total(self, rows: tuple[LedgerRow, ...]) -> str:
        """The changes of the kept rows, added up."""
        changes = [change for row in rows if row.kept and (change := self.done(row)) is not None]
        return self.write_change(sum(changes)) if changes else ""


def ledger_view(report: Report, *, width: int) -> Table:
    """The ledger; the changes of kept stages add up to its last row.

    Figures in brackets are those that an undone stage would have given. What no row has is no column.

    Args:
        report: the report.
        width: columns of the terminal.
    """
    first, *stages = report.ledger
    wide = width >= WIDE
    shown = [figure for figure in _figures(report) if any(figure.value(row) is not None for row in report.ledger)]
    columns = [name for figure in shown for name in ((figure.name, CHANGE) if wide else (figure.name,))]
    table = make_table(STAGE, *columns, OUTCOME, right=columns, unbroken=[STAGE, *columns])
    table.add_row(
        Text(ORIGINAL),
        *_cells([(figure.write(figure.value(first)), "") for figure in shown], wide=wide),
        Text(first.reason),
    )
    for row in stages:
        pairs = [(figure.write(figure.value(row)), figure.change(row)) for figure in shown]
        table.add_row(Text(row.stage), *_cells(pairs, wide=wide, undone=not row.kept), _outcome(row))
    if stages:
        sums = [("", figure.total(tuple(stages))) for figure in shown]
        note = "" if all(row.kept for row in stages) else BRACKETS
        table.add_section()
        table.add_row(Text("total", style=STRONG), *_cells(sums, wide=wide), Text(note, style=FAINT))
    return table


def _figures(report: Report) -> list[_Figure]:
    metric = report.quality.metric if report.quality else "metric"
    digits = figures.size_digits(report.ledger[0].size_bytes)

    def size(value: float | None) -> str:
        return "" if value is None else figures.megabytes(value, digits)

    return [
        _Figure(
            metric,
            lambda row: row.metric,
            lambda row: row.metric_delta,
            lambda row: row.would_metric,
            partial(figures.quality, metric),
            partial(figures.quality_change, metric),
        ),
        _Figure(
            "size MB",
            lambda row: row.size_bytes,
            lambda row: row.size_delta_bytes,
            lambda row: row.would_size_bytes,
            size,
            partial(figures.megabytes_change, digits=digits),
        ),
        _Figure(
            "p50 ms",
            lambda row: row.latency_ms,
            lambda row: row.latency_delta_ms,
            lambda row: row.would_latency_ms,
            figures.milliseconds,
            figures.milliseconds_change,
        ),
        *[_instructions(device) for device in report.ledger[0].instructions],
    ]


def _instructions(device: str) -> _Figure:
    def change(row: LedgerRow) -> float | None:
        return row.instructions_change.get(device)

    name = f"M instr.\n{wording.processor(device)}"
    value: _Read = lambda row: row.instructions.get(device)  # noqa: E731  # beside the others of its kind
    return _Figure(name, value, change, change, figures.millions, figures.millions_change)


def _cells(pairs: list[tuple[str, str]], *, wide: bool, undone: bool = False) -> list[Text]:
    """Values and changes, side by side or one above the other; in brackets where they did not come to be."""
    texts: list[Text] = []
    for pair in pairs:
        value, change = (f"({text})" if undone and text not in ("", "-") else text for text in pair)
        styled = [Text(value, style=FAINT if undone else ""), Text(change, style=FAINT)]
        texts += styled if wide else [Text("\n").join(text for text in styled if text)]
    return texts


def _outcome(row: LedgerRow) -> Text:
    """What happened to a stage, and why."""
    word, style = ("kept", "") if row.kept else ("undone", DOUBT)
    return Text.assemble((word, style), f": {row.reason}" if row.reason else "")
