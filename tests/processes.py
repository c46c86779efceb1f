"""Another process that uses a cache."""

from __future__ import annotations

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
