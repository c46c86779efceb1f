"""Options of ``bench`` that write its result for others: where each goes is checked before anything is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import output
from edgekit.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from edgekit.gate.record import BenchRecord

PANEL = "Results for others"
JUNIT, MARKDOWN = "junit", "markdown"


def complete_export(incomplete: str) -> Iterator[str]:
    """Formats for the shell."""
    return (f"{name}=" for name in _formats() if name.startswith(incomplete))


Junit = Annotated[
    str | None,
    typer.Option("--junit", metavar="FILE", help="Test results as CI servers read them.", rich_help_panel=PANEL),
]
Markdown = Annotated[
    str | None,
    typer.Option("--markdown", metavar="FILE", help="A comment for a pull request.", rich_help_panel=PANEL),
]
Github = Annotated[
    bool,
    typer.Option(
        "--github", help="Annotations, summary and output of a step of GitHub Actions.", rich_help_panel=PANEL
    ),
]
Export = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="FORMAT=FILE",
        help="github-action-benchmark, github-action-benchmark-bigger, pytest-benchmark, google-benchmark, bencher.",
        autocompletion=complete_export,
        rich_help_panel=PANEL,
    ),
]


def _formats() -> list[str]:
    """Formats of ``--export``; two others have options of their own."""
    from edgekit.gate.exports import EXPORTS

    return [name for name in EXPORTS if name not in {JUNIT, MARKDOWN}]


def read_exports(junit: str | None, markdown: str | None, others: Sequence[str] | None) -> dict[str, Path]:
    """The file of each format that was asked for.

    Raises:
        UnknownNameError: there is no such format.
        UsageError: no file is named, or it may not be written.
    """
    from edgekit.reporting import check_place

    given = {name: file for name, file in ((JUNIT, junit), (MARKDOWN, markdown)) if file is not None}
    for text in others or ():
        name, _, file = text.partition("=")
        if name not in _formats():
            raise UnknownNameError("format", name, _formats(), id="unknown-name.export")
        if not file:
            raise UsageError(
                f"--export {text!r} names no file",
                id="usage.bad-value",
                why=f"allowed: {name}=FILE, such as {name}=r.json",
            )
        given[name] = file
    return {name: check_place(file, f"result.{name}") for name, file in given.items()}


def write_exports(record: BenchRecord, files: Mapping[str, Path]) -> None:
    """Write a result in each format that was asked for."""
    from edgekit.artifact import write_text
    from edgekit.gate.exports import EXPORTS

    for name, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, EXPORTS[name].write(record))


def tell_github(record: BenchRecord) -> None:
    """Annotations on stderr, which a runner reads like stdout; summary and verdict to the files that it names."""
    from edgekit.gate.exports import github, markdown

    for line in github.annotate(record):
        output.print_aside(line)
    summary, outputs = (os.environ.get(name) for name in (github.SUMMARY, github.OUTPUT))
    if summary:
        github.append_summary(Path(summary), markdown.write(record))
    else:
        output.print_aside(f"no summary was written: {github.SUMMARY} is not set, as in a step of GitHub Actions")
    if outputs:
        github.append_output(Path(outputs), record)
