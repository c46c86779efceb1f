"""Become another program, with limits, and not longer than the process that asked for it: a program of its own.

    python -I -S become.py '{"lifeline": 5, "limits": {"2": [1000, 1000]}}' PROGRAM ARGUMENTS...

``confinement.py`` starts it, with nothing but Python's own library. ``limits`` are those of setrlimit(2). ``lifeline``
is the reading end of a pipe whose other end the asking process has, and never writes to: when that process is gone,
however it ended, the kernel closes its end and sends SIGKILL to this one (fcntl(2): O_ASYNC, F_SETSIG), also where
native code computes without an end. PR_SET_PDEATHSIG would be sent as soon as the thread is gone that began it.
"""

import fcntl
import json
import os
import resource
import select
import signal
import sys


def main() -> None:
    """Set what the first argument says, and go on as the program that the others name."""
    wanted, command = json.loads(sys.argv[1]), sys.argv[2:]
    pipe = wanted["lifeline"]
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]  # Linux's
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it has ended before
        os._exit(1)
    for kind, (soft, hard) in wanted["limits"].items():
        resource.setrlimit(int(kind), (soft, hard))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
