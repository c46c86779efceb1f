"""SIGKILL and SIGTERM at random moments over all stages: each run goes on and ends in the bytes of one left alone.

    python tests/durability/kills.py [--kills 160] [--terms 40] [--seed 0]

A run is killed again and again, at moments drawn from the seed, until it is finished; then a new one begins. Of each
finished one are checked: the hashes of its files, that no stage was done twice, that nothing half-written is left, that
every object of the cache is sound, and of SIGTERM that it ended the process within 5 s.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from world import World, ended, events, finish, forked, hashes, leftovers, preload

STOP_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=160)
    parser.add_argument("--terms", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        record, problems = kill_runs(Path(folder), given.kills, given.terms, given.seed)
    finish("kills", record, problems)


def kill_runs(root: Path, kills: int, terms: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Kill runs until so many signals were sent; figures, and what was wrong."""
    world, random_ = World(root), random.Random(seed)
    began = time.monotonic()
    whole = root / "whole" / "out"
    errors = root / "errors.log"
    _, status, used = os.wait4(forked(lambda: world.compress(whole, root / "whole" / "cache"), errors), 0)
    if status:
        return {}, [f"the run that was left alone ended with {status}: {errors.read_text()[-2000:]}"]
    seconds = used.ru_utime + used.ru_stime
    expected = hashes(whole)
    left = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    random_.shuffle(left)
    problems: list[str] = []
    at: Counter[str] = Counter()
    runs = sent = 0
    slowest = 0.0
    while left and len(problems) < 10:
        runs += 1
        place = root / f"run-{runs}"
        out, cache = place / "out", place / "cache"
        while True:
            # a run that goes on is shorter: within a third of it, the next signal mostly still finds it at work
            moment = random_.uniform(0.0, seconds / 3) if left else None
            process = forked(partial(world.compress, out, cache), errors, group=True)
            if moment is None or not _still_runs(process, moment):
                code = ended(process)
                break
            number = left.pop()
            at[_working_on(cache)] += 1
            sent += 1
            os.kill(process, number)
            stopped = time.monotonic()
            code = ended(process)
            slowest = max(slowest, time.monotonic() - stopped)
            if code != (-number if number == signal.SIGKILL else 128 + number):
                problems.append(f"run {runs}: signal {number} ended it with {code}: {errors.read_text()[-500:]}")
            if number == signal.SIGTERM and time.monotonic() - stopped > STOP_SECONDS:
                problems.append(f"run {runs}: SIGTERM took {time.monotonic() - stopped:.1f} s")
        problems += [f"run {runs}: {problem}" for problem in _check(code, out, cache, expected, errors)]
        print(f"run {runs}: {sent} signals, {len(problems)} problems", flush=True)
    record = {
        "seed": seed,
        "kills": kills,
        "terms": terms,
        "runs": runs,
        "signals": dict(sorted(at.items())),
        "whole_processor_seconds": round(seconds, 1),
        "slowest_stop_seconds": round(slowest, 2),
        "seconds": round(time.monotonic() - began, 1),
    }
    return record, problems


def _still_runs(process: int, seconds: float) -> bool:
    """Whether a process is still there when it has used so much of a processor: a busy machine moves no moment."""
    while _used_seconds(process) < seconds:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.002)
    return True


def _used_seconds(process: int) -> float:
    """Processor time, of user and system: fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _working_on(cache: Path) -> str:
    """The last stage that is done: what the signal finds is the work after it."""
    done = [event["stage"] for event in events(cache) if event["event"] == "stage.done"]
    return f"after {done[-1]}" if done else "before the first stage was done"


def _check(code: int, out: Path, cache: Path, expected: dict[str, str], errors: Path) -> list[str]:
    from edgekit.artifact import find_tampering
    from edgekit.cache import Cache
    from edgekit.upkeep import verify_cache

    if code:
        return [f"ended with {code}: {errors.read_text()[-2000:]}"]
    found = hashes(out)
    problems = [
        f"{name} differs" for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)
    ]
    problems += find_tampering(out)
    twice = Counter(event["key"] for event in events(cache) if event["event"] == "stage.done")
    problems += [f"stage {key[:12]} was done {count} times" for key, count in twice.items() if count > 1]
    problems += [f"left behind: {path}" for path in leftovers(cache, out)]
    return problems + [f"{damage.name}: {damage.problem}" for damage in verify_cache(Cache(cache)).damaged]


if __name__ == "__main__":
    main()
