"""``edgekit attest``: what an artifact was made of and how, for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit attest ./out -o out.cdx.json
edgekit attest ./out --form in-toto -o out.provenance.json
"""
SCHEMA = "edgekit.attestation/1"


def attest(
    path: Annotated[str, typer.Argument(metavar="DIR", help="An artifact.", show_default=False)],
    *,
    form: Annotated[
        str, typer.Option("--form", metavar="FORM", help="cyclonedx (bill of materials) or in-toto (provenance).")
    ] = "cyclonedx",
    out: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where it goes: stdout by default.")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Write the bill of materials or the provenance of an artifact, as JSON.

    A CycloneDX 1.6 document with the model card, the files and the
    packages; or an in-toto statement with SLSA's provenance. Both follow
    from the sealed files: the same artifact gives the same bytes.
    """
    document = edgekit.attest(path, form)
    if out is None:
        output.print_document(document)
        return
    from edgekit.artifact import write_text

    write_text(Path(out).expanduser(), json.dumps(document, indent=2) + "\n")
    if json_:
        output.print_document({"schema": SCHEMA, "form": form, "written": out})
    else:
        output.print_line(out)
