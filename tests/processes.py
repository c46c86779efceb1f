"""Another process that uses a cache, the end of a process that is no child, and what this one has open."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A process that marks what its arguments say, says that it has, and waits until its input ends.
OTHER = """
import sys
from pathlib import Path
from edgekit.marks import mark
for entry in sys.argv[2:]:
    mark(Path(sys.argv[1]), entry)
print("marked", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(root: Path, *entries: str) -> Iterator[subprocess.Popen[str]]:
    """A living process that uses entries of a cache."""
    command = [sys.executable, "-c", OTHER, str(root), *entries]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "marked\n"
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def opened_below(folder: Path) -> list[str] | None:
    """Files in a folder that this process has open; None where the system does not tell.

    Whatever else is open does not count: threads of tests before this one may yet close something of theirs.
    """
    links = Path("/proc/self/fd")
    if not links.exists():
        return None
    found = []
    for link in links.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(link))
    return sorted(name for name in found if name.startswith(f"{folder.resolve()}/"))


def ends(process: int, seconds: float = 600.0) -> bool:
    """Whether a process ends in this time: it is gone, or dead and not yet waited for. On Linux."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
