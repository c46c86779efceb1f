"""Single flipped bits in a cache and tampered artifacts: every one is found and named.

    python tests/durability/damage.py [--flips 200] [--tampers 300] [--seed 0]

A bit of a file of the cache's objects is flipped: `cache verify` names the object, `Cache.get` says that it is absent,
and it is sound again when the bit is back. An artifact is tampered with: a bit flipped, bytes cut off or put on, a file
removed, added, renamed, exchanged with another, or replaced by a link to its own copy: `verify` names it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from world import World, ended, finish, forked, preload, quiet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--tampers", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    preload()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, quiet():
        root = Path(folder)
        world, errors = World(root, 40), root / "errors.log"
        changes = {"recipe": "quantize", "settings": {"optimize.seconds": "0.1", "quantize.tolerance": "1.0"}}
        if code := ended(forked(lambda: world.compress(root / "out", root / "cache", **changes), errors)):
            raise SystemExit(f"the run ended with {code}: {errors.read_text()[-2000:]}")
        random_ = random.Random(given.seed)
        flipped, missed = flip_bits(root / "cache", given.flips, random_)
        kinds, passed = tamper(root / "out", given.tampers, random_)
    record = {
        "seed": given.seed,
        "flips": flipped,
        "tampers": dict(sorted(kinds.items())),
        "seconds": round(time.monotonic() - began, 1),
    }
    finish("damage", record, [*missed, *passed])


def flip_bits(root: Path, count: int, random_: random.Random) -> tuple[int, list[str]]:
    """Flip bits of objects, one at a time, in files drawn by their size and, every second time, evenly."""
    from edgekit.cache import Cache
    from edgekit.upkeep import verify_cache

    cache, missed = Cache(root), []
    files = [path for path in sorted((root / "objects").rglob("*")) if path.is_file() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    for number in range(count):
        file = random_.choices(files, sizes)[0] if number % 2 else random_.choice(files)
        key = file.relative_to(root / "objects").parts[0]
        content = file.read_bytes()
        place, bit = random_.randrange(len(content)), random_.randrange(8)
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        named = [damage.name for damage in verify_cache(cache).damaged] if number % 20 == 0 else [f"objects/{key}"]
        if cache.get(key) is not None or named != [f"objects/{key}"]:
            missed.append(f"bit {bit} of byte {place} of {file.relative_to(root)}")
        file.write_bytes(content)
        if cache.get(key) is None:
            missed.append(f"{file.relative_to(root)} is not sound again")
    return count, missed


def tamper(out: Path, count: int, random_: random.Random) -> tuple[Counter[str], list[str]]:
    """Tamper with copies of an artifact."""
    from edgekit.artifact import find_tampering
    from edgekit.errors import ArtifactError

    kinds: Counter[str] = Counter()
    passed = []
    for number in range(count):
        copy = out.with_name("tampered")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(out, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        kind, change = list(TAMPERS.items())[number % len(TAMPERS)]
        file = random_.choice(files)
        change(file, random_.choice([path for path in files if path != file]), random_)
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
