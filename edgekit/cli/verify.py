"""``edgekit verify``: is an artifact still what was sealed?"""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit verify ./out
edgekit verify ./out --json
"""
SCHEMA = "edgekit.verify/1"


def verify(
    path: Annotated[str, typer.Argument(metavar="DIR", help="An artifact.", show_default=False)],
    *,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every hash, that nothing is missing or added, and that golden inputs give golden outputs.

    Exits with 1, naming the files, when something is not as it was
    sealed.
    """
    with output.work(quiet=quiet):
        record = edgekit.verify(path)
    if json_:
        output.print_document(
            {
                "schema": SCHEMA,
                "path": path,
                "files": record.files,
                "golden": record.golden,
                "tolerance": record.tolerance,
            }
        )
    else:
        from edgekit.render.records import verify_view

        output.print_view(lambda _: verify_view(path, record))
