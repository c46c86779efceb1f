"""Bundles of artifacts for every platform: built twice, checked, and run by programs that know nothing of edgekit.

    python benchmarks/bundles.py ARTIFACT... [--only c,node] [--keep DIR]

The two builds have to be the same bytes, `bundle check` has to find nothing, and each consumer of
`bundle_consumers.py` that can run here has to pass the self-test with every label. A platform that does not take the
artifact's format is named with its reason, and so is a consumer that is not installed. The result goes to
`results/bundles.jsonl`; the exit code is 1 where something is not as it has to be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bundle_consumers import CONSUMERS, Failed, NotHere, consume
from lines import append

import edgekit
from edgekit.artifact import open_artifact, walk
from edgekit.bundle.platforms import PLATFORMS
from edgekit.environment import code_digest, host, versions
from edgekit.errors import UsageError
from edgekit.source import sha256_file

RESULTS = Path(__file__).parent / "results" / "bundles.jsonl"


def digest_of(bundle: Path) -> str:
    """One sum of all files, names and modes included."""
    total = hashlib.sha256()
    for file in walk(bundle):
        total.update(f"{file.relative_to(bundle).as_posix()} {file.stat().st_mode:o} {sha256_file(file)}\n".encode())
    return total.hexdigest()


def build(artifact: Path, platform: str, folder: Path) -> tuple[dict[str, Any], Path | None]:
    """A bundle built twice and checked: what is told of it, and where it lies, or None where there cannot be one."""
    places = [folder / f"{platform}-{number}" for number in (1, 2)]
    began = time.monotonic()
    try:
        first, _ = (edgekit.make_bundle(artifact, platform, place) for place in places)
    except UsageError as error:
        return {"platform": platform, "refused": f"{error.what}; {error.why}"}, None
    seconds = (time.monotonic() - began) / 2
    digests = [digest_of(place) for place in places]
    shutil.rmtree(places[1])
    found = edgekit.check_bundle(places[0])
    row = first.model_dump(include={"platform", "form", "files", "size_bytes", "model_bytes"})
    row |= {"sha256": digests[0], "same_bytes": digests[0] == digests[1], "rules": len(found.rules)}
    row |= {"problems": [f"{one.rule}: {one.where}: {one.what}" for one in found.problems]}
    return row | {"built_in_s": round(seconds, 2)}, places[0]


def consumed(platform: str, bundle: Path) -> Iterator[dict[str, Any]]:
    """What each consumer of a platform's bundles says."""
    for name in (name for name, (taken, _) in CONSUMERS.items() if taken == platform):
        began, row = time.monotonic(), {"consumer": name}
        try:
            row |= {"passed": True, "with": consume(name, bundle)}
        except Failed as error:
            row |= {"passed": False, "why": str(error)}
        except NotHere as error:
            row |= {"passed": None, "why": str(error)}
        yield row | {"seconds": round(time.monotonic() - began, 1)}


def measure(path: Path, platforms: list[str], folder: Path) -> dict[str, Any]:
    """An artifact on every platform."""
    manifest = open_artifact(path).manifest
    case: dict[str, Any] = {
        "name": manifest.source.get("name"),
        "task": manifest.task,
        "format": manifest.format,
        "target": manifest.target,
        "platforms": [],
    }
    print(f"{case['name']} ({case['task']}, {case['format']}, {case['target']})", flush=True)
    for platform in platforms:
        row, bundle = build(path, platform, folder)
        if bundle is not None:
            said = json.loads(next(bundle.rglob("selftest.json")).read_text(encoding="utf-8"))
            row["samples"] = len(said["cases"])
            row["consumers"] = list(consumed(platform, bundle))
        case["platforms"].append(row)
        print(line(row), flush=True)
    return case


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "refused" in row:
        return f"  {row['platform']:13} none: {row['refused']}"
    states = {True: "passed", False: "FAILED", None: "not run"}
    consumers = ", ".join(
        f"{one['consumer']} {states[one['passed']]} ({one.get('with') or one['why']})" for one in row["consumers"]
    )
    sound = "sound" if not row["problems"] else f"BROKEN {row['problems']}"
    same = "same bytes" if row["same_bytes"] else "OTHER BYTES"
    size = f"{row['files']:3} files {row['size_bytes'] / 1e6:6.2f} MB  {row['form']}"
    return f"  {row['platform']:13} {size}  {sound}, {same}  {consumers}"


def wrong(case: dict[str, Any]) -> Iterator[str]:
    """What is not as the docstring says."""
    for row in case["platforms"]:
        where = f"{case['name']}, {row['platform']}"
        if "refused" in row:
            continue
        if not row["same_bytes"]:
            yield f"{where}: two builds differ"
        yield from (f"{where}: {problem}" for problem in row["problems"])
        yield from (f"{where}: {one['consumer']}: {one['why']}" for one in row["consumers"] if one["passed"] is False)
    if all("refused" in row for row in case["platforms"]):
        yield f"{case['name']}: no platform takes it"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--only", default=",".join(PLATFORMS), help="platforms, by commas")
    parser.add_argument("--keep", type=Path, help="where the bundles stay; else they are removed")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(given.artifacts):
            folder = (given.keep or Path(scratch)) / str(number)
            cases.append(measure(path, given.only.split(","), folder))
    problems = [problem for case in cases for problem in wrong(case)]
    result = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_digest(),
        "host": host().processor,
        "versions": versions(),
        "artifacts": cases,
        "problems": problems,
    }
    append(given.results, result)
    raise SystemExit("\n".join(problems) if problems else 0)


if __name__ == "__main__":
    main()
