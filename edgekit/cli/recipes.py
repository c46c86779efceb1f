"""``edgekit recipes``: the named recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import options, output
from edgekit.cli.groups import Commands, epilog, show_help
from edgekit.errors import UsageError

if TYPE_CHECKING:
    pass

LIST_EXAMPLES = """
edgekit recipes list
edgekit recipes list --json
"""
SHOW_EXAMPLES = """
edgekit recipes show default
edgekit recipes show default > mine.toml
"""
CHECK_EXAMPLES = """
edgekit recipes check mine.toml
"""

app = typer.Typer(cls=Commands, help="List, show and check recipes: the stages, their settings and the limits.")


@app.callback(invoke_without_command=True)
def _recipes(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_help(context)


@app.command("list", epilog=epilog(LIST_EXAMPLES))
def list_recipes(*, json_: options.Json = False) -> None:
    """List every recipe."""
    from edgekit.recipe import load_recipe, recipe_names

    rows = [(name, load_recipe(name).description) for name in recipe_names()]
    if json_:
        table = [{"name": name, "description": description} for name, description in rows]
        output.print_document({"schema": "edgekit.recipes/1", "recipes": table})
    else:
        from edgekit.render.records import table_view

        output.print_view(lambda _: table_view(("name", "description"), rows))


@app.command("show", epilog=epilog(SHOW_EXAMPLES))
def show_recipe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A recipe, or a TOML file.", show_default=False, autocompletion=options.complete_recipe
        ),
    ],
    *,
    json_: options.Json = False,
) -> None:
    """Show a recipe with every setting, as TOML."""
    from edgekit.recipe import load_recipe

    recipe = load_recipe(name)
    facts = recipe.as_dict()
    if json_:
        output.print_document(facts)
    else:
        from edgekit.settings import toml_text

        output.print_line(toml_text(facts).rstrip())


@app.command("check", epilog=epilog(CHECK_EXAMPLES))
def check_recipe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file.", show_default=False)],
    *,
    json_: options.Json = False,
) -> None:
    """Check a recipe's file: exits with 2 and names each wrong key."""
    from edgekit.recipe import load_recipe

    if not file.is_file():
        raise UsageError(
            f"there is no recipe file {str(file)!r}", id="usage.no-file", hint="Give the path of a TOML file."
        )
    recipe = load_recipe(file if file.is_absolute() else f"./{file}")  # a path, whatever its name ends in
    if json_:
        output.print_document({"schema": "edgekit.check/1", "file": str(file), "name": recipe.name, "valid": True})
    else:
        output.print_line(f"{file}: the recipe {recipe.name!r} is valid")
