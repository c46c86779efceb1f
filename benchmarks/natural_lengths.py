"""Time an artifact and its FP32 export on the sentences of a validation split, one by one, each as long as it is.

    python benchmarks/natural_lengths.py                        the artifact of the suite's first case
    python benchmarks/natural_lengths.py --artifact FOLDER      another one of the same model

The workload of a report has one length. Real sentences are mostly shorter, and then what lies between the products of
an encoder weighs more. Each sentence is run by both, one after the other and the first by turns, several times over;
its latency is the median, and the total the sum over the split. Tokenization is left out, since both do the same. The
result goes to `results/natural_lengths.jsonl`. The exit code is 1 where the suite's artifact misses its goal
(`cases.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from lines import append
from run import ARTIFACTS, CASES, FP32_RECIPE, SUITES, find_asset, shortfall

import edgekit
from edgekit.artifact import WHOLE, is_artifact, open_artifact
from edgekit.environment import code_digest, host, versions
from edgekit.measure.statistics import paired_bootstrap
from edgekit.runtimes import open_runner
from edgekit.source import sha256_file
from edgekit.tasks import bind_task
from edgekit.tasks.base import Array, Batch, Examples, Runner, Task, TaskOptions
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data

RESULTS = Path(__file__).parent / "results" / "natural_lengths.jsonl"
REPEATS, WARMUP, LEVEL = 5, 20, 0.95


class Fed:
    """A Runner that keeps what it is fed, and answers with zeros."""

    def __init__(self) -> None:
        self.feeds: list[Batch] = []

    def run(self, component: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Keep the inputs."""
        del component
        self.feeds.append(dict(feeds))
        return {"logits": np.zeros((len(next(iter(feeds.values()))), 2), np.float32)}


def sentences(task: Task, examples: Examples) -> list[Batch]:
    """What a graph is fed for each sample, alone and unpadded."""
    kept = Fed()
    for index in range(len(examples)):
        task.forward(kept, examples.batch([index]))
    return kept.feeds


def one(runner: Runner, feeds: Batch) -> float:
    """Milliseconds of one inference."""
    began = time.perf_counter()
    runner.run(WHOLE, feeds)
    return (time.perf_counter() - began) * 1e3


def timed(runners: tuple[Runner, Runner], feeds: tuple[list[Batch], list[Batch]]) -> Array:
    """Median milliseconds of each sentence by each runner: [2, sentences]."""
    for sentence in range(min(WARMUP, len(feeds[0]))):
        for runner, made in zip(runners, feeds, strict=True):
            runner.run(WHOLE, made[sentence])
    found = np.zeros((REPEATS, 2, len(feeds[0])))
    for repeat in range(REPEATS):
        for sentence in range(len(feeds[0])):
            for which in (0, 1) if (repeat + sentence) % 2 else (1, 0):
                found[repeat, which, sentence] = one(runners[which], feeds[which][sentence])
    medians: Array = np.median(found, axis=0)
    return medians


def measure(artifact_path: Path, model: str, data: str, target: str) -> dict[str, Any]:
    """One line of the results."""
    with tempfile.TemporaryDirectory() as name:
        report = edgekit.compress(model, target=target, recipe=FP32_RECIPE, output=Path(name) / "fp32")
        artifacts = (open_artifact(report.artifact.path), open_artifact(artifact_path))
        tasks = [bind_task(one.manifest.task, one.path, TaskOptions()) for one in artifacts]
        feeds, rows = [], resolve_data(data)
        for task in tasks:
            examples, split = Data(rows, task, seed=0).split(None)
            feeds.append(sentences(task, examples))
        milliseconds = timed((open_runner(artifacts[0]), open_runner(artifacts[1])), (feeds[0], feeds[1]))
    lengths = [int(next(iter(made.values())).shape[1]) for made in feeds[1]]
    before, after = milliseconds

    def ratio(chosen: Any) -> float:
        return float(before[chosen].sum() / after[chosen].sum())

    interval = paired_bootstrap(ratio, len(before), level=LEVEL)
    return {
        "schema": "edgekit.natural-lengths/1",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_digest(),
        "host": host().record,
        "versions": versions(),
        "artifact": artifact_path.name,
        "sha256": sha256_file(artifacts[1].file()),
        "source": report.source,
        "data": rows.record,
        "target": target,
        "split": split,
        "n": len(before),
        "tokens": {"median": float(np.median(lengths)), "least": min(lengths), "most": max(lengths)},
        "repeats": REPEATS,
        "threads": 1,
        "fp32_ms": round(float(before.sum()), 2),
        "artifact_ms": round(float(after.sum()), 2),
        "faster": [ratio(np.arange(len(before))), interval.low, interval.high],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=list(SUITES), default="sst2")
    parser.add_argument("--artifact", type=Path, help="in place of the suite's")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    name = SUITES[asked.suite][0]
    case = CASES[name]
    model, data = find_asset(case.model), find_asset(case.data)
    if model is None or data is None:
        raise SystemExit(f"{case.model if model is None else case.data} is not here; see benchmarks/assets.toml")
    artifact = asked.artifact or ARTIFACTS / name
    if not is_artifact(artifact):
        raise SystemExit(f"there is no artifact in {artifact}; python benchmarks/run.py --case {name} makes one")
    line = measure(artifact, model, data, case.target)
    append(asked.results, line)
    faster, low, high = line["faster"]
    tokens = line["tokens"]["median"]
    print(f"{line['artifact']}: {line['n']} sentences of {tokens:.0f} tokens (median), one by one:")
    print(f"{line['fp32_ms']:.0f} ms FP32, {line['artifact_ms']:.0f} ms: {faster:.1f}x ({low:.1f} to {high:.1f})")
    missed = None if asked.artifact else shortfall(f"{name}, sentences one by one", faster, case.goals.natural_lengths)
    if missed:
        print(f"missed: {missed}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
