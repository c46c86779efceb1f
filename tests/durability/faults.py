"""The n-th write, fsync or rename of a run fails, n = 1, 2, 3 ... until a run completes (as SQLite is tested).

    python tests/durability/faults.py [--every 1] [--errors ENOSPC EIO EACCES]
    python tests/durability/faults.py --recipe default --every 10     # with a training

After each: the output is the old or the new artifact, in every file; every object of the cache is sound; and the same
run again, with nothing failing, ends in the new artifact and leaves nothing half-written. Exporting takes most of a
run's time, so there are two parts: runs that begin with nothing, until the call that fails lies behind the export, and
runs that find the original's export in the cache, to their ends. A shim in C, loaded before libc, counts the calls and
lets one fail; it is made with `cc`. Each twenty calls are a line of the results: the same command again goes on behind
it.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_suffix(".c")
WRITES, SYNCS, RENAMES = 1, 2, 4
KINDS = {"write": WRITES, "fsync": SYNCS, "rename": RENAMES}
ERRORS = ("ENOSPC", "EIO", "EACCES")
BEFORE, BEHIND = PARTS = ("up to the export", "behind it")
# So many calls are a line of the results, and after so many problems there is enough to look at.
CHUNK, MOST_PROBLEMS = 20, 10


def build(folder: Path) -> Path:
    """The shim, compiled."""
    file = folder / "faults.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(file), str(SOURCE), "-ldl"], check=True)
    return file


def restarted_with(shim: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """A script in a process that has the shim."""
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FAULTS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False, text=True, capture_output=True)


@dataclass
class Faults:
    """Lets calls below a folder fail; in a process that has the shim.

    Attributes:
        root: real path of the folder.
    """

    root: Path
    library: Any = field(default_factory=lambda: ctypes.CDLL(None))

    def arm(self, kinds: int, number: int, error: str) -> None:
        folder = os.fsencode(self.root.resolve())
        self.library.fault_arm(folder, kinds, ctypes.c_long(number), getattr(errno, error))

    @property
    def counted(self) -> int:
        return int(self.library.fault_counted())

    @property
    def hit(self) -> bool:
        return bool(self.library.fault_hit())


@dataclass(frozen=True)
class Trial:
    """What is done under faults, and how what is left is judged.

    Attributes:
        prepare: puts a fresh folder in the state before.
        run: does it there.
        check: what is wrong in it after a run; second, whether the new artifact has to be there, since the run did not
            fail; third, whether nothing may be left behind, since nothing failed on the way.
        enough: whether a run that failed had come so far that the calls that follow are for another trial.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], object]
    check: Callable[[Path, bool, bool], list[str]]
    enough: Callable[[Path], bool] = lambda _: False


@dataclass(frozen=True)
class Injected:
    """What failing calls led to.

    Attributes:
        codes: exit codes of the runs.
        problems: what was wrong.
        calls: how many there are until it is enough, or in a whole run; None where the end was not reached.
    """

    codes: Counter[int]
    problems: list[str]
    calls: int | None = None


def inject(trial: Trial, root: Path, kind: str, error: str, numbers: Iterable[int]) -> Injected:
    """Let each of these calls of a kind fail, until a run has fewer of them."""
    from world import ended, forked

    codes: Counter[int] = Counter()
    problems: list[str] = []
    for number in numbers:
        place = root / f"{kind}-{error}-{number}"
        place.mkdir()
        trial.prepare(place)
        errors = place.with_suffix(".log")
        code = ended(forked(lambda: _one(trial, place, kind, number, error), errors))  # noqa: B023  # forked at once
        done = (place / "not-hit").exists()
        (place / "not-hit").unlink(missing_ok=True)
        last = done or (code != 0 and trial.enough(place))  # a failure that is borne with tells not where it was
        codes[code] += 1
        where = f"{kind} {number} {error}"
        if code < 0 or code > 1:
            problems.append(f"{where}: the run ended with {code}")
        problems += [f"{where}: {problem}" for problem in trial.check(place, done or code == 0, done)]
        again = ended(forked(lambda: trial.run(place), errors))  # noqa: B023  # as above
        problems += [f"{where}, again: ended with {again}: {errors.read_text()[-800:]}"] if again else []
        problems += [f"{where}, again: {problem}" for problem in trial.check(place, True, True)]
        shutil.rmtree(place)
        if last or len(problems) >= MOST_PROBLEMS:
            return Injected(codes, problems, number - 1)
    return Injected(codes, problems)


def _one(trial: Trial, place: Path, kind: str, number: int, error: str) -> None:
    faults = Faults(place)
    faults.arm(KINDS[kind], number, error)
    try:
        trial.run(place)
    finally:
        hit = faults.hit
        faults.arm(0, 0, error)
        if not hit:
            (place / "not-hit").touch()


def compressing(root: Path, recipe: str) -> dict[str, Trial]:
    """A whole run over an output of another one: with nothing in the cache, and with what the other left there."""
    from world import SETTINGS, UNTRAINED, World, ended, forked, hashes, leftovers, stages_done

    from edgekit.cache import Cache
    from edgekit.sealing import find_tampering
    from edgekit.upkeep import verify_cache

    world = World(root / "world", 40)
    settings = SETTINGS if recipe == "default" else UNTRAINED

    def run(place: Path, **changes: Any) -> None:
        given = {"recipe": recipe, "settings": settings} | changes
        world.compress(place / "out", place / "cache", **given)

    old, new = root / "old", root / "new"
    for place, changes in ((old, {"recipe": "export", "settings": {"optimize.seconds": "0.1"}}), (new, {})):
        errors = place.with_suffix(".log")
        if code := ended(forked(lambda: run(place, **changes), errors)):  # noqa: B023  # as above
            raise SystemExit(f"a run without faults ended with {code}: {errors.read_text()[-2000:]}")
    before, after = hashes(old / "out"), hashes(new / "out")

    def check(place: Path, done: bool, tidy: bool) -> list[str]:
        out = place / "out"
        problems = [f"out: {line}" for line in find_tampering(out)]
        found = hashes(out)
        if found != after and (done or found != before):  # all of it, and not some files of each
            names = [name for name in sorted(found.keys() | after.keys()) if found.get(name) != after.get(name)]
            lock = (out / "recipe.lock.toml").read_text() if "recipe.lock.toml" in names else ""
            which = "the new artifact" if done else "the old or the new artifact"
            problems.append(f"out is not {which}: {', '.join(names)} {lock[-1500:]}")
        problems += [f"{one.name}: {one.problem}" for one in verify_cache(Cache(place / "cache")).damaged]
        return problems + ([f"left behind: {path}" for path in leftovers(place / "cache", out)] if tidy else [])

    def copy(place: Path, *names: str) -> None:
        for name in names:
            shutil.copytree(old / name, place / name)

    def exported(place: Path) -> bool:
        return any(event["stage"] == "export" for event in stages_done(place / "cache"))

    return {
        BEFORE: Trial(lambda place: copy(place, "out"), run, check, exported),
        BEHIND: Trial(lambda place: copy(place, "out", "cache"), run, check),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th call")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--errors", nargs="+", default=list(ERRORS), choices=ERRORS)
    parser.add_argument("--recipe", default="quantize")
    given = parser.parse_args()
    if not os.environ.get("FAULTS"):
        with tempfile.TemporaryDirectory() as folder:
            done = restarted_with(build(Path(folder)), [__file__, *sys.argv[1:]])
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        raise SystemExit(done.returncode)
    from world import Blocks, preload

    preload()
    blocks = Blocks("faults", recipe=given.recipe, every=given.every)
    with tempfile.TemporaryDirectory() as folder:
        trials = dict[str, Trial]()
        for kind, error, part in product(given.kinds, given.errors, PARTS):
            for first in count(1, CHUNK * given.every):
                name = f"{kind} {error} {part} from {first}"
                if not blocks.is_done(name):
                    trials = trials or compressing(Path(folder).resolve(), given.recipe)
                    numbers = range(first, first + CHUNK * given.every, given.every)
                    found = inject(trials[part], Path(folder).resolve(), kind, error, numbers)
                    codes = {str(code): number for code, number in sorted(found.codes.items())}
                    blocks.add(name, found.problems, calls=found.calls, exit_codes=codes)
                if blocks.done[name]["calls"] is not None:
                    break
    finish(blocks)


def finish(blocks: Any) -> None:
    """How many calls there are of each kind, and how runs ended."""
    calls, codes = dict[str, int](), Counter[str]()
    for block, record in blocks.done.items():
        codes.update(record["exit_codes"])
        if record["calls"] is not None:
            calls[block.partition(" from")[0]] = record["calls"]
    blocks.finish(calls=calls, exit_codes=dict(sorted(codes.items())))


if __name__ == "__main__":
    main()
