"""``edgekit bundle``: what an app needs to run an artifact, and the check of one that is there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import edgekit
from edgekit.cli import options, output
from edgekit.cli.groups import Commands, epilog, show_help
from edgekit.errors import VerificationError

MAKE, CHECK = "make", "check"
MAKE_EXAMPLES = """
edgekit bundle make ./out --platform python -o ./out-python
edgekit bundle make ./out --platform c --form ort -o ./out-c
edgekit bundle make ./out --platform web -o ./page
"""
CHECK_EXAMPLES = """
edgekit bundle check ./out-python
edgekit bundle check ./out-python --json
"""


class _DefaultIsMake(Commands):
    """``edgekit bundle ARTIFACT`` is ``edgekit bundle make ARTIFACT``: what is no command's name begins its line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [MAKE, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer(
    cls=_DefaultIsMake, help="Make what an app needs to run an artifact, without Python and without edgekit."
)


@app.callback(invoke_without_command=True)
def _bundle(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_help(context)


@app.command(MAKE, epilog=epilog(MAKE_EXAMPLES))
def make(
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT", help="Output of compress.", show_default=False)],
    *,
    platform: Annotated[
        str,
        typer.Option(
            "--platform",
            metavar="NAME",
            help="python, c, node, web, react-native, android, ios or flutter.",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="Where it goes.", show_default=False)],
    form: Annotated[
        str | None,
        typer.Option("--form", metavar="FORM", help="The model as onnx, ort or tflite (the platform's own)."),
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a bundle: model, pre-processing, labels, a self-test, and code for a platform.

    `edgekit bundle ARTIFACT ...` is short for it. The bundle is checked
    before it is put into place: it answers as the artifact does.
    """
    with output.work(quiet=quiet):
        record = edgekit.make_bundle(artifact, platform, out, form)
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.bundle import bundle_view

        output.print_view(lambda _: bundle_view(record))


@app.command(CHECK, epilog=epilog(CHECK_EXAMPLES))
def check(
    path: Annotated[str, typer.Argument(metavar="DIR", help="A bundle.", show_default=False)],
    *,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a bundle: structure, names, sizes, alignment, sums and versions.

    Exits with 1, naming each rule that is broken and where.
    """
    with output.work(quiet=quiet):
        record = edgekit.check_bundle(path)
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.bundle import check_view

        output.print_view(lambda _: check_view(record))
    if record.problems:
        raise typer.Exit(VerificationError.exit_code)
