"""Two builds by one lock, with everything around them different: `diff -r` tells what is not the same.

    python tests/durability/reproducible.py [--format onnx] [--recipe quantize]

The second build lies in another folder, as do its model and data, begins 3 s later, and has another time zone, umask,
hash seed, locale, number of cores and user (by HOME and the variables that name one). What may differ is `TOLD`: what
tells of the run and is no part of the model. No file may name a folder, the machine or the user, and every file has
mode 0644.
"""

from __future__ import annotations

import argparse
import getpass
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from world import TESTS, Blocks, World, preload

# When it was made and how long that took, on how many cores; and the sums, which cover these.
TOLD = {"report.json", "report.html", "README.md", "SHA256SUMS"}
SECONDS = 3.0
SURROUNDINGS: tuple[dict[str, Any], ...] = (
    {"TZ": "UTC", "PYTHONHASHSEED": "0", "LC_ALL": "C", "umask": 0o022, "cores": 1, "user": "one"},
    {"TZ": "Asia/Kolkata", "PYTHONHASHSEED": "77", "LC_ALL": "C.UTF-8", "umask": 0o077, "cores": None, "user": "other"},
)


def build(root: Path, place: Path, surroundings: dict[str, Any], given: list[str]) -> Path:
    """Compress in a process of its own; where the result lies."""
    place.mkdir(parents=True)
    home = place / "home" / surroundings["user"]
    home.mkdir(parents=True)
    names = dict.fromkeys(("USER", "LOGNAME", "USERNAME"), f"user-{surroundings['user']}")
    said = {name: surroundings[name] for name in ("TZ", "PYTHONHASHSEED", "LC_ALL")}
    environment = {**os.environ, **names, **said, "HOME": str(home), "HF_HOME": str(home / "hub")}

    def begin() -> None:
        os.umask(surroundings["umask"])
        if surroundings["cores"]:
            os.sched_setaffinity(0, list(os.sched_getaffinity(0))[: surroundings["cores"]])

    command = [sys.executable, str(Path(__file__)), "--build", str(root), str(place), *given]
    done = subprocess.run(
        command, cwd=place, env=environment, preexec_fn=begin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"a build ended with {done.returncode}: {done.stderr[-3000:]}")
    return place / "out"


def compare(one: Path, other: Path) -> list[str]:
    """What `diff -r` says, but for what tells of the run."""
    excluded = [word for name in sorted(TOLD) for word in ("-x", name)]
    done = subprocess.run(["diff", "-r", *excluded, one, other], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() + done.stderr.splitlines()


def traces(out: Path, words: list[str]) -> list[str]:
    """Files of a result in which a whole word stands, and files with another mode than 0644."""
    problems = []
    found = {word: re.compile(rb"(?<![A-Za-z0-9])" + re.escape(word.encode()) + rb"(?![A-Za-z0-9])") for word in words}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            content, name = path.read_bytes(), path.relative_to(out)
            problems += [f"{name} names {word!r}" for word, pattern in found.items() if pattern.search(content)]
            mode = path.stat().st_mode & 0o777
            problems += [f"{name} has mode {mode:o}"] if mode != 0o644 else []
    return problems


def check(root: Path, format_: str, recipe: str) -> tuple[dict[str, Any], list[str]]:
    """Three builds, the first of which makes the lock; figures, and what was wrong."""
    world_root = root / "given"
    world_root.mkdir()
    World(world_root, 60)
    common = ["--format", format_]
    first = build(world_root, root / "first", SURROUNDINGS[0], [*common, "--recipe", recipe])
    lock = ["--recipe", str(first / "recipe.lock.toml")]
    outs = []
    elsewhere = root / "the" / "same" / "elsewhere"
    shutil.copytree(world_root, elsewhere)
    for number, surroundings in enumerate(SURROUNDINGS):
        time.sleep(SECONDS * number)
        given, place = (elsewhere, "a") if number else (world_root, "b/deeper/down")
        outs.append(build(given, root / place, surroundings, common + lock))
    problems = compare(*outs)
    words = [str(root), str(TESTS.parent), platform.node(), "user-one", "user-other"]
    if len(getpass.getuser()) > 4:  # "root" is a word of graphs, too
        words.append(getpass.getuser())
    problems += [problem for out in outs for problem in traces(out, words)]
    same = sorted(path.relative_to(outs[0]).as_posix() for path in outs[0].rglob("*") if path.is_file())
    return {"format": format_, "recipe": recipe, "same": [name for name in same if name not in TOLD]}, problems


def build_here(root: Path, place: Path, format_: str, recipe: str) -> None:
    """The build itself: over a pretended device, whose figures are the same everywhere."""
    preload()
    world = World.__new__(World)
    world.root, world.model, world.data = root, root / "model", root / "data.csv"
    changes: dict[str, Any] = {"recipe": recipe, "format": format_}
    if not recipe.endswith(".toml"):
        changes["settings"] = {"quantize.tolerance": "1.0"} | ({"optimize.seconds": "0.1"} if format_ == "onnx" else {})
    else:
        changes["settings"] = {}
    world.compress(place / "out", place / "cache", **changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=("onnx", "tflite"), default="onnx")
    parser.add_argument("--recipe", default="quantize")
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build_here(*given.build, given.format, given.recipe)
        return
    blocks = Blocks("reproducible")
    name = f"{given.format} {given.recipe}"
    if not blocks.is_done(name):
        with tempfile.TemporaryDirectory() as folder:
            record, problems = check(Path(folder).resolve(), given.format, given.recipe)
        blocks.add(name, problems, **record)
    blocks.finish(same=blocks.done[name]["same"])


if __name__ == "__main__":
    main()
