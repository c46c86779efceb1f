"""Run a command, and leave its seconds and its peak memory in a file.

    python measured.py RESULT.json COMMAND ...

This has to be a small process of its own: until a new process has started its program, the system counts as its
memory what its parent uses. The peak is that of the largest process among the command and those that it waited for, or,
on Linux, the most that all of its processes took together when they were looked at: each process's share of the memory
that it has in common with others (PSS of smaps_rollup, proc_pid_smaps(5)), every 50 ms.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

# getrusage(2): kilobytes on Linux, bytes on macOS.
UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
EVERY_SECONDS = 0.05


def tree(process: int) -> list[int]:
    """A process and all that came of it."""
    found = [process]
    for one in found:
        for file in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, read(file).split())
    return found


def together(processes: list[int]) -> int:
    """Bytes that processes take, what they share counted once."""
    lines = [line for one in processes for line in read(Path(f"/proc/{one}/smaps_rollup")).splitlines()]
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def read(file: Path) -> str:
    """A file of a process; empty when it is gone."""
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""


def watch(process: int, ended: threading.Event, peaks: list[int]) -> None:
    """Look at a process and its children until it has ended."""
    while not ended.wait(EVERY_SECONDS):
        peaks.append(together(tree(process)))


def main(result: str, *command: str) -> int:
    began = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ)
    ended, peaks = threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(process, ended, peaks))
    watcher.start()
    _, status, used = os.wait4(process, 0)
    seconds = time.monotonic() - began
    ended.set()
    watcher.join()
    measured = {
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_bytes": max(used.ru_maxrss * UNIT_BYTES, *peaks),
    }
    Path(result).write_text(json.dumps(measured), encoding="utf-8")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        print(f"ended by signal {-code}", file=sys.stderr)
    return abs(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
