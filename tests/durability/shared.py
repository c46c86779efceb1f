"""Eight processes on one cache, with locks and with locks that everybody gets: the same hashes, nothing fails.

    python tests/durability/shared.py [--processes 8] [--rounds 25] [--seed 0]

In each round the processes do two runs at once, each of them several times, on a cache without the stages of this round
(another seed): the two differ in a limit, and have all stages in common. With locks, each stage is made once; with
`flock` replaced by something that always succeeds, more than once, and the results are the same all the same, in a
cache of their own. Each round is a line of the results: the same command again goes on behind it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from world import UNTRAINED, Blocks, World, ended, forked, hashes, leftovers, preload, stages_done

LIMITS = (1.0, 0.9)
# What the two runs have in common of their results.
COMMON = ("model.onnx", "golden/model.safetensors")
CHANGES: dict[str, Any] = {"recipe": "quantize", "settings": UNTRAINED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    preload()
    blocks = Blocks("shared", processes=given.processes, seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), 40)
        for locks in (True, False):
            name = "with locks" if locks else "without locks"
            rounds = Rounds(world, Path(folder) / name, given.processes, locks=locks)
            for number in range(given.rounds):
                block = f"{name}, round {number}"
                if not blocks.is_done(block):
                    made, artifact, problems = rounds.one(given.seed * given.rounds + number)
                    other = blocks.done.get(f"with locks, round {number}", {}).get("artifact", artifact)
                    problems += [] if other == artifact else ["another result than with locks"]
                    blocks.add(block, problems, stages_made=made, locks=locks, artifact=artifact)
    made = {
        name: sum(record["stages_made"] for record in blocks.done.values() if record["locks"] is locks)
        for name, locks in (("with locks", True), ("without locks", False))
    }
    blocks.finish(rounds=len(blocks.done), stages_made=made)


class Rounds:
    """Processes that do the same at once on one cache.

    Args:
        world: of the runs.
        root: a new folder for the cache and the outputs.
        processes: how many.
        locks: whether `flock` is the system's.
    """

    def __init__(self, world: World, root: Path, processes: int, *, locks: bool) -> None:
        root.mkdir()
        self._world, self._root, self._processes, self._locks = world, root, processes, locks
        self._done: Counter[str] = Counter()

    def one(self, seed: int) -> tuple[int, str, list[str]]:
        """A round: how many stages were made, sha256 of the result, and what was wrong."""
        cache, errors = self._root / "cache", self._root / f"errors-{seed}.log"
        outs = [self._root / f"out-{seed}-{number}" for number in range(self._processes)]
        running = [
            forked(partial(_one, self._world, out, cache, seed, self._locks, LIMITS[number % 2]), errors)
            for number, out in enumerate(outs)
        ]
        codes = [ended(process) for process in running]
        if any(codes):
            return 0, "", [f"ended with {codes}: {errors.read_text()[-1500:]}"]
        found = [hashes(out) for out in outs]
        problems = [f"{out.name} differs" for number, out in enumerate(outs) if found[number] != found[number % 2]]
        problems += [f"{name} differs between the runs" for name in COMMON if found[0][name] != found[1][name]]
        done = Counter(event["key"] for event in stages_done(cache))
        if self._locks:
            problems += [
                f"left behind: {path}" for path in sorted({left for out in outs for left in leftovers(cache, out)})
            ]
            problems += [f"stage {key[:12]} was made {made} times" for key, made in done.items() if made > 1]
        made, self._done = (done - self._done).total(), done
        for out in outs:
            shutil.rmtree(out)
        return made, hashlib.sha256(json.dumps(found[0], sort_keys=True).encode()).hexdigest(), problems


def _one(world: World, out: Path, cache: Path, seed: int, locks: bool, limit: float) -> None:
    if not locks:
        fcntl.flock = lambda descriptor, operation: None
    world.compress(out, cache, seed=seed, max_drop=limit, **CHANGES)


if __name__ == "__main__":
    main()
