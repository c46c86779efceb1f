"""Everything that edgekit raises on purpose, and the exit code that each class ends in.

    EdgekitError                     70  internal: a promise of edgekit's own was broken
    ├── VerificationError             1  an artifact is not what its hashes or golden outputs say
    ├── UsageError                    2  an option, setting, recipe or target that cannot be meant
    │   └── UnknownNameError          2  a name that does not exist, with the nearest ones that do
    ├── HostError                     3  this machine lacks a package, a runtime or a permission
    ├── InputError                    4  what was given cannot be used
    │   ├── ModelError                4  ... the model
    │   ├── DataError                 4  ... the data
    │   └── ArtifactError             4  ... a folder that should be an artifact
    └── ResourceLimitError            5  disk, memory or time ran out

A limit that the result misses (``max_drop``) is no exception: the report says so and the command exits with 1.
Signals end in 130 (Ctrl-C), 143 (SIGTERM) and 129 (SIGHUP, the terminal was closed).

Every error has an id that does not change while its text may: the kind of its class, a dot, and what happened, as in
``data.no-labels``. The ids are those of `edgekit.error_catalogue`.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from edgekit.error_catalogue import remedy

LIMIT_MISSED_EXIT_CODE = 1


class EdgekitError(Exception):
    """What happened, why, and what to do next.

    Args:
        what: one sentence that names what was given.
        id: its key in `edgekit.error_catalogue`; the kind of the class otherwise.
        why: what is allowed, or what went wrong underneath.
        hint: what to do next; the catalogue's remedy otherwise.
    """

    exit_code: ClassVar[int] = 70
    kind: ClassVar[str] = "internal"

    def __init__(self, what: str, *, id: str = "", why: str = "", hint: str = "") -> None:
        self.id = id or self.kind
        self.what = what
        self.why = why
        self.hint = hint or remedy(self.id)
        super().__init__("\n".join(part for part in (what, why, hint) if part))

    def as_dict(self) -> dict[str, str | int]:
        """The error as the ``--json`` document carries it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "exit_code": self.exit_code,
            "what": self.what,
            "why": self.why,
            "hint": self.hint,
        }


class VerificationError(EdgekitError):
    exit_code = 1
    kind = "verification"


class UsageError(EdgekitError):
    exit_code = 2
    kind = "usage"


class UnknownNameError(UsageError):
    """A name that is in none of the tables.

    Args:
        noun: what the name should be, as in "target".
        name: what was given.
        allowed: every name that exists.
        id: as for every error.
        hint: what to do next, beside the guess at what was meant.
    """

    kind = "unknown-name"

    def __init__(self, noun: str, name: str, allowed: Iterable[str], *, id: str = "", hint: str = "") -> None:
        names = sorted(allowed)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        super().__init__(
            f"there is no {noun} {name!r}",
            id=id,
            why=f"allowed: {', '.join(names)}" if names else f"no {noun} is known here",
            hint=" ".join(part for part in (guess, hint) if part),
        )


class HostError(EdgekitError):
    exit_code = 3
    kind = "environment"


class InputError(EdgekitError):
    exit_code = 4
    kind = "input"


class ModelError(InputError):
    kind = "model"


class DataError(InputError):
    kind = "data"


class ArtifactError(InputError):
    kind = "artifact"


class ResourceLimitError(EdgekitError):
    exit_code = 5
    kind = "resource-limit"


def exhaustion(error: BaseException | None) -> BaseException | None:
    """What says that memory or the disk ran out, of an error and its causes; None where none does."""
    while error is not None and not _says_exhausted(error):
        error = error.__cause__
    return error


def _says_exhausted(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # on a GPU, on a CPU
    return isinstance(error, MemoryError) or torchs


@contextlib.contextmanager
def retelling(tell: Callable[[str], EdgekitError], but: type[Exception] = MemoryError) -> Iterator[None]:
    """Tell what a library raises on a stranger's file as one of edgekit's errors: it may be of any class.

    What says that memory or the disk ran out is raised as it is, also as the cause of what the library raises, and so
    is what edgekit raises itself.

    Args:
        tell: makes the error of the library's own words.
        but: a class that is left as it is, too.
    """
    try:
        yield
    except (EdgekitError, but):
        raise
    except BaseException as error:
        name = type(error).__name__
        if not isinstance(error, Exception) and name != "PanicException":  # what Rust's libraries raise
            raise
        spent = exhaustion(error)
        if spent is not None:
            raise spent from spent.__cause__
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise tell(f"{name}: {' '.join(lines[:2])[:300]}") from error
