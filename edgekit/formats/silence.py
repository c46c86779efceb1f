"""Native code that talks on standard error, kept quiet for as long as a block lasts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

DEBUG = "EDGEKIT_DEBUG"


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Send the process's standard error nowhere; with EDGEKIT_DEBUG it stays. What fails is raised all the same."""
    if os.environ.get(DEBUG):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
