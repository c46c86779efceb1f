"""This machine as the device: the device runner in a fresh process, so that nothing of edgekit's own is measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from edgekit.errors import HostError, ModelError
from edgekit.tasks.base import Batch

RUNNER = Path(__file__).with_name("device.py")
# A child that says nothing for this long beyond its own time budget hangs.
GRACE_SECONDS = 300


@dataclass(frozen=True)
class Subject:
    """A graph and what it is fed."""

    graph: Path
    feeds: Batch


@dataclass(frozen=True)
class Timing:
    """How latency is sampled: see ``device.measure_latency``."""

    seconds: float = 8.0
    rounds: int = 25
    most_rounds: int = 200
    block: int = 3
    warmup: int = 5
    seed: int = 0


class Answer(BaseModel):
    """What the device runner prints."""

    load_ms: float
    peak_memory_bytes: int
    blocks_ms: dict[str, list[list[float]]] = {}


def time_subjects(subjects: Mapping[str, Subject], threads: int, timing: Timing) -> Answer:
    """Latency of several subjects, interleaved in one fresh process."""
    return _run(subjects, {"what": "latency", "threads": threads, **vars(timing)}, timing.seconds * 20)


def peak_memory(subject: Subject, threads: int) -> Answer:
    """Peak resident memory of a fresh process that loads a subject and runs it ten times."""
    return _run({"subject": subject}, {"what": "memory", "threads": threads, "warmup": 10}, 0)


def _run(subjects: Mapping[str, Subject], spec: dict[str, object], seconds: float) -> Answer:
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        listed = {}
        for number, (key, subject) in enumerate(subjects.items()):
            np.savez(folder / f"{number}.npz", **subject.feeds)  # type: ignore[arg-type]  # names are inputs, not flags
            listed[key] = {"graph": str(subject.graph), "feeds": str(folder / f"{number}.npz")}
        (folder / "spec.json").write_text(json.dumps({**spec, "subjects": listed}), encoding="utf-8")
        command = [sys.executable, "-P", str(RUNNER), str(folder / "spec.json")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise HostError(
                "the measuring process hung and was stopped",
                id="environment.measuring",
                why=f"no answer in {error.timeout:.0f} s",
            ) from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
        if last[0].startswith("onnxruntime."):
            raise ModelError("onnxruntime does not run the model", id="model.does-not-load", why=last[0])
        raise HostError("the measuring process failed", id="environment.measuring", why=last[0])
    return Answer.model_validate_json(done.stdout)
