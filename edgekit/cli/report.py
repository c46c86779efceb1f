"""``edgekit report``: the report of a run as a page, or several runs side by side."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output
from edgekit.errors import HostError

EXAMPLES = """
edgekit report ./out
edgekit report ./out -o out.html --open
edgekit report ./gentle ./default ./static -o compared.html
"""
SCHEMA = "edgekit.page/1"
COMPARISON = "comparison.html"


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Output folders of compress.", show_default=False)
    ],
    *,
    out: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help=f"The page: NAME-report.html, or {COMPARISON}, here."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    json_: options.Json = False,
) -> None:
    """Make the page of a run again, or compare several runs.

    The page is one file that fetches nothing. Of several runs it has a
    table, and quality against latency with those that no other beats.
    """
    if len(runs) == 1:
        written = edgekit.render_report(runs[0], out)
        _show(written, wanted=open_)
        if json_:
            output.print_document({"schema": SCHEMA, "written": str(written)})
        else:
            output.print_line(str(written))
        return
    written = Path(out or COMPARISON)
    comparison = edgekit.compare(runs, written)
    _show(written, wanted=open_)
    if json_:
        output.print_document(comparison.model_dump(mode="json", by_alias=True) | {"written": str(written)})
    else:
        from edgekit.render.records import comparison_view

        output.print_view(lambda _: comparison_view(comparison))
        output.print_line(f"\n{written}")


def _show(page: Path, *, wanted: bool) -> None:
    """Open a page in whatever browser there is.

    Raises:
        HostError: there is none.
    """
    if not wanted:
        return
    address = page.expanduser().resolve().as_uri()
    with output.work(quiet=True):  # a browser may print
        opened = webbrowser.open(address)
    if not opened:
        raise HostError(
            "no browser could be started",
            id="environment.no-browser",
            hint=f"The page is written; open {str(page)!r} yourself.",
        )
