"""The command line: one file a command. Only this package prints or exits; only ``main`` maps errors to exit codes."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import edgekit
from edgekit.cli import (
    attest,
    bench,
    bundle,
    cache,
    compress,
    costs,
    demo,
    doctor,
    env,
    evaluate,
    history,
    inspect,
    output,
    predict,
    profile,
    recipes,
    report,
    sign,
    targets,
    verify,
    watch,
)
from edgekit.cli.failures import (
    INTERNAL_EXIT_CODE,
    OUTPUT_CLOSED_EXIT_CODE,
    Terminated,
    describe,
    raise_on_signals,
)
from edgekit.cli.groups import NAME, Commands, epilog, show_help
from edgekit.cli.output import OutputClosed
from edgekit.cli.stopping import ended_by_signals
from edgekit.errors import EdgekitError, UsageError

# name: what runs, and its examples
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "compress": (compress.compress, compress.EXAMPLES),
    "eval": (evaluate.evaluate, evaluate.EXAMPLES),
    "bench": (bench.bench, bench.EXAMPLES),
    "history": (history.history, history.EXAMPLES),
    "profile": (profile.profile, profile.EXAMPLES),
    "predict": (predict.predict, predict.EXAMPLES),
    "costs": (costs.costs, costs.EXAMPLES),
    "sign": (sign.sign, sign.EXAMPLES),
    "attest": (attest.attest, attest.EXAMPLES),
    "verify": (verify.verify, verify.EXAMPLES),
    "report": (report.report, report.EXAMPLES),
    "inspect": (inspect.inspect, inspect.EXAMPLES),
    "doctor": (doctor.doctor, doctor.EXAMPLES),
    "env": (env.env, env.EXAMPLES),
    "demo": (demo.demo, demo.EXAMPLES),
}
GROUPS: dict[str, typer.Typer] = {
    "targets": targets.app,
    "recipes": recipes.app,
    "cache": cache.app,
    "bundle": bundle.app,
}
EXAMPLES = """
edgekit demo
edgekit compress ./my-model --data ./my-data --target arm64 --max-drop 1%
edgekit predict ./out "a sentence"
"""
COMPLETION_VARIABLE = f"_{NAME.upper()}_COMPLETE"

app = typer.Typer(
    name=NAME, cls=Commands, epilog=epilog(EXAMPLES), rich_markup_mode="rich", pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.print_line(f"{NAME} {edgekit.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take a fine-tuned model, give back the smallest, fastest artifact that still answers as well.

    Exit codes: 0 ok, 1 a limit or a check was missed, 2 usage or settings,
    3 environment, 4 input model or data, 5 disk, memory or time ran out,
    70 internal, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP. Of a gate:
    1 a regression, 6 inconclusive with --strict, 7 not comparable.
    """
    del version
    if context.invoked_subcommand is None:
        show_help(context)


for _name, (_run, _examples) in COMMANDS.items():
    app.command(_name, epilog=epilog(_examples))(_run)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


# How many new objects call for a look at which are garbage. A graph is hundreds of thousands of small ones that live as
# long as it does, and Python's default of 700 has it look at them hundreds of times: a seventh of a short run.
NEW_OBJECTS = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name; None takes those of the process, which then has a watcher that ends it
            where a signal does not: ``stopping.py``.

    Returns:
        The exit code, as `edgekit.errors` lists them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is not None:
        return _finish(given, None)
    output.open_closed_streams()
    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by who started this, no process could be waited for
    gc.set_threshold(NEW_OBJECTS)
    stopping = ended_by_signals(as_json=output.json_wanted(given))
    return _watched(given, stopping) if watch.wanted(given) else _finish(given, stopping)


def _watched(given: list[str], stopping: contextlib.AbstractContextManager[None]) -> int:
    """A command in a process of its own; what it did not survive is told here."""
    ended: int | EdgekitError | OSError
    try:
        ended = watch.watch(given, lambda: _finish(given, stopping))
    except (EdgekitError, OSError) as error:  # a variable that sets a limit is no number, or there is no process left
        ended = error
    if isinstance(ended, int):
        return ended
    failure = describe(ended)
    output.print_failure(failure, ended, as_json=output.json_wanted(given))
    return failure.exit_code


def _finish(given: list[str], stopping: contextlib.AbstractContextManager[None] | None) -> int:
    """Run a command and tell how it ended; ``stopping`` where it is what the process is for."""
    output.prepare()
    code, arrived = INTERNAL_EXIT_CODE, list[BaseException]()
    try:
        try:
            with raise_on_signals(last=stopping is not None) as arrived, stopping or contextlib.nullcontext():
                code = _invoke(given)
                output.flush()
        except SystemExit as ended:
            if not isinstance(ended.__context__, BrokenPipeError):
                raise
            raise OutputClosed from ended  # what rich makes of it, which prints the pages of --help
        # The one place where every error ends: a person sees a sentence and an exit code, never a bare traceback.
        except (KeyboardInterrupt, Terminated, Exception) as error:
            if isinstance(error, BrokenPipeError):
                output.end_if_closed()  # where the pipe is stdout, as of `--help | head -1`
            failure = describe(arrived[0] if arrived else error)
            code = failure.exit_code
            output.print_failure(failure, error, as_json=output.json_wanted(given))
            output.flush()
    except OutputClosed:
        output.discard_the_rest()
        code = OUTPUT_CLOSED_EXIT_CODE
    except OSError:  # what went wrong can be told nowhere, on a disk that is full: the exit code has to do
        output.discard_the_rest()
    return code


def _check_text(arguments: Sequence[str]) -> None:
    """See that all words are UTF-8, as the names in reports and what runtimes take have to be.

    Raises:
        UsageError: one is not.
    """
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{word!r} is not UTF-8",
                id="usage.command-line",
                why="paths and texts of the command line have to be",
                hint="Rename the file, or give the text in UTF-8.",
            ) from error


@functools.cache
def _command() -> Any:
    """All commands, made once: reading their signatures takes 30 ms, most of what a short command computes."""
    return typer.main.get_command(app)


def _invoke(arguments: list[str]) -> int:
    # Not app(): in between, typer would turn Ctrl-C, a closed pipe and the end of a file into exit codes of its own.
    _check_text(arguments)
    command = _command()
    if COMPLETION_VARIABLE in os.environ:
        command.main(args=arguments, prog_name=NAME)
    try:
        with command.make_context(NAME, arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0
