from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import foreign
import pytest
import tiny
from fake_devices import Emulator

from edgekit.artifact import WHOLE, write_artifact
from edgekit.benching import bench
from edgekit.devices import WAYS, Reached
from edgekit.environment import Host, host
from edgekit.errors import HostError, UnknownNameError
from edgekit.formats.onnx import describe_component
from edgekit.measure.profile import profile_sides
from edgekit.places import NO_CLOCK
from edgekit.report import BenchRecord
from edgekit.runtimes.measuring import Timing

QUICK = Timing(seconds=0.1, rounds=2)
COMMAND = f"command:{sys.executable} {{runner}} {{spec}}"


@pytest.fixture(autouse=True)
def quickly_on_a_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short protocol, on what says that it is no board."""
    monkeypatch.setattr("edgekit.benching.TIMING", QUICK)
    monkeypatch.setattr("edgekit.places.host", pc)
    monkeypatch.setattr("edgekit.devices.host", pc)


def pc() -> Host:
    return host().model_copy(update={"architecture": "x86_64"})


def artifact(folder: Path, target: str) -> Path:
    """One that was made for a target, of a task that edgekit does not know."""
    foreign.conv_net(folder / "model.onnx")
    part = describe_component(folder / "model.onnx")
    write_artifact(folder, tiny.manifest(task="mine", target=target, components={WHOLE: part}))
    return folder


def values(record: BenchRecord) -> dict[str, Any]:
    return {one.name: one.value for one in record.metrics}


def test_an_artifact_for_another_machine_is_measured_here_with_a_warning(tmp_path: Path) -> None:
    record = bench(artifact(tmp_path, "raspberry-pi-5"))
    assert record.warnings[0] == (
        "measured on this machine, which is not the target raspberry-pi-5:"
        " the target is aarch64 and this machine is x86_64"
    )
    assert record.subject["target"] == "raspberry-pi-5"
    assert record.host["fingerprint"] == host().fingerprint
    assert record.timed_on is None
    assert values(record).keys() == {"size", "latency.p50", "latency.p90", "memory.peak"}
    assert values(record)["latency.p50"] > 0
    assert record.runtime["provider"] == "CPUExecutionProvider"


def test_an_emulated_device_counts_instructions_and_has_no_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def emulated(target: Any, runtime: str, address: str) -> Reached:
        asked.append((target.name, runtime, address))
        return Reached((Emulator("toy-a53, emulated"), Emulator()))

    monkeypatch.setitem(WAYS, "emulated", emulated)
    file = foreign.conv_net(tmp_path / "others.onnx")
    record = bench(file, target="raspberry-pi-4", device="emulated:toy", profile=True)
    assert asked == [("raspberry-pi-4", "onnxruntime", "toy")]
    assert [(count.device, count.instructions) for count in record.counts] == [
        ("toy-a53, emulated", file.stat().st_size),
        ("toy-a76, emulated", file.stat().st_size),
    ]
    assert values(record) == {
        "size": file.stat().st_size,
        "latency.p50": None,
        "latency.p90": None,
        "memory.peak": None,
    }
    assert {one.reason for one in record.metrics[1:]} == {NO_CLOCK}
    assert str(record.runtime["version"]).startswith("1.")
    assert record.protocol["inferences"] == 3
    assert record.warnings == ()
    assert record.profile is not None
    assert record.profile.because == "toy-a53, emulated counts instructions and has no clock"


def test_a_profile_is_made_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.measure.limits.SHAPES", ((8, 8, 8),))
    monkeypatch.setattr("edgekit.benching.profile_sides", functools.partial(profile_sides, timing=QUICK))
    file = foreign.conv_net(tmp_path / "others.onnx")
    assert bench(file).profile is None
    found = bench(file, profile=True).profile
    assert found is not None
    (one,) = found.after
    assert found.before == ()
    assert "Conv" in {operator.operator for operator in one.operators}
    assert one.latency_ms > 0
    assert one.int8_share == pytest.approx(one.gmacs_per_s / found.int8.gmacs_per_s)  # type: ignore[operator, union-attr]


def test_a_device_is_measured_by_its_own_clock_and_named(tmp_path: Path) -> None:
    record = bench(foreign.conv_net(tmp_path / "others.onnx"), device=COMMAND)
    assert record.timed_on is not None
    assert record.timed_on.device == "a device behind a command"
    assert record.timed_on.facts["python"] == host().python
    assert values(record)["latency.p50"] > 0
    assert values(record)["memory.peak"] > 10_000_000
    assert record.subject["target"] == "host"
    assert record.protocol["rounds"] == QUICK.rounds
    assert [warning for warning in record.warnings if "target" in warning] == []


def test_a_device_that_is_not_the_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be measured in the way that --device names") as raised:
        bench(artifact(tmp_path, "raspberry-pi-5"), device="local")
    assert raised.value.id == "environment.cannot-measure"
    assert raised.value.why == "the target is aarch64 and this machine is x86_64"


def test_a_target_of_the_users_own_has_to_be_given_with_a_device(tmp_path: Path) -> None:
    folder = artifact(tmp_path, "my-board")
    record = bench(folder)
    assert record.warnings[0] == "measured on this machine; --target FILE tells whether it is the target my-board"
    with pytest.raises(UnknownNameError, match="give its file with --target") as raised:
        bench(folder, device=COMMAND)
    assert raised.value.id == "unknown-name.target"
    assert bench(folder, device=COMMAND, target="host").subject["target"] == "host"


def test_a_provider_that_does_not_exist_is_an_error_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="allowed: cpu, cuda, tensorrt"):
        bench(tmp_path, provider="gpu")
