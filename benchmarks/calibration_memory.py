"""Measure the peak memory of a static quantization by the number of samples that it is calibrated on.

    python benchmarks/calibration_memory.py                    every case whose assets are here
    python benchmarks/calibration_memory.py --case sst2-static one of them

Each number of samples has a process of its own. It opens the model and its data, takes the FP32 export from a cache
that an earlier process filled, and encodes every training sample; then it runs the stage `quantize` alone, and that is
what is measured: the largest resident memory while the ranges are calibrated, and in the whole stage, which then writes
the graph. No layer may fall back to float, so that no samples are scored. What was resident before the stage is part of
both, and is told. The peak is the kernel's (VmHWM of /proc/self/status, set back through /proc/self/clear_refs), so it
takes Linux.

The sentences of `sst2-static` go through at their own lengths. A line of `results/calibration_memory.jsonl` is one
process; one that is there for the same code, packages and kind of processor is not run again. The tables go into
README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lines import complete, here, latest, made_by
from page import put
from run import find_asset

import edgekit
from edgekit.cache import Cache
from edgekit.environment import code_digest
from edgekit.progress import Silent
from edgekit.request import resolve_request
from edgekit.workshop import Workshop, use_threads

HERE = Path(__file__).parent
RESULTS, README = HERE / "results" / "calibration_memory.jsonl", HERE / "README.md"
SAMPLES = (32, 256, 1024, 4096)
# How much more than the least of them any of the peaks may be.
ALLOWED = 0.10
THREADS = 1
CALIBRATION = "quantize: calibration"  # what the stage calls it
RECIPE = """schema = "edgekit.recipe/1"
name = "static-only"
stages = [{ stage = "export" }, { stage = "quantize", method = "static", fallback = false }, { stage = "verify" }]
"""


@dataclass(frozen=True)
class Case:
    """Assets by key, and what they are quantized for."""

    model: str
    data: str
    image: int | None = None
    target: str = "x86-64-vnni"
    format: str = "onnx"


CASES = {
    "sst2-static": Case("minilm-sst2", "sst2"),
    "fashion-static": Case("fashion-mnist-vit", "fashion-mnist", image=28),
    "fashion-static-tflite": Case("fashion-mnist-vit", "fashion-mnist", image=28, format="tflite"),
}


def resident(name: str) -> int:
    """Bytes of resident memory: now (``VmRSS``) or at most so far (``VmHWM``), as proc_pid_status(5) has them."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def take_peak() -> int:
    """The largest resident memory since this was called last, in bytes; the next one starts from what is resident."""
    peak = resident("VmHWM")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak


class Watch(Silent):
    """Progress that keeps the peak of the calibration and of all that it is told of, in bytes."""

    def __init__(self) -> None:
        self.calibration, self.stage = 0, 0
        self._calibrating = False

    def mark(self) -> None:
        """Something begins or ends."""
        peak = take_peak()
        self.stage = max(self.stage, peak)
        if self._calibrating:
            self.calibration = max(self.calibration, peak)

    def start(self, label: str, total: int | None = None) -> None:
        del total
        self.mark()
        self._calibrating = label == CALIBRATION

    def finish(self, note: str = "") -> None:
        del note
        self.mark()
        self._calibrating = False


def measure(model: str, options: dict[str, Any], samples: int, cache: Path, folder: Path) -> dict[str, Any]:
    """The stage `quantize` in this process.

    Args:
        model: as `compress` takes it.
        options: of `compress`, without a recipe.
        samples: training samples that are calibrated on.
        cache: has the export, or gets it.
        folder: for the recipe.
    """
    recipe = folder / "static-only.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    request = resolve_request(model, recipe=recipe, settings={"quantize.samples": str(samples)}, **options)
    watch = Watch()
    workshop = Workshop(request, Cache(cache), watch)
    use_threads(request.jobs)
    data = workshop.data
    assert data is not None  # every case has some
    if len(data.train) < samples:
        raise SystemExit(f"the training split has {len(data.train)} samples, and {samples} are wanted")
    export, quantize, _ = request.recipe.steps
    made = workshop.stage(export, workshop.original)
    take_peak()
    watch.stage, before, began = 0, resident("VmRSS"), time.monotonic()
    workshop.stage(quantize, made)
    watch.mark()
    return {
        "code": code_digest(),
        "samples": samples,
        "threads": request.jobs,
        "resident_before_bytes": before,
        "calibration_peak_bytes": watch.calibration or None,
        "stage_peak_bytes": watch.stage,
        "seconds": round(time.monotonic() - began, 1),
    }


def run_here(name: str, samples: int, cache: Path) -> dict[str, Any]:
    """One case with its assets, in this process."""
    case = CASES[name]
    model, data = find_asset(case.model), find_asset(case.data)
    if model is None or data is None:
        raise SystemExit(
            f"{name}: {case.model if model is None else case.data} is not here; see benchmarks/assets.toml"
        )
    options: dict[str, Any] = {"data": data, "target": case.target, "format": case.format, "jobs": THREADS}
    if case.image:
        options["workload"] = edgekit.Workload(image=case.image)
    with tempfile.TemporaryDirectory() as folder:
        return measure(model, options, samples, cache, Path(folder))


def run_apart(name: str, samples: int, cache: Path) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--case", name, "--process", str(samples), "--cache", str(cache)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["code"] != code_digest():
        raise SystemExit("the code was changed meanwhile, so that the process had to export anew: start again")
    return found


def line(key: str, cache: Path) -> dict[str, Any]:
    """One line of the results, by the case and the number of samples: ``sst2-static/32``."""
    name, _, samples = key.rpartition("/")
    if not (cache / name).exists():  # the first process exports, and is not measured
        run_apart(name, 1, cache / name)
    return {
        "schema": "edgekit.calibration-memory/1",
        "case": key,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **here(),
        **run_apart(name, int(samples), cache / name),
    }


def spread(peaks: Sequence[float]) -> float:
    """How much more the largest is than the least: 0.1 is a tenth."""
    return max(peaks) / min(peaks) - 1


def table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """The peaks of a case by the number of samples, in MB of 10^6 bytes."""
    case = CASES[name]
    lines = [
        f"### {case.model} for {case.target}, {case.format}\n",
        "| samples | before, MB | while calibrating, MB | in the whole stage, MB | seconds |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        calibration, before = row["calibration_peak_bytes"], row["resident_before_bytes"] / 1e6
        while_calibrating = f"{calibration / 1e6:.0f}" if calibration else "not told"
        lines.append(
            f"| {row['samples']} | {before:.0f} | {while_calibrating} | {row['stage_peak_bytes'] / 1e6:.0f} "
            f"| {row['seconds']:.0f} |"
        )
    told = (
        f"The largest peak of the stage is {spread(stage_peaks(rows)):.1%} above the least; {rows[0]['threads']} thread"
    )
    return "\n".join([*lines, "", f"{told}, {made_by(rows)}, measured {rows[0]['created'][:10]}.\n"])


def write(results: Path, readme: Path) -> None:
    """The table of each case in the page, from the last line of each number of samples."""
    last = latest(results)
    parts = []
    for name in CASES:
        rows = sorted((row for key, row in last.items() if key.startswith(f"{name}/")), key=lambda row: row["samples"])
        parts += [table(name, rows)] if rows else []
    put(readme, "calibration", "\n".join(parts or ["Not measured yet.\n"]))


def stage_peaks(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["stage_peak_bytes"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--samples", type=int, action="append", help=f"by default {', '.join(map(str, SAMPLES))}")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.process:
        print(json.dumps(run_here(asked.case[0], asked.process, asked.cache)))
        return
    here = [name for name, case in CASES.items() if find_asset(case.model) and find_asset(case.data)]
    wanted, failed = asked.case or here, []
    if not wanted or (absent := [name for name in wanted if name not in here]):
        what = ", ".join(absent) if wanted else "any case"
        raise SystemExit(f"not here are the assets of {what}; see benchmarks/assets.toml")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEKIT_CACHE"] = folder  # the processes begin without what earlier runs left
        for name in wanted:
            keys = [f"{name}/{samples}" for samples in asked.samples or SAMPLES]
            rows = list(complete(keys, RESULTS, lambda key: line(key, Path(folder))))
            print(table(name, rows), flush=True)
            write(RESULTS, README)
            failed += [name] if spread(stage_peaks(rows)) > ALLOWED else []
    if failed:
        raise SystemExit(f"more than {ALLOWED:.0%} between the peaks of {', '.join(failed)}")


if __name__ == "__main__":
    main()
