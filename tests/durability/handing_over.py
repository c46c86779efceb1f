"""What every run does with the disk, without a model: an object is put, a decision falls, an output is exchanged.

    FAULTS=1 LD_PRELOAD=faults.so python tests/durability/handing_over.py FOLDER

Lets each of its calls fail in turn, and prints how many there are and what was wrong, as JSON.
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

from faults import ERRORS, KINDS, Trial, inject
from world import leftovers

from edgekit.artifact import write_artifact
from edgekit.assembly import hand_over
from edgekit.cache import Cache, Filled
from edgekit.decisions import DECISIONS, RunDecisions
from edgekit.sealing import find_tampering, seal
from edgekit.upkeep import verify_cache

KEY = "a" * 64
OLD, NEW = b"old weights", b"new weights" * 100


def fill(folder: Path, content: bytes) -> Path:
    from tiny import manifest

    (folder / "golden").mkdir(parents=True)
    (folder / "golden" / "model.safetensors").write_bytes(content[:5])
    (folder / "model.onnx").write_bytes(content)
    write_artifact(folder, manifest())
    seal(folder)
    return folder


def prepare(place: Path) -> None:
    fill(place / "out", OLD)


def run(place: Path) -> None:
    cache, out = Cache(place / "cache"), place / "out"
    cache.sweep(out)
    decisions = RunDecisions(cache.run(KEY) / DECISIONS, {})
    decisions.decide("keep.quantize", lambda: True)
    found = cache.get_or_make(KEY, lambda scratch: Filled(fill(scratch() / "object", NEW)))
    hand_over(found, out, cache)


def check(place: Path, done: bool, tidy: bool) -> list[str]:
    out = place / "out"
    problems = find_tampering(out) + [one.problem for one in verify_cache(Cache(place / "cache")).damaged]
    content = (out / "model.onnx").read_bytes()
    problems += [] if content == NEW or (content == OLD and not done) else ["neither the old nor the new"]
    return problems + (leftovers(place / "cache", out) if tidy else [])


def main() -> None:
    trial, told = Trial(prepare, run, check), []
    for kind, error in zip(KINDS, ERRORS, strict=True):  # every pair is for ``faults.py``
        found = inject(trial, Path(sys.argv[1]), kind, error, count(1))
        told.append({"kind": kind, "calls": found.calls, "codes": dict(found.codes), "problems": found.problems})
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
