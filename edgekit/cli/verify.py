"""``edgekit verify``: is an artifact still what was sealed?"""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit verify ./out
edgekit verify ./out --json
edgekit verify ./out --key public.pem
"""
SCHEMA = "edgekit.verify/1"


def verify(
    path: Annotated[str, typer.Argument(metavar="DIR", help="An artifact.", show_default=False)],
    *,
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="A public key: the signature must be of it, too.")
    ] = None,
    signature: Annotated[
        str | None, typer.Option("--signature", metavar="FILE", help="The signature: DIR.sig by default.")
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every hash, that nothing is missing or added, and that golden inputs give golden outputs.

    Exits with 1, naming the files, when something is not as it was
    sealed, or with --key not as it was signed.
    """
    with output.work(quiet=quiet):
        record = edgekit.verify(path, key, signature)
    if json_:
        output.print_document(
            {
                "schema": SCHEMA,
                "path": path,
                "files": record.files,
                "golden": record.golden,
                "tolerance": record.tolerance,
                "signed": record.signed,
            }
        )
    else:
        from edgekit.render.records import verify_view

        output.print_view(lambda _: verify_view(path, record))
