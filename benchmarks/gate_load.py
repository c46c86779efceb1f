"""Other load: processes that compute for nothing, all the time or in bursts.

python benchmarks/gate_load.py --hogs 3 --bursts --seconds 60
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator

# Lengths of bursts and of what lies between, as builds and tests of others on a shared runner have them.
BURST_S, PAUSE_S = (0.05, 1.5), (0.05, 2.0)
# After so long each looks whether whoever started it is still there.
LOOK_S = 1.5


def burn(seconds: float) -> None:
    """Compute for so long."""
    end = time.monotonic() + seconds
    value = 1.0
    while time.monotonic() < end:
        for _ in range(1000):
            value = value * 1.0000001 + 1e-9


def hog(seconds: float, bursts: bool, seed: int, maker: int) -> None:
    """Compute, all the time or in bursts of random length; not beyond the end of the process that started it."""
    draw, end = random.Random(seed), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and os.getppid() == maker:
        burn(min(left, draw.uniform(*BURST_S) if bursts else LOOK_S))
        if bursts:
            time.sleep(draw.uniform(*PAUSE_S))


@contextlib.contextmanager
def load(hogs: int, *, bursts: bool, seed: int = 0) -> Iterator[None]:
    """So many hogs in the meantime."""
    command = [sys.executable, __file__, "--seconds", "86400", *(["--bursts"] if bursts else [])]
    command += ["--maker", str(os.getpid())]
    processes = [subprocess.Popen([*command, "--seed", str(seed + number)]) for number in range(hogs)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hogs", type=int, default=2)
    parser.add_argument("--bursts", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--maker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.maker:
        hog(options.seconds, options.bursts, options.seed, options.maker)
        return
    with load(options.hogs, bursts=options.bursts, seed=options.seed):
        time.sleep(options.seconds)


if __name__ == "__main__":
    main()
