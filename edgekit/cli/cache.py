"""``edgekit cache``: what lies in the cache, whether it is sound, and making room."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import options, output
from edgekit.cli.groups import Commands, epilog, show_help
from edgekit.errors import UsageError, VerificationError
from edgekit.sizes import read_figure, read_size

if TYPE_CHECKING:
    from edgekit.upkeep import Pruning

LS_EXAMPLES = """
edgekit cache ls
edgekit cache ls --json
"""
VERIFY_EXAMPLES = """
edgekit cache verify
edgekit cache verify --fix
"""
PRUNE_EXAMPLES = """
edgekit cache prune --older-than 30d
edgekit cache prune --larger-than 10GB --dry-run
edgekit cache prune --all -y
"""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
app = typer.Typer(cls=Commands, help="List, check and prune the cache of finished and unfinished stages.")


@app.callback(invoke_without_command=True)
def _cache(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_help(context)


@app.command("ls", epilog=epilog(LS_EXAMPLES))
def list_cache(*, json_: options.Json = False) -> None:
    """List what lies in the cache, the last used first."""
    from edgekit.cache import Cache
    from edgekit.upkeep import list_cache as list_entries

    listing = list_entries(Cache())
    if json_:
        output.print_document(listing)
    else:
        from edgekit.render.upkeep import listing_view

        output.print_view(lambda _: listing_view(listing))


@app.command("verify", epilog=epilog(VERIFY_EXAMPLES))
def verify_cache(
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Remove what is damaged and not in use.")] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Hash every file of every finished stage again.

    Exits with 1, naming the entries, when one is damaged; with 0 when
    --fix has removed them all.
    """
    from edgekit.cache import Cache
    from edgekit.upkeep import verify_cache as check

    with output.work(quiet=quiet) as progress:
        record = check(Cache(), fix=fix, progress=progress)
    if json_:
        output.print_document(record.model_dump(by_alias=True) | {"sound": record.sound})
    else:
        from edgekit.render.upkeep import soundness_view

        output.print_view(lambda _: soundness_view(record))
    if not record.sound:
        raise typer.Exit(VerificationError.exit_code)


@app.command("prune", epilog=epilog(PRUNE_EXAMPLES))
def prune_cache(
    *,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="What was not used for so long: 30d, 12h.")
    ] = None,
    larger_than: Annotated[
        str | None,
        typer.Option("--larger-than", metavar="SIZE", help="The longest unused, until SIZE is left: 10GB, 500MB."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json_: options.Json = False,
) -> None:
    """Make room in the cache.

    Without an option, only what processes left behind that ended while
    writing, or training: half-written files, and a teacher's answers.
    What a living process uses stays, and so does unfinished work of
    which it cannot be known whether a process is at it. What was removed
    is made again when it is needed. Asks on a terminal; elsewhere it
    needs --yes, and exits with 2 without it.
    """
    choice = read_choice(older_than, larger_than, everything=all_)
    from edgekit.cache import Cache
    from edgekit.upkeep import Choice, carry_out, list_cache, plan_pruning

    cache = Cache()
    listing = list_cache(cache)
    plan = plan_pruning(listing, Choice(*choice))
    if plan.removed and not dry_run:
        if not yes and not _agreed(plan, listing.now, json_=json_):
            output.side_screen().print("nothing was removed")
            return
        plan = carry_out(cache, plan)
    elif not dry_run:
        plan = plan.model_copy(update={"dry_run": False})
    if json_:
        output.print_document(plan)
    else:
        from edgekit.render.upkeep import pruning_view

        output.print_view(lambda _: pruning_view(plan, listing.now))


def read_choice(
    older_than: str | None, larger_than: str | None, *, everything: bool
) -> tuple[float | None, int | None, bool]:
    """What is to go, read from the options.

    Raises:
        UsageError: a figure that is none, or --all with one of the others.
    """
    if everything and (older_than is not None or larger_than is not None):
        raise UsageError(
            "--all was given with --older-than or --larger-than",
            id="usage.options-conflict",
            why="it removes everything already",
        )
    age = None if older_than is None else read_duration(older_than, "--older-than")
    size = None if larger_than is None else read_size(larger_than, "--larger-than")
    return age, size, everything


def read_duration(text: str, option: str) -> float:
    """A length of time in seconds: ``30d``, ``12h``, ``90m``, ``45s``, ``2w``.

    Raises:
        UsageError: none.
    """
    number, unit = read_figure(text)
    if number is not None and unit in SECONDS:
        return number * SECONDS[unit]
    alike = number is not None and unit[:1].lower() in SECONDS
    guess = f"Did you mean '{number:.15g}{unit[0].lower()}'?" if alike else ""
    raise UsageError(
        f"{option} {text!r} is no length of time",
        id="usage.bad-value",
        why="allowed: a number with s, m (minutes), h, d or w, such as 30d or 12h",
        hint=guess,
    )


def _agreed(plan: Pruning, now: float, *, json_: bool) -> bool:
    """Whether the person at the terminal wants it.

    Raises:
        UsageError: there is nobody to ask.
    """
    if json_ or not sys.stdin.isatty():
        raise UsageError(
            f"{len(plan.removed)} entries would be removed, and nobody can be asked",
            id="usage.unconfirmed",
            why="it asks on a terminal only, and not together with --json",
            hint="Add --yes to remove them, or --dry-run to see them.",
        )
    from edgekit.render.upkeep import pruning_view

    output.side_screen().print(pruning_view(plan, now))
    return typer.confirm("Remove them?", err=True)
