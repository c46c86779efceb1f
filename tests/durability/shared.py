"""Eight processes on one cache, with locks and with locks that everybody gets: the same hashes, nothing fails.

    python tests/durability/shared.py [--processes 8] [--rounds 25] [--seed 0]

In each round every process does the same run at once, on a cache without the stages of this round (another seed). With
locks, each stage is made once; with `flock` replaced by something that always succeeds, more than once, and the
results are the same all the same.
"""

from __future__ import annotations

import argparse
import fcntl
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from world import World, ended, events, finish, forked, hashes, leftovers, preload

CHANGES: dict[str, Any] = {
    "recipe": "quantize",
    "settings": {"optimize.seconds": "0.1", "quantize.method": "static", "quantize.samples": "64"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    preload()
    began = time.monotonic()
    problems: list[str] = []
    made: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), 40)
        for locks in (True, False):
            name = "with locks" if locks else "without locks"
            stages, wrong = rounds(world, Path(folder) / name, given.processes, range(given.rounds), locks=locks)
            made[name] = sum(stages.values())
            problems += [f"{name}: {problem}" for problem in wrong]
            if locks:
                problems += [f"stage {key[:12]} was made {count} times" for key, count in stages.items() if count > 1]
    record = {
        "processes": given.processes,
        "rounds": given.rounds,
        "stages_made": made,
        "seconds": round(time.monotonic() - began, 1),
    }
    finish("shared", record, problems)


def rounds(world: World, root: Path, processes: int, seeds: range, *, locks: bool) -> tuple[Counter[str], list[str]]:
    """Let processes do the same at once, round for round; how often each stage was made, and what was wrong."""
    root.mkdir()
    cache, errors, problems = root / "cache", root / "errors.log", list[str]()
    for seed in seeds:
        outs = [root / f"out-{seed}-{number}" for number in range(processes)]
        running = [forked(partial(_one, world, out, cache, seed, locks), errors) for out in outs]
        codes = [ended(process) for process in running]
        if any(codes):
            problems.append(f"round {seed}: ended with {codes}: {errors.read_text()[-1500:]}")
            continue
        found = [hashes(out) for out in outs]
        problems += [
            f"round {seed}: {out.name} differs" for out, one in zip(outs, found, strict=True) if one != found[0]
        ]
        if locks:
            problems += [f"round {seed}: left behind: {path}" for path in leftovers(cache, outs[0])]
    done = Counter(event["key"] for event in events(cache) if event["event"] == "stage.done")
    return done, problems


def _one(world: World, out: Path, cache: Path, seed: int, locks: bool) -> None:
    if not locks:
        fcntl.flock = lambda descriptor, operation: None
    world.compress(out, cache, seed=seed, **CHANGES)


if __name__ == "__main__":
    main()
