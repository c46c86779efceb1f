"""Options of ``bench`` that write its result for others: where each goes is checked before anything is measured."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        UsageError: no file is named, a format has two, or one may not be written.
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
        if name in given:
            raise UsageError(
                f"--export {name} was given twice",
                id="usage.options-conflict",
                why=f"files: {given[name]!r} and {file!r}",
                hint="Name one file, and copy it.",
            )
        given[name] = file
    return {name: check_place(file, f"result.{name}") for name, file in given.items()}


def read_save(file: str) -> Path:
    """The file that a result is kept in.

    Raises:
        UsageError: it is not named as results are known by, or may not be written.
    """
    from edgekit.reporting import check_place

    place = check_place(file, "result.json")
    if place.suffix != ".json":
        raise UsageError(
            f"--save {file!r} does not end in .json",
            id="usage.bad-value",
            why="by this `--baseline` and `edgekit history` know a result",
            hint=f"Name it {place.name}.json.",
        )
    return place


def check_apart(places: Iterable[Path], given: Iterable[str | None]) -> None:
    """See that no file is written over another one of the same command, nor over what it reads.

    Args:
        places: of all files that will be written.
        given: what is read: the model, the baseline, the data.

    Raises:
        UsageError: one would be.
    """
    read = {Path(path).expanduser().resolve() for path in given if path is not None}
    written = set[Path]()
    for place in places:
        file = place.resolve()
        if file in read:
            raise UsageError(
                f"{str(place)!r} is read by this command",
                id="usage.output-taken",
                why="the result would take its place",
                hint="Name another file.",
            )
        if file in written:
            raise UsageError(
                f"{str(place)!r} was named twice",
                id="usage.options-conflict",
                why="the second result would take the place of the first",
                hint="Name a file for each.",
            )
        written.add(file)


def write_exports(record: BenchRecord, files: Mapping[str, Path]) -> None:
    """Write a result in each format that was asked for."""
    from edgekit.artifact import write_text
    from edgekit.gate.exports import EXPORTS

    for name, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, EXPORTS[name].write(record))


def tell_github(record: BenchRecord, *, strict: bool) -> None:
    """Annotations on stderr, which a runner reads like stdout; summary and verdict to the files that it names."""
    from edgekit.gate.exports import github, markdown

    for line in github.annotate(record, strict=strict):
        output.print_aside(line)
    summary, outputs = (os.environ.get(name) for name in (github.SUMMARY, github.OUTPUT))
    if summary:
        github.append_summary(Path(summary), markdown.write(record))
    else:
        output.print_aside(f"no summary was written: {github.SUMMARY} is not set, as in a step of GitHub Actions")
    if outputs:
        github.append_output(Path(outputs), record)
