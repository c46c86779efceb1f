"""Kill a run in the middle of a stage, run it again, and compare the bytes with those of a run that was left alone.

    python benchmarks/resume.py MODEL DATA --stage distill [--recipe NAME] [--set KEY=VALUE ...]

Three runs with caches of their own: one to the end, which leaves a lock; one by that lock, killed with SIGKILL once the
stage has written a checkpoint, and started again; and the same command a third time. The result goes to
`benchmarks/results/resume.jsonl`: where the run was killed, where it went on, the hashes, and the seconds of the third.
`--lock OUT/recipe.lock.toml` takes an earlier run in place of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from edgekit.environment import code_digest, host
from edgekit.source import sha256_file

RESULTS = Path(__file__).parent / "results" / "resume.jsonl"
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
    given = parser.parse_args()
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
            "code": code_digest(),
            "host": host().processor,
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
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(result) + "\n")
    print(json.dumps(result, indent=1))
    raise SystemExit(0 if result["equal"] else 1)


if __name__ == "__main__":
    main()
