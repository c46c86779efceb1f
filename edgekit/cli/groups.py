"""How commands are grouped and helped: suggestions for a mistyped one, examples at the end of every help text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from edgekit.errors import UnknownNameError

NAME = "edgekit"


# Two words that are one command where a third follows. `bench PATH` takes one word, so that no PATH is mistaken for it.
TWO_WORDS = {("bench", "history"): "history"}
# What may stand before the third: an option of both commands, and one that only the second has.
BOTH_HAVE, SECOND_HAS = "--json", "--metric"


class Commands(TyperGroup):
    """A group that answers a mistyped command as edgekit answers every mistyped name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that ``args`` begins with.

        Raises:
            UnknownNameError: there is none of this name; carries the nearest.
        """
        if tuple(args[:2]) in TWO_WORDS and _goes_on(args[2:]):
            args = [TWO_WORDS[args[0], args[1]], *args[2:]]
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            raise UnknownNameError(
                f"`{ctx.command_path}` command",
                name,
                self.commands,
                id="unknown-name.command",
                hint=f"`{ctx.command_path} --help` describes them.",
            )
        return super().resolve_command(ctx, args)


def _goes_on(after: Sequence[str]) -> bool:
    """Whether what stands behind two words is of the command that both are."""
    first = next((word for word in after if word != BOTH_HAVE), "-")
    return not first.startswith("-") or first.partition("=")[0] == SECOND_HAS


def show_help(context: typer.Context) -> None:
    """Print the help of a command that was called without what it needs to do anything."""
    text = context.get_help()  # typer prints it itself when rich draws it, and returns it when not
    if text:
        typer.echo(text)


def epilog(examples: str) -> str:
    """The examples of a command, one a line, as they end its help text."""
    lines = [line.strip().replace("[", r"\[") for line in examples.strip().splitlines()]
    return "Examples:\n" + "\n".join(f"  {line}" for line in lines)
