"""Runs in a process of their own that are killed at an event of their log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
SECONDS = 900  # at most until the event that the run is killed at
SCRIPT = """
import json, sys
import pytest
from end_to_end.made import WORKLOAD, pretend_device
import edgekit

pretend_device(pytest.MonkeyPatch())
edgekit.compress(workload=WORKLOAD, jobs=1, max_drop=1.0, target="x86-64-vnni", **json.loads(sys.argv[1]))
"""


def kill_at(
    options: Mapping[str, Any],
    cache: Path,
    event: str,
    key: str,
    least: int,
    *,
    script: str = SCRIPT,
    seconds: float = SECONDS,
) -> list[dict[str, Any]]:
    """Run compress in a process of its own, and kill it once its log holds an event; the log of what it was at."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script, json.dumps(options)],
        env={**os.environ, "EDGEKIT_CACHE": str(cache), "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < end:
            log = unfinished(cache)
            if any(line["event"] == event and line[key] >= least for line in log):
                process.send_signal(signal.SIGKILL)
                process.wait()
                return unfinished(cache)
            time.sleep(0.005)
    finally:
        if process.poll() is None:
            process.kill()
        _, told = process.communicate()
    pytest.fail(f"the run ended before {event} {least}: {told.decode()[-2000:]}")


def unfinished(cache: Path) -> list[dict[str, Any]]:
    """Whole lines in the logs of stages that are not done."""
    found = []
    for file in (cache / "work").glob("*/events.jsonl"):
        lines = file.read_text().split("\n")[:-1]  # the last one may be half written
        found += [json.loads(line) for line in lines]
    return found
