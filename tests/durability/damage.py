"""Single flipped bits in a cache and tampered artifacts: every one is found and named.

    python tests/durability/damage.py [--flips 340] [--tampers 300] [--seed 0]

A bit of a file of the cache is flipped: in an object, in what a run has decided, in a checkpoint of a training or a
calibration. `cache verify` names the object or the run, nothing takes what it says, and it is sound again when the bit
is back. An artifact is tampered with: a bit flipped, bytes cut off or put on, a file removed, added, renamed, exchanged
with another, or replaced by a link to its own copy: `verify` names it. Each twenty are a line of the results: the same
command again goes on behind it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from world import Blocks, World, ended, forked, preload, quiet

BLOCK = 20
# What is damaged in the cache, of each ten times: of 340, 204 are in objects.
PLACES = (*["objects"] * 6, *["runs"] * 2, *["work"] * 2)
CHECKPOINTS = ("step-", "samples-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=340)
    parser.add_argument("--tampers", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    preload()
    blocks = Blocks("damage", seed=given.seed)
    with tempfile.TemporaryDirectory() as folder, quiet():
        root, made = Path(folder), False
        for work, count in ((flip_bits, given.flips), (tamper, given.tampers)):
            for first in range(0, count, BLOCK):
                numbers = range(first, min(first + BLOCK, count))
                name = f"{work.__name__} {first} to {numbers[-1]}"
                if not blocks.is_done(name):
                    made = made or make(root)
                    kinds, missed = work(root, numbers, given.seed)
                    blocks.add(name, missed, **{work.__name__: dict(sorted(kinds.items()))})
    blocks.finish(flips=dict(_sum(blocks, "flip_bits")), tampers=dict(_sum(blocks, "tamper")))


def _sum(blocks: Blocks, name: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for record in blocks.done.values():
        found.update(record.get(name, {}))
    return found


def make(root: Path) -> bool:
    """A finished run in `cache` and `out`, and the checkpoints that it had on the way in `work`."""
    world, errors = World(root), root / "errors.log"
    process = forked(lambda: world.compress(root / "out", root / "cache"), errors)
    seen: set[str] = set()
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if any(_kind(place) not in seen for place in _checkpoints(root / "cache" / "work")):
            os.kill(process, signal.SIGSTOP)  # what is copied stays meanwhile
            for place in _checkpoints(root / "cache" / "work"):
                if _kind(place) not in seen and not (root / "work" / place.name).exists():
                    shutil.copytree(place, root / "work" / place.name)
                    seen.add(_kind(place))
            os.kill(process, signal.SIGCONT)
        time.sleep(0.002)
    if code := ended(process):
        raise SystemExit(f"the run ended with {code}: {errors.read_text()[-2000:]}")
    if len(seen) < len(CHECKPOINTS):
        raise SystemExit(f"of {CHECKPOINTS} only {sorted(seen)} were seen")
    return True


def _checkpoints(folder: Path) -> Iterator[Path]:
    return (
        place for prefix in CHECKPOINTS for place in folder.glob(f"*/{prefix}*") if (place / ".object.json").exists()
    )


def _kind(place: Path) -> str:
    return next(prefix for prefix in CHECKPOINTS if place.name.startswith(prefix))


def flip_bits(root: Path, numbers: range, seed: int) -> tuple[Counter[str], list[str]]:
    """Flip bits, one at a time, in files drawn by their size and, every second time, evenly."""
    looks: dict[str, Callable[[Path], list[str]]] = {
        "objects": look_at_object,
        "runs": look_at_run,
        "work": look_at_work,
    }
    kinds, missed = Counter[str](), []
    for number in numbers:
        draw = random.Random(f"flip {seed} {number}")
        kind = PLACES[number % len(PLACES)]
        folder = root / "work" if kind == "work" else root / "cache" / kind
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
        files = [path for path in files if path.name != "events.jsonl"]  # a log, which decides nothing
        file = draw.choices(files, [path.stat().st_size for path in files])[0] if number % 2 else draw.choice(files)
        content = file.read_bytes()
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        entry = folder / file.relative_to(folder).parts[0]
        problems = looks[kind](entry)
        file.write_bytes(content)
        problems += [f"not sound again: {problem}" for problem in damages(root, entry)]
        missed += [f"bit {bit} of byte {place} of {file.relative_to(root)}: {problem}" for problem in problems]
        kinds[kind] += 1
    return kinds, missed


def damages(root: Path, entry: Path) -> list[str]:
    """What is said of an entry of the cache, or of a checkpoint."""
    from edgekit.cache import find_damage
    from edgekit.summed import find_damage as find_damaged_record

    problem = find_damaged_record(entry) if entry.parent.name == "runs" else find_damage(entry)
    return [] if problem is None else [problem]


def look_at_object(entry: Path) -> list[str]:
    """A damaged object is named by `cache verify`, and is a miss."""
    from edgekit.cache import Cache

    problems = _named(entry)
    return problems + (["it is taken"] if Cache(entry.parents[1]).get(entry.name) is not None else [])


def look_at_run(entry: Path) -> list[str]:
    """Damaged decisions are named by `cache verify`, and what is taken of them is what was decided."""
    from edgekit.decisions import CLAIMS, DECISION, DECISIONS, RunDecisions
    from edgekit.summed import read_whole

    right: dict[str, Any] = {}
    for file in (*entry.glob(f"{CLAIMS}/*/{DECISION}"), entry / DECISIONS):
        try:
            right |= read_whole(file)["decided"]
        except ValueError:
            continue  # the damaged one: all that it says is in another
    copy = entry.parents[2] / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(entry, copy)
    taken = RunDecisions(copy / DECISIONS, {}).known
    problems = [
        f"{name} is taken as {value!r}" for name, value in taken.items() if name in right and right[name] != value
    ]
    return _named(entry) + problems + [f"{name} came from nowhere" for name in taken.keys() - right.keys()]


def look_at_work(entry: Path) -> list[str]:
    """A damaged checkpoint is not gone on from."""
    from edgekit.cache import newest_whole

    return ["it is taken"] if newest_whole(entry.parent, entry.name) is not None else []


def _named(entry: Path) -> list[str]:
    from edgekit.cache import Cache
    from edgekit.upkeep import verify_cache

    named = [damage.name for damage in verify_cache(Cache(entry.parents[1])).damaged]
    wanted = f"{entry.parent.name}/{entry.name}"
    return [] if named == [wanted] else [f"`cache verify` names {named}, and not {wanted}"]


def tamper(root: Path, numbers: range, seed: int) -> tuple[Counter[str], list[str]]:
    """Tamper with copies of an artifact."""
    from edgekit.errors import ArtifactError
    from edgekit.sealing import find_tampering

    kinds: Counter[str] = Counter()
    passed = []
    for number in numbers:
        draw, copy = random.Random(f"tamper {seed} {number}"), root / "tampered"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root / "out", copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        kind, change = list(TAMPERS.items())[number % len(TAMPERS)]
        file = draw.choice(files)
        change(file, draw.choice([path for path in files if path != file]), draw)
        kinds[kind] += 1
        try:
            found = bool(find_tampering(copy))
        except ArtifactError:  # it has no seal any more
            found = True
        if not found:
            passed.append(f"{number}: {kind} {file.relative_to(copy)}")
    return kinds, passed


def _flip(file: Path, other: Path, random_: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    file.write_bytes(content)


def _cut(file: Path, other: Path, random_: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: random_.randrange(len(content))])


def _append(file: Path, other: Path, random_: random.Random) -> None:
    with file.open("ab") as stream:
        stream.write(random_.randbytes(1 + random_.randrange(9)))


def _remove(file: Path, other: Path, random_: random.Random) -> None:
    file.unlink()


def _add(file: Path, other: Path, random_: random.Random) -> None:
    name = random_.choice(["more.bin", ".hidden", "model.onnx.data", "sha256sums", "golden/more", "deep/er/file"])
    added = other.parent / name
    added.parent.mkdir(parents=True, exist_ok=True)
    added.write_bytes(random_.randbytes(random_.randrange(9)))


def _rename(file: Path, other: Path, random_: random.Random) -> None:
    file.rename(file.with_name(f"{file.name}.{random_.randrange(100)}"))


def _exchange(file: Path, other: Path, random_: random.Random) -> None:
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two if one != two else two + b" ")
    other.write_bytes(one)


def _link(file: Path, other: Path, random_: random.Random) -> None:
    copy = file.parents[1] / f"copy-of-{file.name}"  # beside the artifact, or in it
    shutil.copyfile(file, copy)
    file.unlink()
    file.symlink_to(copy)


TAMPERS: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "bit flipped": _flip,
    "cut short": _cut,
    "longer": _append,
    "removed": _remove,
    "added": _add,
    "renamed": _rename,
    "exchanged": _exchange,
    "link": _link,
}

if __name__ == "__main__":
    main()
