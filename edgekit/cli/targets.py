"""``edgekit targets``: the devices that are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import options, output
from edgekit.cli.groups import Commands, epilog, show_help
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from edgekit.devices.means import Means

LIST_EXAMPLES = """
edgekit targets list
edgekit targets list --json
"""
SHOW_EXAMPLES = """
edgekit targets show arm64
edgekit targets show x86-64 > mine.toml
"""
CHECK_EXAMPLES = """
edgekit targets check mine.toml
"""
SETUP_EXAMPLES = """
edgekit targets setup arm64
edgekit targets setup cortex-a76 haswell
"""
REMOVE_EXAMPLES = """
edgekit targets remove arm64
"""

app = typer.Typer(cls=Commands, help="List, show, check and set up targets: the devices that artifacts are made for.")


@app.callback(invoke_without_command=True)
def _targets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_help(context)


@app.command("list", epilog=epilog(LIST_EXAMPLES))
def list_targets(*, json_: options.Json = False) -> None:
    """List every target, and what this machine can measure of it.

    Latency where this machine is such a device. Where its processor is
    emulated: its answers, and the instructions of an inference. Where
    neither can be had, the reason.
    """
    from edgekit.target import target_names

    rows = [_row(name) for name in target_names()]
    if json_:
        table = [{"name": name, "description": description, **_facts(means)} for name, description, means in rows]
        output.print_document({"schema": "edgekit.targets/1", "targets": table})
    else:
        from edgekit.render.records import table_view

        shown = [(name, description, _sentence(means)) for name, description, means in rows]
        output.print_view(lambda _: table_view(("name", "description", "measured here"), shown))


def _row(name: str) -> tuple[str, str, Means]:
    """Name, description, and what this machine can measure of it."""
    from edgekit.devices.means import Means, find_means
    from edgekit.target import load_target

    try:
        target = load_target(name)
    except UsageError as error:  # `host`, on a machine that no shipped target describes: the others are still listed
        return name, "this machine", Means("nothing", not_timed_because=error.what)
    return name, target.description, find_means(target)


def _facts(means: Means) -> dict[str, JsonValue]:
    """What can be measured, for a program."""
    return {
        "measured": means.measures == "latency",
        "not_measured_because": means.not_timed_because,
        "measures": means.measures,
        "emulated": list(means.processors),
        "set_up": means.set_up,
        "not_emulated_because": means.not_emulated_because,
    }


def _sentence(means: Means) -> str:
    """What can be measured, for a reader."""
    if means.measures == "latency":
        return "latency"
    if means.measures == "nothing":
        reasons = (means.not_timed_because, means.not_emulated_because)
        return f"nothing: {'; '.join(reason for reason in reasons if reason)}"
    later = "" if means.set_up else " after `targets setup`"
    had = f"answers and instructions{later}, emulated on {' and '.join(means.processors)}"
    return f"{had}; no latency: {means.not_timed_because}"


@app.command("show", epilog=epilog(SHOW_EXAMPLES))
def show_target(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A target, or a TOML file.", show_default=False, autocompletion=options.complete_target
        ),
    ],
    *,
    json_: options.Json = False,
) -> None:
    """Show a target's facts with their sources, as the TOML that defines it."""
    from edgekit.devices.means import find_means
    from edgekit.target import load_target

    target = load_target(name)
    means = find_means(target)
    facts = target.model_dump(mode="json", by_alias=True, exclude_none=True)
    if json_:
        output.print_document(facts | _facts(means))
    else:
        import tomli_w

        output.print_line(f"# measured here: {_sentence(means)}\n{tomli_w.dumps(facts).rstrip()}")


@app.command("check", epilog=epilog(CHECK_EXAMPLES))
def check_target(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file.", show_default=False)],
    *,
    json_: options.Json = False,
) -> None:
    """Check a target's file: exits with 2 and names each wrong key."""
    from edgekit.settings import read_bounded
    from edgekit.target import parse_target

    if not file.is_file():
        raise UsageError(
            f"there is no target file {str(file)!r}", id="usage.no-file", hint="Give the path of a TOML file."
        )
    target = parse_target(read_bounded(file, "target"), str(file))
    if json_:
        output.print_document({"schema": "edgekit.check/1", "file": str(file), "name": target.name, "valid": True})
    else:
        output.print_line(f"{file}: the target {target.name!r} is valid")


def complete_setup(incomplete: str) -> Iterator[str]:
    """What can be set up, for the shell."""
    from edgekit.devices.emulation.setup import setup_names

    return (name for name in setup_names() if name.startswith(incomplete))


Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME",
        help="arm64, armv7 or x86-64; a target; a processor, such as cortex-a76.",
        show_default=False,
        autocompletion=complete_setup,
    ),
]


@app.command("setup", epilog=epilog(SETUP_EXAMPLES))
def set_up_targets(names: Names, *, json_: options.Json = False, quiet: options.Quiet = False) -> None:
    """Set up the emulation of processors that are not here.

    Downloads qemu, and for another architecture a small Debian with
    Python and the runtime, into the cache; compiles the plugin that
    counts instructions; and tries it. Needs no root rights. What is
    there already is verified, and made again where it is damaged.
    """
    from edgekit.cache import Cache
    from edgekit.devices.emulation.setup import set_up

    with output.work(quiet=quiet) as progress:
        made = set_up(names, Cache(), progress)
    if json_:
        output.print_document(made)
        return
    from edgekit.render.figures import storage

    for one in made.emulators:
        output.print_line(f"{one.kind}: {one.state}, {storage(one.size_bytes)}, for {', '.join(one.profiles)}")
        output.print_line(f"  {one.path}")


@app.command("remove", epilog=epilog(REMOVE_EXAMPLES))
def remove_targets(names: Names, *, json_: options.Json = False) -> None:
    """Remove what setup made. What a running edgekit uses stays: exits with 3."""
    from edgekit.cache import Cache
    from edgekit.devices.emulation.setup import remove

    removed = remove(names, Cache())
    if json_:
        output.print_document(removed)
        return
    from edgekit.render.figures import storage

    for kind, freed in removed.freed_bytes.items():
        output.print_line(f"{kind}: removed, {storage(freed)}" if freed else f"{kind}: was not there")
