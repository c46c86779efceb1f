"""Run a suite of compressions on real models, append each result to a file, and print the table.

    python benchmarks/run.py                     every case whose assets are here
    python benchmarks/run.py --case sst2-vnni    one of them
    python benchmarks/run.py --suite sst2        those of a suite
    python benchmarks/run.py --suite sst2 --peers olive,optimum,onnxruntime,neural-compressor
                                                 the same, and then beside other tools: see peers.py

Assets are found by key, as `benchmarks/assets.toml` says. A case that has its artifact here and its line in
`benchmarks/results/suite.jsonl`, of the same code, packages and kind of processor, is not run again, so that a suite
may span several sittings. A search has a cache of its own until its line is written: nothing that other runs left is
missing in its time box, and one that was stopped goes on. What is not here, of assets or of other tools, is told before
anything is run. The exit code is 1 when a case misses one of its limits or goals (`cases.py`). Where the time of the
suite's first case goes, by operator, is written into README.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cases import CASES, SUITES, Case
from lines import complete, latest, measured, searched
from operator_table import write_operators

import edgekit
from edgekit.artifact import is_artifact
from edgekit.report import Count

HERE = Path(__file__).parent
RESULTS, README = HERE / "results" / "suite.jsonl", HERE / "README.md"
ARTIFACTS = HERE.parent / "artifacts"
SENTENCES = HERE / "sentences.txt"


# Exports and does nothing more: what others are measured against.
FP32_RECIPE = HERE / "peers" / "recipes" / "fp32.toml"


def find_asset(key: str) -> str | None:
    """Where an asset is: a copy, else its hub id; None when it has to be made by its script first."""
    return find_copy(key) or asset(key).get("hub")


def find_copy(key: str) -> str | None:
    """Where the copy of an asset is that lies here; None when there is none."""
    copies = [Path(root) / asset(key)["path"] for root in (os.environ.get("EDGEKIT_ASSETS"), ARTIFACTS) if root]
    return next((str(copy) for copy in copies if copy.exists()), None)


def asset(key: str) -> dict[str, str]:
    """What `assets.toml` says of it."""
    found: dict[str, str] = tomllib.loads((HERE / "assets.toml").read_text(encoding="utf-8"))[key]
    return found


def missing(case: Case) -> str:
    """The assets of a case that are not here."""
    return " and ".join(key for key in (case.model, case.data) if find_asset(key) is None)


def compress(case: Case, output: Path) -> edgekit.Report:
    """Compress a case; one whose assets are not here ends the program."""
    source, samples = find_asset(case.model), find_asset(case.data)
    if source is None or samples is None:
        raise SystemExit(f"{output.name}: {missing(case)} is not here; benchmarks/assets.toml says how to get it")
    weights = {"weights": source} if case.code else {}
    with own_cache(output) if case.recipe is None else nullcontext():
        return edgekit.compress(
            f"{HERE / 'models' / case.code}" if case.code else source,
            data=samples,
            target=case.target,
            format=case.format,
            recipe=case.recipe,
            settings=case.settings,
            max_drop=case.max_drop,
            student=HERE / "models" / case.student if case.student else None,
            workload=edgekit.Workload(image=case.image) if case.image else None,
            output=output,
            **weights,
            **case.options,
        )


def cache_of(output: Path) -> Path:
    """Where a search keeps what it needs to go on."""
    return output.with_name(f"{output.name}-cache")


@contextmanager
def own_cache(output: Path) -> Iterator[None]:
    """The cache of a search alone: what other runs left in theirs would be seconds that its box does not tell of."""
    before = os.environ.get("EDGEKIT_CACHE")
    os.environ["EDGEKIT_CACHE"] = str(cache_of(output))
    try:
        yield
    finally:
        del os.environ["EDGEKIT_CACHE"]
        if before is not None:
            os.environ["EDGEKIT_CACHE"] = before


def forget_cache(output: Path) -> None:
    """Remove the cache of a search that is through."""
    shutil.rmtree(cache_of(output), ignore_errors=True)


def run_case(name: str) -> dict[str, Any]:
    """Compress one case of the suite, and what of its report a table needs."""
    case = CASES[name]
    report = compress(case, ARTIFACTS / name)
    source, quality = find_asset(case.model), report.quality
    assert source is not None  # it was compressed
    assert quality is not None
    return measured(name, report) | {
        "flips": quality.flips,
        "agree_on_sentences": None if case.image else agreement(source, report.artifact.path),
        "instructions": _counts(report.counts_before, report.counts_after),
        "answers_there": {check.device: f"{check.agree} of {check.n}" for check in report.devices},
        "ledger": [row.model_dump() for row in report.ledger],
        "search": searched(report),
        "profile": report.profile.model_dump(mode="json") if report.profile else None,
        "workload": report.workload,
    }


def _counts(before: Sequence[Count], after: Sequence[Count]) -> dict[str, tuple[int, int]]:
    """Instructions of one inference before and after, by device."""
    then = {count.device: count.instructions for count in before}
    return {count.device: (then[count.device], count.instructions) for count in after}


def agreement(source: str, artifact: Path) -> str:
    """On how many of the sentences of `sentences.txt` the artifact gives the label that the original gives."""
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    before, after = (edgekit.load(path).predict(sentences) for path in (source, artifact))
    same = sum(mine[0][0] == theirs[0][0] for mine, theirs in zip(after, before, strict=True))
    return f"{same} of {len(sentences)}"


def left(name: str) -> bool:
    """Whether the artifact of a case is here."""
    return is_artifact(ARTIFACTS / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--suite", choices=list(SUITES), help="its cases, in place of --case")
    parser.add_argument("--peers", help="other tools to compare with, separated by commas; needs --suite")
    arguments = parser.parse_args()
    if arguments.suite and arguments.case:
        parser.error("--suite takes the place of --case")
    if arguments.peers and not arguments.suite:
        parser.error("--peers needs --suite")
    asked = SUITES[arguments.suite] if arguments.suite else arguments.case
    wanted = asked or [name for name in CASES if not missing(CASES[name])]
    for name in CASES.keys() - wanted if not asked else ():
        print(f"{name}: left out, since {missing(CASES[name])} is not here", file=sys.stderr)
    absent = [f"{name} ({what})" for name in wanted if (what := missing(CASES[name]))]
    if absent or not wanted:
        told = f"not here are the assets of {', '.join(absent) or 'any case'}"
        raise SystemExit(f"{told}; benchmarks/assets.toml says how to get them")
    beside = [sys.executable, str(HERE / "peers.py"), "--suite", str(arguments.suite), "--peers", str(arguments.peers)]
    if arguments.peers and (code := subprocess.call([*beside, "--check"])):
        return code
    rows = list(complete(wanted, RESULTS, run_case, left=left, then=lambda name: forget_cache(ARTIFACTS / name)))
    write_operators([latest(RESULTS)[cases[0]] for cases in SUITES.values() if cases[0] in latest(RESULTS)], README)
    print("case          before   after   x faster   x smaller   n     undone")
    for name, row in zip(wanted, rows, strict=True):
        faster = f"{row['speedup']:.2f}" if row["speedup"] else "not measured"
        undone = ", ".join(entry["stage"] for entry in row["ledger"] if not entry["kept"])
        smaller = float(str(row["before_bytes"])) / float(str(row["after_bytes"]))
        print(
            f"{name:12}  {row['before']:.4f}  {row['after']:.4f}  {faster:>9}  {smaller:>10.2f}  {row['n']:4}  {undone}"
        )
    missed = [
        f"{row['case']} ({', '.join([*missed_limits(row), *missed_goals(row)])})"
        for row in rows
        if not row["passed"] or missed_goals(row)
    ]
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    failed = bool(arguments.peers) and subprocess.call(beside) != 0
    return int(failed or bool(missed))


def missed_limits(row: Mapping[str, Any]) -> list[str]:
    """The limits of a line that its artifact does not keep."""
    return [limit["limit"] for limit in row["limits"] if limit["met"] is False]


def missed_goals(row: Mapping[str, Any]) -> list[str]:
    """The goals of a line's case that its artifact does not reach, with how far it came."""
    goals = CASES[row["case"]].goals
    wanted = {"latency": goals.latency, "size": goals.size}
    wanted |= {f"instructions on {device}": goal for device, goal in goals.instructions.items()}
    reached = {"latency": row["speedup"], "size": row["before_bytes"] / row["after_bytes"]}
    reached |= {f"instructions on {device}": before / after for device, (before, after) in row["instructions"].items()}
    return [short for name, goal in wanted.items() if (short := shortfall(name, reached.get(name), goal))]


def shortfall(name: str, reached: float | None, goal: float | None) -> str | None:
    """How a goal is missed, in words; None where it is reached, or nothing was to be."""
    if goal is None or (reached is not None and reached >= goal):
        return None
    return f"{name}: {'not measured' if reached is None else f'{reached:.2f} times less'}, and {goal:g} is the goal"


if __name__ == "__main__":
    sys.exit(main())
