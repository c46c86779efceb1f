"""SIGKILL and SIGTERM at random moments over all stages: each run goes on and ends in the bytes of one left alone.

    python tests/durability/kills.py [--kills 160] [--terms 40] [--seed 0]

A run of the command line is killed again and again until it is finished; then a new one begins. Each time one of the
next stages is drawn, or the work after the last, and a moment of the processor time that it takes; each is hit twice at
the most. Of each finished run are checked: the hashes of its files, that no stage was done twice, that trainings and
calibrations went on from their last checkpoint, that nothing half-written is left (what libraries leave in TMPDIR is
told beside it), that every object of the cache is sound, and of SIGTERM that it ended the command within 5 s with a
documented code. A run begins when all of the killed one is gone. Each finished run is a line of the results: the same
command again goes on behind it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from world import TEMPORARY, Blocks, World, ended, events, forked, hashes, leftovers, preload, stages_done

STOP_SECONDS = 5.0
# What the end of the interpreter takes on a busy machine, once a command has done its work.
ENDING_SECONDS = 1.0
# All of a killed command is waited for so long.
GONE_SECONDS = 10.0
MOST_PROBLEMS = 10
# How far ahead a stage may be that is hit, and how often one of a run is.
NEXT, MOST_HITS = 3, 2
# The signal itself where it comes before a command is ready for it.
CODES = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (128 + signal.SIGTERM, -signal.SIGTERM)}
# What is said where native code did not let Python answer SIGTERM: `docs/cache.md`.
BY_THE_WATCHER = "native code did not answer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=160)
    parser.add_argument("--terms", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    preload()
    blocks = Blocks("kills", seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        kill_runs(Path(folder), blocks, given.kills, given.terms, given.seed)
    at: Counter[str] = Counter()
    for record in blocks.done.values():
        at.update(record["signals"])
    slowest = max(record["slowest_stop_seconds"] for record in blocks.done.values())
    sums = {name: blocks.total(name) for name in ("kills", "terms", "ended_by_the_watcher", "went_on")}
    blocks.finish(**sums, signals=dict(sorted(at.items())), slowest_stop_seconds=slowest)


def kill_runs(root: Path, blocks: Blocks, kills: int, terms: int, seed: int) -> None:
    """Kill runs until so many signals were sent, those of earlier sessions included."""
    world, errors, whole = World(root), root / "errors.log", root / "whole" / "out"
    _, status, used = os.wait4(forked(partial(world.run_command, whole, root / "whole" / "cache"), errors), 0)
    if status:
        raise SystemExit(f"the run that was left alone ended with {status}: {errors.read_text()[-2000:]}")
    killing = Killing(world, hashes(whole), _parts(whole.with_name("cache"), used.ru_utime + used.ru_stime), errors)
    number = 0
    while kills + terms > 0 and sum(len(record["problems"]) for record in blocks.done.values()) < MOST_PROBLEMS:
        number += 1
        name = f"run {number}"
        if not blocks.is_done(name):
            place, draw = root / f"run-{number}", random.Random(f"{seed} {number}")
            left = {signal.SIGKILL: kills, signal.SIGTERM: terms}
            problems, figures = killing.one(place, draw, left)
            blocks.add(name, problems, **figures)
            shutil.rmtree(place, ignore_errors=True)
        kills, terms = (max(0, one - blocks.done[name][key]) for one, key in ((kills, "kills"), (terms, "terms")))


class Killing:
    """Runs that are killed until they are finished.

    Args:
        world: of the runs.
        expected: hashes of the result of a run that was left alone.
        parts: seconds of a processor that each of its stages takes, and the work after the last.
        errors: where runs say what they have to say.
    """

    def __init__(self, world: World, expected: dict[str, str], parts: list[float], errors: Path) -> None:
        self._world, self._expected, self._parts, self._errors = world, expected, parts, errors

    def one(
        self, place: Path, draw: random.Random, left: dict[signal.Signals, int]
    ) -> tuple[list[str], dict[str, Any]]:
        """A run, killed again and again: what was wrong, and figures.

        Args:
            place: of its output and its cache.
            draw: the moments and the signals.
            left: how many of each signal are still to be sent.
        """
        out, cache, problems = place / "out", place / "cache", list[str]()
        at: Counter[str] = Counter()
        sent: Counter[signal.Signals] = Counter()
        hits: Counter[int] = Counter()
        slowest, left, told = 0.0, dict(left), self._told()
        while True:
            parts = [part for part in range(len(stages_done(cache)), len(self._parts)) if hits[part] < MOST_HITS]
            part = draw.choice(parts[:NEXT]) if parts and any(left.values()) else None
            process = forked(partial(self._world.run_command, out, cache), self._errors, group=True)
            if part is None or not _reaches(process, cache, part, draw.uniform(0.0, self._parts[part])):
                problems += self._check(ended(process), out, cache)
                break
            (number,) = draw.choices(list(left), list(left.values()))
            place_hit = _working_on(cache)
            os.kill(process, number)
            stopped = time.monotonic()
            code = ended(process)
            if code == 0 and time.monotonic() - stopped < ENDING_SECONDS:  # all was done when the signal came
                problems += self._check(code, out, cache)
                break
            hits[part] += 1
            left[number] -= 1
            sent[number] += 1
            at[place_hit] += 1
            if number == signal.SIGTERM:
                slowest = max(slowest, time.monotonic() - stopped)
            if code not in CODES[number]:
                problems.append(f"{number.name} ended it with {code}: {self._told()[-500:]}")
            _wait_for_all_of(process)
        if slowest > STOP_SECONDS:
            problems.append(f"SIGTERM took {slowest:.1f} s")
        return problems, {
            "kills": sent[signal.SIGKILL],
            "terms": sent[signal.SIGTERM],
            "ended_by_the_watcher": self._told().count(BY_THE_WATCHER) - told.count(BY_THE_WATCHER),
            "went_on": _went_on(cache)[0],
            "signals": dict(sorted(at.items())),
            "slowest_stop_seconds": round(slowest, 2),
            "of_libraries_in_tmpdir": sorted(path.name for path in cache.with_name(TEMPORARY).glob("*")),
        }

    def _told(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def _check(self, code: int, out: Path, cache: Path) -> list[str]:
        from edgekit.cache import Cache
        from edgekit.sealing import find_tampering
        from edgekit.upkeep import verify_cache

        if code:
            return [f"ended with {code}: {self._told()[-2000:]}"]
        found, expected = hashes(out), self._expected
        names = sorted(expected.keys() | found.keys())
        problems = [f"{name} differs" for name in names if expected.get(name) != found.get(name)]
        problems += find_tampering(out)
        twice = Counter(event["key"] for event in stages_done(cache))
        problems += [f"stage {key[:12]} was done {count} times" for key, count in twice.items() if count > 1]
        problems += _went_on(cache)[1]
        problems += [f"left behind: {path}" for path in leftovers(cache, out)]
        return problems + [f"{damage.name}: {damage.problem}" for damage in verify_cache(Cache(cache)).damaged]


def _went_on(cache: Path) -> tuple[int, list[str]]:
    """How often a training or a calibration went on from a checkpoint, and where one began before its last one."""
    reached, times, problems = Counter[str](), 0, list[str]()
    for event in events(cache):
        work, _, what = event["event"].partition(".")
        number = int(event.get("step", event.get("sample", 0)))
        if what == "checkpoint":
            reached[work] = number
        elif what == "start":
            times += number > 0
            if number < reached[work]:
                problems.append(f"{work} began at {number}, with a checkpoint at {reached[work]}")
    return times, problems


def _parts(cache: Path, seconds: float) -> list[float]:
    """How long each stage of a run took, and the work after the last; what lies between them is shared out evenly."""
    stages = [float(event["seconds"]) for event in stages_done(cache)]
    between = max(0.0, seconds - sum(stages)) / (len(stages) + 1)
    return [between + stage for stage in (*stages, 0.0)]


def _reaches(process: int, cache: Path, part: int, seconds: float) -> bool:
    """Wait until so many stages are done and the command has used so much of a processor since: a busy machine moves no
    moment. False where it ended before that.
    """
    begun = None if len(stages_done(cache)) < part else 0.0
    while begun is None or _used_seconds(process) < begun + seconds:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        if begun is None and len(stages_done(cache)) >= part:
            begun = _used_seconds(process)
        time.sleep(0.002)
    return True


def _used_seconds(process: int) -> float:
    """Processor time of a command, which waits, and of its child, which works: fields 14 to 15 of proc(5)."""
    used = 0
    for one in (process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())):
        with contextlib.suppress(OSError):  # it has just ended
            fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def _wait_for_all_of(group: int) -> None:
    """Wait for the child of a killed command, which the system ends some tenths of a second after it, with its memory.

    A run that begins before that takes what it was writing for another process's; the next one removes it.
    """
    until = time.monotonic() + GONE_SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(0.002)


def _working_on(cache: Path) -> str:
    """The last stage that is done: what the signal finds is the work after it."""
    done = stages_done(cache)
    return f"after {done[-1]['stage']}" if done else "before the first stage was done"


if __name__ == "__main__":
    main()
