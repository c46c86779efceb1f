from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import proto

from edgekit.devices.base import Device
from edgekit.devices.local import LocalDevice
from edgekit.measure.latency import time_all
from edgekit.measure.machine import disturbances
from edgekit.runtimes.measuring import CpuTimes, Place, Subject, Timing, here

SHORT = Timing(seconds=0.0, rounds=2, block=1, warmup=0)
QUIET = {"total": 0.0, "idle": 0.0, "stolen": 0.0, "own": 0.0}


@dataclass
class Elsewhere(Device):
    """Runs everything here, and answers with other facts."""

    changes: dict[str, object] = field(default_factory=dict)
    label: str = "toy, over there"
    fingerprint: str = "toy"

    def execute(self, folder: Path, seconds: float) -> str:
        return json.dumps(json.loads(LocalDevice().execute(folder, seconds)) | self.changes)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    onnx.save(proto("agraph (float[N] x) => (float[N] y) { y = Add(x, x) }"), tmp_path / "double.onnx")
    return Subject(tmp_path / "double.onnx", {"x": np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"total": 100.0, "idle": 60.0, "own": 35.0}, []),
        ({"total": 100.0, "idle": 40.0, "own": 35.0}, ["other processes used 25% of the processors"]),
        ({"total": 100.0, "idle": 60.0, "own": 37.0, "stolen": 3.0}, ["3% of the processors' time was taken by other"]),
        ({"total": 0.0}, []),
    ],
)
def test_what_disturbed_a_measurement_is_said(after: dict[str, float], said: list[str]) -> None:
    found = disturbances(CpuTimes(**QUIET), CpuTimes(**QUIET | after))
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said


def test_load_version_and_facts_are_those_of_the_device_that_was_measured(subject: Subject) -> None:
    busy = {"total": 100.0, "idle": 0.0, "stolen": 0.0, "own": 40.0}
    told = {"runtime_version": "0.1", "host": {"processor": "Toy A1"}, "cpu_times": [QUIET, busy]}
    found = time_all({"one": subject}, Place(Elsewhere(told)), SHORT)
    assert found.warnings == ("other processes used 60% of the processors while latency was measured",)
    assert found.runtime_version == "0.1"
    assert found.timed_on is not None
    assert (found.timed_on.device, found.timed_on.facts) == ("toy, over there", {"processor": "Toy A1"})


def test_a_device_that_tells_nothing_of_itself_is_given_nothing_of_this_machines(subject: Subject) -> None:
    silent = {"runtime_version": "", "host": {}, "cpu_times": []}
    found = time_all({"one": subject}, Place(Elsewhere(silent)), SHORT)
    assert (found.warnings, found.runtime_version) == ((), "")
    assert found.timed_on is not None
    assert found.timed_on.facts == {}


def test_this_machine_is_no_other(subject: Subject) -> None:
    assert time_all({"one": subject}, here(1), SHORT).timed_on is None
