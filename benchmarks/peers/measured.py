"""Run a command, and leave its seconds and its peak resident memory in a file.

    python measured.py RESULT.json COMMAND ...

This has to be a small process of its own: until a new process has started its program, the system counts as its
memory what its parent uses. The peak is that of the largest process among the command and those that it waited for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

# getrusage(2): kilobytes on Linux, bytes on macOS.
UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def main(result: str, *command: str) -> int:
    began = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(process, 0)
    measured = {"seconds": time.monotonic() - began, "peak_memory_bytes": used.ru_maxrss * UNIT_BYTES}
    Path(result).write_text(json.dumps(measured), encoding="utf-8")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        print(f"ended by signal {-code}", file=sys.stderr)
    return abs(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
