"""``bench`` and ``eval`` of an artifact on a device that is named, and what they say where none is."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from end_to_end.made import WORKLOAD, image_parquet, model_folder
from fake_devices import Emulator
from records import ALWAYS, SHORTLY

import edgekit
from edgekit.devices import WAYS, Reached
from edgekit.environment import host
from edgekit.errors import HostError

COMMAND = f"command:{sys.executable} {{runner}} {{spec}}"


class Timed(Emulator):
    """A device that does not give back what a graph answers."""

    timed = True
    no_answers_because = "it is timed only"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An artifact for arm64 that was only built here, and data."""
    folder = tmp_path_factory.mktemp("made")
    data = image_parquet(folder / "data", 80)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.devices.why_not", lambda kind: f"{kind} is not emulated in these tests")
        edgekit.compress(
            model_folder("vit", folder / "model", layers=1),
            target="arm64",
            recipe="export",
            workload=WORKLOAD,
            jobs=1,
            output=folder / "out",
        )
    return folder / "out", data


def test_answers_of_a_device_stand_beside_those_here(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "emulated", lambda target, runtime, address: Reached((Emulator(),)))
    out, data = made
    record = edgekit.evaluate(out, data, device="emulated", limit=10)
    (check,) = record.devices
    assert (check.device, check.n, check.agree, check.largest_difference) == ("toy-a76, emulated", 10, 10, 0.0)
    assert (record.data["samples"], record.data["of"]) == (10, 20)
    accuracy = next(metric for metric in record.metrics if metric.name == check.metric)
    assert (accuracy.value, accuracy.n) == (check.here, 10)
    assert check.here == check.there
    assert record.subject["target"] == "arm64"
    assert len(edgekit.evaluate(out, data, device="emulated").metrics) > 0
    assert edgekit.evaluate(out, data, device="emulated").devices[0].n == 20


class Astray(Emulator):
    """Answers with every output turned round."""

    def execute(self, folder: Path, seconds: float) -> str:
        answer = json.loads(super().execute(folder, seconds))
        for call in (call for calls in answer.get("outputs", {}).values() for call in calls):
            for output in call.values():
                values = np.frombuffer(base64.b64decode(output["data"]), output["dtype"])
                output["data"] = base64.b64encode((-values).tobytes()).decode()
        return json.dumps(answer)


def test_a_device_that_answers_otherwise_is_warned_of(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "emulated", lambda target, runtime, address: Reached((Astray("astray, emulated"),)))
    record = edgekit.evaluate(*made, device="emulated", limit=10)
    assert record.devices[0].agree == 0
    assert record.warnings[-1] == (
        "astray, emulated answers otherwise than this machine: 0 of 10 predictions are the same, and 99% have to be"
    )


def test_without_a_device_the_result_says_who_answered_and_that_it_is_not_the_target(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = host()
    monkeypatch.setattr("edgekit.places.host", lambda: here.model_copy(update={"architecture": "x86_64"}))
    record = edgekit.evaluate(*made)
    assert record.host["processor"] == here.processor
    assert record.devices == ()
    assert record.warnings == (
        "answered on this machine, which is not the target arm64: the target is aarch64 and this machine is x86_64",
    )


def test_a_device_that_is_only_timed_is_refused_before_anything_is_scored(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAYS, "adb", lambda target, runtime, address: Reached((Timed("toy phone"),), asked=True))
    with pytest.raises(HostError, match="toy phone: answers cannot be had") as raised:
        edgekit.evaluate(*made, device="adb:R5CT")
    assert (raised.value.id, raised.value.why) == ("environment.timed-only", "it is timed only")


def test_an_artifact_is_measured_where_its_target_is_reached(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.gate.protocol.ALONE", SHORTLY)
    record = edgekit.bench(made[0], device=COMMAND, workload=WORKLOAD)
    assert record.subject.target == "arm64"
    assert record.timed_on is not None
    assert record.timed_on.device == "a device behind a command"
    assert {metric.name for metric in record.metrics} - {"energy"} == {"size", *ALWAYS}
