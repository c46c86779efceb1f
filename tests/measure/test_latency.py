"""Latency over several fresh processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from graphs import proto

from edgekit.measure.latency import time_in_processes
from edgekit.runtimes.measuring import Subject, Timing, here

SHORT = Timing(seconds=0.0, rounds=4, block=2, warmup=1)


def test_rounds_of_all_processes_are_put_together(tmp_path: Path) -> None:
    onnx.save(proto("agraph (float[N, 4] x) => (float[N, 4] y) { y = Add(x, x) }"), tmp_path / "double.onnx")
    subject = Subject(tmp_path / "double.onnx", {"x": np.ones((2, 4), np.float32)})
    found = time_in_processes({"one": subject, "two": subject}, here(1), SHORT, 2)
    assert {name: np.shape(blocks) for name, blocks in found.blocks_ms.items()} == {"one": (8, 2), "two": (8, 2)}
    ratio, interval = found.slowdown("two", than="one")
    assert interval.low <= ratio <= interval.high
    assert found.runtime_version.count(".") == 2
