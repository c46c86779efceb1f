"""Where output goes: data to stdout, everything else to stderr; one JSON document, or text that rich draws."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import logging
import os
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console, RenderableType
from rich.text import Text

from edgekit.bounds import visible
from edgekit.cli.failures import CommandLineError, Failure, debugging
from edgekit.cli.groups import NAME

if TYPE_CHECKING:
    from pydantic import BaseModel

    from edgekit.progress import Progress

ERROR_SCHEMA = "edgekit.error/1"
JSON_OPTION = "--json"
# What libraries read when they are imported; whoever has set one of these keeps it.
CALM = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
NO_LIBRARY_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


class OutputClosed(BaseException):
    """Whoever reads stdout has stopped. No ``Exception``: it is no failure, and nothing on the way shall handle it."""


class _Screen(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise OutputClosed


def open_closed_streams() -> None:
    """Give a process that was started with one of its streams closed (``>&-``) an empty one.

    Else the next file that is opened has its number, and is closed or written to by whoever means the stream.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # as long as the process


def prepare() -> None:
    """Let stdout take any text: what its encoding lacks is escaped, as on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def screen() -> Console:
    """Stdout, for data."""
    return _Screen(highlight=False, emoji=False, markup=False)


def side_screen() -> Console:
    """Stderr, for everything else."""
    return _Screen(stderr=True, highlight=False, emoji=False, markup=False)


def print_view(draw: Callable[[int], RenderableType]) -> None:
    """Print something drawn on stdout, without blanks at the ends of lines.

    Args:
        draw: what to print, for a terminal of so many columns.
    """
    console = screen()
    with console.capture() as captured:
        console.print(draw(console.width), crop=False)  # what may not be broken goes on beyond the edge
    print_line("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_line(text: str) -> None:
    """Print text on stdout as it is: no wrapping, no colour."""
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError as error:
        raise OutputClosed from error


def print_aside(text: str) -> None:
    """Print text on stderr as it is, for programs that read it there: no wrapping, no colour."""
    sys.stderr.write(text + "\n")


def print_document(document: BaseModel | Mapping[str, object]) -> None:
    """Print the one JSON document of a command: ASCII, so that any terminal takes it; NaN becomes null."""
    from pydantic_core import to_json

    plain = json.loads(to_json(document, by_alias=True, inf_nan_mode="null"))
    print_line(json.dumps(plain, indent=2))


def json_wanted(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, told before it is parsed, since parsing may fail."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return JSON_OPTION in options


def print_failure(failure: Failure, error: BaseException, *, as_json: bool) -> None:
    """Tell an error: on stderr for people, and as the one document on stdout where JSON was asked for."""
    if debugging() and not isinstance(error, CommandLineError):
        traceback.print_exception(error, file=sys.stderr)
    console = side_screen()  # what a stranger's file is quoted with does not steer the terminal
    console.print(Text.assemble((f"error[{failure.id}]: ", "bold red"), visible(failure.what)))
    for line in visible(failure.why).splitlines():
        _print_indented(console, Text(line))
    if failure.hint:
        _print_indented(console, Text.assemble(("hint: ", "bold"), visible(failure.hint)))
    if as_json:
        print_line(error_document(failure).rstrip())


def error_document(failure: Failure) -> str:
    """An error as the one JSON document of a command."""
    return json.dumps({"schema": ERROR_SCHEMA, "error": failure.as_dict()}, indent=2) + "\n"


def _print_indented(console: Console, text: Text) -> None:
    """Print a paragraph two columns in, with nothing behind the ends of its lines."""
    for line in text.wrap(console, console.width - 2):
        line.rstrip()
        console.print(Text.assemble("  ", line))


def flush() -> None:
    """Hand everything over, so that a closed pipe is noticed here and not when the interpreter ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def end_if_closed() -> None:
    """End where nobody reads stdout any more; not told by a flush, which does not try again what failed once.

    Raises:
        OutputClosed: its reader has gone.
    """
    with contextlib.suppress(AttributeError, OSError):  # Windows has no poll; a stream of a test is no file
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
        if asked.poll(0):
            raise OutputClosed
    flush()


def discard_the_rest() -> None:
    """Point both outputs nowhere, so that the interpreter's own last flush finds no closed pipe and no full disk."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # one that is no file (a test's) has nothing to flush either
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def work(*, quiet: bool) -> Iterator[Progress]:
    """The surroundings of long work: progress on stderr, libraries calmed, stdout kept for data.

    Args:
        quiet: no progress.
    """
    from edgekit.cli.progress import watch

    console = side_screen()
    bars = not quiet and console.is_terminal
    calm = _calm_libraries(bars=bars)
    with _stdout_kept_for_data(), calm, watch(console, quiet=quiet) as progress, _damage_told(console):
        yield progress


@contextlib.contextmanager
def _damage_told(console: Console) -> Iterator[None]:
    """Print what the cache finds damaged."""
    from edgekit.cache import listeners

    def tell(what: str) -> None:
        console.print(Text.assemble(("warning: ", "bold yellow"), visible(f"cache: {what}")))

    listeners.append(tell)
    try:
        yield
    finally:
        listeners.remove(tell)


@contextlib.contextmanager
def _stdout_kept_for_data() -> Iterator[None]:
    """Send to stderr whatever a library, its native code or a child process prints on stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush_native()
        os.dup2(kept, 1)
        os.close(kept)


def _flush_native() -> None:
    """Write out what native code has printed: C keeps it back where its stdout is no terminal, until a process ends."""
    with contextlib.suppress(OSError, TypeError):  # Windows does not find a C library by the name of nothing
        ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def _calm_libraries(*, bars: bool) -> Iterator[None]:
    """Keep the warnings and logs of libraries off the terminal: what matters stands in the report, or is raised.

    Errors that are logged as well: they quote a stranger's file as it is.
    """
    for name, value in (CALM if bars else CALM | NO_LIBRARY_BARS).items():
        os.environ.setdefault(name, value)
    if debugging():
        with _log_shown():
            yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _log_shown() -> Iterator[None]:
    """Write edgekit's own log to stderr."""
    log, handler = logging.getLogger(NAME), logging.StreamHandler()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
