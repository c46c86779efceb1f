"""``edgekit profile``: where the time of an artifact goes, alone or beside another one."""

from __future__ import annotations

from typing import Annotated

import typer

import edgekit
from edgekit.cli import options, output

EXAMPLES = """
edgekit profile ./out
edgekit profile model.onnx ./out --html profile.html
edgekit profile ./out --tokens 64 --json
"""


def profile(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An artifact or an .onnx file.", show_default=False)],
    other: Annotated[
        str | None,
        typer.Argument(metavar="[OTHER]", help="A second one: what changed from PATH to it.", show_default=False),
    ] = None,
    *,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Also a page with pictures: one file.")
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    image: options.Image = None,
    threads: options.Threads = None,
    target: options.MadeFor = None,
) -> None:
    """Show where the time goes: per operator, with what its kernel computes in.

    Also whether a node was fused and of what, and how near all of it is to
    this machine's limits. Two are timed in turns, in one run. On this
    machine and in onnxruntime only: LiteRT tells Python no such times.
    """
    workload = options.read_workload(batch, tokens, image)
    with output.work(quiet=quiet) as progress:
        record = edgekit.profile(
            path,
            other,
            threads=threads or 1,
            workload=workload,
            target=target,
            output=html,
            progress=progress,
        )
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.profile import profile_view

        output.print_view(lambda _: profile_view(record))
