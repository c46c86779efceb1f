"""The scripts of this folder on small counts; by hand they take any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the scripts fork, and read /proc"),
]


def figures(results: Path, name: str, *arguments: str) -> dict[str, Any]:
    """What a script found; it ends with 0 where nothing was lost."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    environment = {**os.environ, "DURABILITY_RESULTS": str(results)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["blocks"] == len((results / f"{name}.jsonl").read_text().splitlines())
    return found


def test_killed_and_stopped_runs_end_in_the_same_bytes(tmp_path: Path) -> None:
    found = figures(tmp_path, "kills", "--kills", "6", "--terms", "2")
    assert (found["kills"], found["terms"], sum(found["signals"].values())) == (6, 2, 8)
    began = (tmp_path / "kills.jsonl").read_text()
    assert figures(tmp_path, "kills", "--kills", "6", "--terms", "2") == found  # nothing is done again
    assert (tmp_path / "kills.jsonl").read_text() == began


def test_flipped_bits_and_tampering_are_found(tmp_path: Path) -> None:
    found = figures(tmp_path, "damage", "--flips", "40", "--tampers", "80")
    assert sum(found["flips"].values()) == 40
    assert found["flips"].keys() == {"objects", "runs", "work"}
    assert sum(found["tampers"].values()) == 80
    assert len(found["tampers"]) == 8


def test_processes_share_a_cache_with_locks_and_without(tmp_path: Path) -> None:
    found = figures(tmp_path, "shared", "--processes", "3", "--rounds", "2")
    assert 0 < found["stages_made"]["with locks"] <= found["stages_made"]["without locks"]


def test_two_builds_have_the_same_bytes(tmp_path: Path) -> None:
    found = figures(tmp_path, "reproducible")
    assert {"manifest.json", "model.onnx", "recipe.lock.toml", "tokenizer.json"} <= set(found["same"])


def test_every_call_of_a_run_may_fail(tmp_path: Path) -> None:
    found = figures(tmp_path, "faults", "--every", "25", "--errors", "ENOSPC")
    parts = ("up to the export", "behind it")
    assert set(found["calls"]) == {f"{kind} ENOSPC {part}" for kind in ("write", "fsync", "rename") for part in parts}
    assert min(found["calls"].values()) > 10
