"""Train the same student with products in float32 and in bfloat16, and compare seconds a step and what is learned.

    python benchmarks/training_precision.py --steps 400 --seeds 2
    python benchmarks/training_precision.py --teacher          # what the teacher takes alone, in turns of both

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
from edgekit.distillation.products import Precision
from edgekit.distillation.teacher import prepare_teacher
from edgekit.environment import code_digest, host, versions
from edgekit.tasks import bind_task
from edgekit.tasks.base import TaskOptions, shuffled_batches
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data

RESULTS = Path(__file__).parent / "results" / "training_precision.jsonl"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
TEACHER_ROUNDS, TEACHER_BATCH = 40, 32


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


def ask_teacher() -> dict[str, Any]:
    """Seconds of processor time that the original takes for a batch of training texts, medians of rounds in turns."""
    import torch

    model, data = find_asset(CASES["sst2-vnni"].model), find_asset(CASES["sst2-vnni"].data)
    if model is None or data is None:
        raise SystemExit(f"{missing(CASES['sst2-vnni'])} is not here; benchmarks/assets.toml says how to get it")
    torch.set_num_threads(1)
    task = bind_task("text-classification", Path(model), TaskOptions())
    examples = Data(resolve_data(data), task, 0).train
    asked = [prepare_teacher(task.load_model(), task, precision, torch.device("cpu")) for precision in PRECISIONS]
    taken: dict[Precision, list[float]] = {precision: [] for precision in PRECISIONS}
    for indices in shuffled_batches(examples, TEACHER_BATCH, 0, 0)[:TEACHER_ROUNDS]:
        batch = {name: torch.from_numpy(values) for name, values in examples.batch(indices).items()}
        for teacher in asked:
            began = time.process_time()
            teacher.answer(batch, hidden_states=True)
            taken[teacher.precision].append(time.process_time() - began)
    return {f"teacher_{precision}_seconds": statistics.median(found) for precision, found in taken.items()}


def keep(record: dict[str, Any]) -> None:
    """Append a line to the results."""
    machine = {"code": code_digest(), "versions": versions(), "processor": host().processor, "cores": host().cores}
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **record, **machine}
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each training (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="pairs of trainings (default: %(default)s)")
    parser.add_argument("--teacher", action="store_true", help="time the teacher alone")
    asked = parser.parse_args()
    if asked.teacher:
        found = ask_teacher()
        keep(found)
        plain_seconds, half_seconds = found.values()
        print(f"the teacher: {plain_seconds:.4f} s in float32, {half_seconds:.4f} s in bfloat16", end=" ")
        print(f"({plain_seconds / half_seconds:.2f}x as fast)")
        return
    made = []
    for seed in range(asked.seeds):
        for precision in PRECISIONS:
            made.append(train(precision, asked.steps, seed))
            keep(made[-1])
            print(f"{precision}, seed {seed}: {made[-1]['step_seconds']:.3f} s a step, selection loss", end=" ")
            print(f"{made[-1]['selection_loss']:.4f}, {made[-1]['before']:.4f} -> {made[-1]['after']:.4f}", flush=True)
    for plain, half in zip(made[::2], made[1::2], strict=True):
        print(f"seed {plain['seed']}: bf16 is {plain['step_seconds'] / half['step_seconds']:.2f}x as fast a step")


if __name__ == "__main__":
    main()
