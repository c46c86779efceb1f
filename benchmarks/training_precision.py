"""Train the same student with products in float32 and in bfloat16, and compare seconds a step and what is learned.

    python benchmarks/training_precision.py --steps 400 --seeds 2

Each training is `edgekit compress` with the default recipe of sst2-vnni and so many steps, in turns of both precisions
with the same seed. The loss is that of distillation on the selection split. Results are appended to
`results/training_precision.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from run import CASES, find_asset, missing

import edgekit
from edgekit.environment import code_digest, host, versions

RESULTS = Path(__file__).parent / "results" / "training_precision.jsonl"
PRECISIONS = ("fp32", "bf16")


class Steps:
    """Progress that notes when each step of training ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self._training = False

    def start(self, label: str, total: int | None = None) -> None:
        self._training = label == "distill"

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._training and steps == 1:
            self.ends.append(time.perf_counter())

    def finish(self, note: str = "") -> None:
        self._training = False

    @property
    def step_seconds(self) -> float:
        """The step in the middle of all by its time: looks at the selection split and checkpoints do not count."""
        return statistics.median(later - earlier for earlier, later in zip(self.ends, self.ends[1:], strict=False))


def train(precision: str, steps: int, seed: int) -> dict[str, Any]:
    """One training: its seconds a step, and what it came to."""
    case, told = CASES["sst2-vnni"], Steps()
    source, data = find_asset(case.model), find_asset(case.data)
    if source is None or data is None:
        raise SystemExit(f"{missing(case)} is not here; benchmarks/assets.toml says how to get it")
    with tempfile.TemporaryDirectory() as folder:
        report = edgekit.compress(
            source,
            data=data,
            target=case.target,
            settings={"distill.max_steps": str(steps), "distill.precision": precision},
            max_drop=0.5,
            seed=seed,
            output=Path(folder) / "out",
            progress=told,
        )
    if not told.ends:
        raise SystemExit("this training was in the cache: give another EDGEKIT_CACHE")
    details = next(stage.details for stage in report.stages if stage.stage == "distill")
    assert report.quality is not None
    return {
        "precision": precision,
        "steps": steps,
        "seed": seed,
        "step_seconds": told.step_seconds,
        "selection_loss": details["best_selection_loss"],
        "before": report.quality.before,
        "after": report.quality.after,
        "n": report.quality.n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each training (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="pairs of trainings (default: %(default)s)")
    asked = parser.parse_args()
    machine = {"code": code_digest(), "versions": versions(), "processor": host().processor, "cores": host().cores}
    made = []
    for seed in range(asked.seeds):
        for precision in PRECISIONS:
            made.append(train(precision, asked.steps, seed))
            record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **made[-1], **machine}
            with RESULTS.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record, sort_keys=True) + "\n")
            print(f"{precision}, seed {seed}: {made[-1]['step_seconds']:.3f} s a step, selection loss", end=" ")
            print(f"{made[-1]['selection_loss']:.4f}, {made[-1]['before']:.4f} -> {made[-1]['after']:.4f}", flush=True)
    for plain, half in zip(made[::2], made[1::2], strict=True):
        print(f"seed {plain['seed']}: bf16 is {plain['step_seconds'] / half['step_seconds']:.2f}x as fast a step")


if __name__ == "__main__":
    main()
