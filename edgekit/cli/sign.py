"""``edgekit sign``: a signature beside an artifact."""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit sign ./out --key private.pem
edgekit sign ./out --key private.pem -o release.sig
"""
SCHEMA = "edgekit.signature/1"


def sign(
    path: Annotated[str, typer.Argument(metavar="DIR", help="An artifact.", show_default=False)],
    *,
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="An elliptic private key, in PEM.")],
    out: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="The signature: DIR.sig by default.")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Sign an artifact that is as it was sealed, with a key of your own.

    It needs the extra [sign], which brings model-signing; nothing is
    sent anywhere. `model_signing verify key` accepts the signature, too.
    """
    with output.work(quiet=True):
        written = edgekit.sign(path, key, output=out)
    if json_:
        output.print_document({"schema": SCHEMA, "path": path, "signature": str(written)})
    else:
        output.print_line(str(written))
