"""Kill a run, run it again, and see what lay there meanwhile and what came of it.

    python benchmarks/resume.py MODEL DATA --stage distill [--recipe NAME] [--set KEY=VALUE ...]
    python benchmarks/resume.py MODEL DATA --time 5m [--kill-after 180] [--max-drop 1%]

With `--time` it is a search: killed with SIGKILL after so many seconds, when its output has to hold an artifact that
`edgekit verify` finds whole; then the same command runs to its end. The line has the figures of what lay there and of
the end. The first half is kept in `artifacts/resume-search`, so that this script may be stopped between the two.

Without it, a stage is killed in its middle, and the bytes are compared with those of a run that was left alone. Three
runs with caches of their own: one to the end, which leaves a lock; one by that lock, killed with SIGKILL once the stage
has written a checkpoint, and started again; and the same command a third time. `--lock OUT/recipe.lock.toml` takes an
earlier run in place of the first. The line has where the run was killed, where it went on, the hashes, and the seconds
of the third.

Lines go to `benchmarks/results/resume.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lines import append, here
from run import ARTIFACTS

import edgekit
from edgekit.report import load_report
from edgekit.source import sha256_file

RESULTS = Path(__file__).parent / "results" / "resume.jsonl"
KEPT = ARTIFACTS / "resume-search"
LIMIT_MISSED = 1  # exit code of a run that keeps an artifact, and misses a limit
# stage: the event that a checkpoint is, the one that a start is, and the count that both hold
EVENTS = {
    "distill": ("distill.checkpoint", "distill.start", "step"),
    "quantize": ("calibration.checkpoint", "calibration.start", "sample"),
}


class Runs:
    """`edgekit compress` with one set of arguments, in processes of their own."""

    def __init__(self, arguments: list[str]) -> None:
        self._command = [sys.executable, "-m", "edgekit", "compress", *arguments, "-q"]

    def start(self, cache: Path, *more: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "EDGEKIT_CACHE": str(cache)}
        return subprocess.Popen([*self._command, *more], env=environment, stdout=subprocess.DEVNULL)

    def finish(self, cache: Path, *more: str) -> float:
        """Run to the end; seconds."""
        began = time.monotonic()
        if status := self.start(cache, *more).wait():
            raise SystemExit(f"the run ended with {status}")
        return time.monotonic() - began

    def kill(self, cache: Path, event: str, seconds: float, *more: str) -> None:
        """Run until an event is in the log and some seconds longer, then send SIGKILL."""
        process = self.start(cache, *more)
        while not any(line["event"] == event for line in events(cache, "work")):
            if process.poll() is not None:
                raise SystemExit(f"the run ended with {process.returncode} before the event {event}")
            time.sleep(0.02)
        time.sleep(seconds)
        if process.poll() is not None:
            raise SystemExit("the run ended before it could be killed: give a smaller --after")
        process.send_signal(signal.SIGKILL)
        process.wait()


def found_in(out: Path) -> dict[str, Any]:
    """What lies in an output: whole or not, and what its report says.

    Raises:
        EdgekitError: nothing does, or it is damaged.
    """
    checked, report = edgekit.verify(out), load_report(out)
    quality = report.quality
    return {
        "source": report.source,
        "data": report.data,
        "verified_files": checked.files,
        "status": report.status,
        "speedup": report.speedup,
        "drop": quality.drop if quality else None,
        "n": quality.n if quality else None,
        "size_bytes": report.value("size"),
        "seconds": report.seconds,
        "passed": report.passed,
        "attempts": report.search.attempts if report.search else None,
        "trials": len(report.search.trials) if report.search else None,
    }


def search_killed(given: argparse.Namespace, kept: Path) -> dict[str, Any]:
    """A search that is killed and started again; a line of the results.

    Args:
        given: the options of this script.
        kept: a folder for the cache, the output and what was found in the middle.
    """
    limits = ["--target", given.target, "--max-drop", given.max_drop, "--time", given.time]
    runs = Runs([given.model, "--data", given.data, *limits])
    out, middle = kept / "out", kept / "middle.json"
    asked = {
        **here(),
        "options": [Path(given.model).name, "--data", Path(given.data).name, *limits],
        "killed_after": given.kill_after,
    }
    earlier: dict[str, Any] = json.loads(middle.read_text(encoding="utf-8")) if middle.is_file() else {}
    if {name: earlier.get(name) for name in asked} != asked:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        process = runs.start(kept / "cache", "-o", str(out))
        try:
            ended = process.wait(given.kill_after)
            hint = ": give a smaller --kill-after" if ended in (0, LIMIT_MISSED) else ""
            raise SystemExit(f"the run ended with {ended} before it could be killed{hint}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        earlier = asked | {"killed": found_in(out)}
        middle.write_text(json.dumps(earlier), encoding="utf-8")
    began = time.monotonic()
    status = runs.start(kept / "cache", "-o", str(out)).wait()
    if status not in (0, LIMIT_MISSED):
        raise SystemExit(f"the run that was started again ended with {status}")
    result = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **earlier,
        "end": found_in(out) | {"exit_code": status, "seconds_of_the_second_run": round(time.monotonic() - began, 1)},
    }
    shutil.rmtree(kept)
    return result


def events(cache: Path, kind: str) -> list[dict[str, object]]:
    """What the logs of unfinished stages (`work`) or of runs (`runs`) hold, whole lines only."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(cache.glob(f"{kind}/*/events.jsonl"))]
    return [json.loads(line) for text in texts for line in text.split("\n")[:-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--stage", choices=list(EVENTS), default="distill")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--target", default="host")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--lock", type=Path, help="of an earlier run of the same code, in place of the first run")
    parser.add_argument("--after", type=float, default=5.0, help="seconds from the first checkpoint to the kill")
    parser.add_argument("--time", help="a search with this time box, such as 5m, in place of a recipe")
    parser.add_argument(
        "--kill-after", type=float, default=180.0, help="seconds from the start of a search to the kill"
    )
    parser.add_argument("--max-drop", default="1%", help="of a search")
    given = parser.parse_args()
    if given.time:
        line = search_killed(given, KEPT)
        append(RESULTS, line)
        print(json.dumps(line, indent=1))
        raise SystemExit(line["end"]["exit_code"])
    runs = Runs([given.model, "--data", given.data, "--target", given.target, "--max-drop", "5%"])
    checkpoint, start, count = EVENTS[given.stage]
    with tempfile.TemporaryDirectory() as folder:
        root, lock = Path(folder), given.lock
        if lock is None:
            settings = [word for pair in given.set for word in ("--set", pair)]
            runs.finish(root / "whole-cache", "--recipe", given.recipe, *settings, "-o", str(root / "whole"))
            lock = root / "whole" / "recipe.lock.toml"
        cache, out = root / "cache", root / "resumed"
        by_lock = ("--recipe", str(lock), "-o", str(out))
        runs.kill(cache, checkpoint, given.after, *by_lock)
        before = [line[count] for line in events(cache, "work") if line["event"] == checkpoint]
        runs.finish(cache, *by_lock)
        log = events(cache, "runs")
        third = runs.finish(cache, *by_lock)
        result = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **here(),
            "model": Path(given.model).name,
            "recipe": given.recipe,
            "stage": given.stage,
            "checkpoints_before_the_kill": before,
            "started_at": [line[count] for line in log if line["event"] == start],
            "checkpoints": [line[count] for line in log if line["event"] == checkpoint],
            "whole": sha256_file(lock.parent / "model.onnx"),
            "resumed": sha256_file(out / "model.onnx"),
            "third_seconds": round(third, 2),
        }
    result["equal"] = result["whole"] == result["resumed"]
    append(RESULTS, result)
    print(json.dumps(result, indent=1))
    raise SystemExit(0 if result["equal"] else 1)


if __name__ == "__main__":
    main()
