from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import onnx
import pytest
import tiny
from fake_devices import Emulator
from records import ALWAYS, SHORTLY, make_record, p50

from edgekit.artifact import WHOLE, write_artifact
from edgekit.benching import bench
from edgekit.devices import WAYS, Reached
from edgekit.devices.meter import Meter
from edgekit.environment import Host, host
from edgekit.errors import DataError, HostError, UnknownNameError, UsageError
from edgekit.formats.onnx import describe_component
from edgekit.gate.measurable import NO_ENERGY
from edgekit.gate.record import BenchRecord, HostRecord, Protocol
from edgekit.places import NO_CLOCK
from edgekit.tasks.base import Workload

COMMAND = f"command:{sys.executable} {{runner}} {{spec}}"


@pytest.fixture(autouse=True)
def quickly_on_a_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short protocol, on what says that it is no board."""
    monkeypatch.setattr("edgekit.gate.protocol.ALONE", SHORTLY)
    monkeypatch.setattr("edgekit.gate.protocol.COMPARED", SHORTLY)
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
    assert record.subject.target == "raspberry-pi-5"
    assert record.host.fingerprint == host().fingerprint
    assert record.timed_on is None
    assert values(record).keys() - {"energy"} == {"size", *ALWAYS}
    assert values(record)["latency.p50"] > 0
    assert record.runtime.provider == "CPUExecutionProvider"


def test_an_emulated_device_counts_instructions_and_has_no_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def emulated(target: Any, runtime: str, address: str) -> Reached:
        asked.append((target.name, runtime, address))
        return Reached((Emulator("toy-a53, emulated"), Emulator()))

    monkeypatch.setitem(WAYS, "emulated", emulated)
    file = foreign.conv_net(tmp_path / "others.onnx")
    record = bench(file, target="raspberry-pi-4", device="emulated:toy")
    assert asked == [("raspberry-pi-4", "onnxruntime", "toy")]
    assert [(count.device, count.instructions) for count in record.counts] == [
        ("toy-a53, emulated", file.stat().st_size),
        ("toy-a76, emulated", file.stat().st_size),
    ]
    counted = [(one.device, one.value) for one in record.metrics if one.name == "instructions"]
    assert counted == [("toy-a53, emulated", file.stat().st_size), ("toy-a76, emulated", file.stat().st_size)]
    assert record.metrics[0].value == file.stat().st_size
    untimed = {one.name: one.reason for one in record.metrics if one.value is None}
    assert untimed == dict.fromkeys(("latency.p50", "latency.p90", "memory.peak"), NO_CLOCK)
    assert str(record.runtime.version).startswith("1.")
    assert record.protocol.inferences == 7
    assert record.warnings == ()


def test_a_device_is_measured_by_its_own_clock_and_named(tmp_path: Path) -> None:
    record = bench(foreign.conv_net(tmp_path / "others.onnx"), device=COMMAND)
    assert record.timed_on is not None
    assert record.timed_on.device == "a device behind a command"
    assert record.timed_on.facts["python"] == host().python
    assert values(record)["latency.p50"] > 0
    assert values(record)["memory.peak"] > 10_000_000
    assert record.subject.target == "host"
    assert record.protocol.processes == 1
    assert [warning for warning in record.warnings if "target" in warning] == []


def test_a_device_that_is_not_the_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be measured in the way that --device names") as raised:
        bench(artifact(tmp_path, "raspberry-pi-5"), device="local")
    assert raised.value.id == "environment.cannot-measure"
    assert raised.value.why == "the target is aarch64 and this machine is x86_64"


def test_nowhere_is_no_place_to_measure(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"(?s)'none'.*allowed: adb, browser, command, emulated, local, ssh"
    ) as raised:
        bench(artifact(tmp_path, "host"), device="none")
    assert "`none` is for compress" in str(raised.value.hint)


def test_a_target_of_the_users_own_has_to_be_given_with_a_device(tmp_path: Path) -> None:
    folder = artifact(tmp_path, "my-board")
    record = bench(folder)
    assert record.warnings[0] == "measured on this machine; --target FILE tells whether it is the target my-board"
    with pytest.raises(UnknownNameError, match="give its file with --target") as raised:
        bench(folder, device=COMMAND)
    assert raised.value.id == "unknown-name.target"
    assert bench(folder, device=COMMAND, target="host").subject.target == "host"


def test_a_provider_that_does_not_exist_is_an_error_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="allowed: cpu, cuda, tensorrt"):
        bench(tmp_path, provider="gpu")


def linear(file: Path) -> Path:
    """Three scores of eight numbers."""
    text = '<ir_version: 8, opset_import: ["" : 17]> linear (float[batch, 8] x) => (float[batch, 3] scores)'
    model = onnx.parser.parse_model(f"{text} {{ scores = MatMul(x, w) }}")
    weights = np.random.default_rng(0).standard_normal((8, 3), dtype=np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, file)
    return file


def samples(file: Path, *, labelled: bool = True) -> Path:
    """400 samples for it, of which a tenth is answered."""
    draw = np.random.default_rng(1)
    labels = {"label": draw.integers(0, 3, 400)} if labelled else {}
    np.savez(file, x=draw.standard_normal((400, 8), dtype=np.float32), **labels)  # type: ignore[arg-type]
    return file


FIVE = replace(SHORTLY, processes=5)


def gated(record: BenchRecord) -> dict[str, Any]:
    return {one.name: one.verdict for one in record.gated}


def test_a_gate_runs_both_sides_in_the_same_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.gate.protocol.COMPARED", FIVE)
    file = foreign.conv_net(tmp_path / "others.onnx")
    record = bench(file, baseline=file, gate="latency.p50=900%,size=0%,energy=5%")
    verdicts = gated(record)
    assert verdicts["size"] == "pass"
    assert verdicts["latency.p50"] in ("pass", "inconclusive")  # where a process was disturbed
    assert "energy" in verdicts or "energy" in {one.name for one in record.unmeasured}
    assert record.verdict in ("invalid", "pass", "inconclusive", "improvement", "regression")
    assert record.baseline == record.subject
    assert (record.protocol.baseline, record.protocol.processes) == ("beside", 5)
    assert {one.side for one in record.samples} == {"candidate", "baseline"}
    latency = record.metric("latency.p50")
    assert latency is not None
    assert latency.delta is not None
    assert latency.delta_ci is not None
    assert latency.delta_ci[0] <= latency.delta <= latency.delta_ci[1]


def test_instructions_gate_an_emulated_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "emulated", lambda target, runtime, address: Reached((Emulator(),)))
    small, large = foreign.conv_net(tmp_path / "small.onnx"), tmp_path / "large.onnx"
    graph = onnx.load(small)
    graph.doc_string = "x" * (small.stat().st_size // 40)
    onnx.save(graph, large)
    where = {"target": "raspberry-pi-4", "device": "emulated"}
    record = bench(large, baseline=small, gate="instructions=1%,latency.p50=1%", **where)
    assert gated(record) == {"instructions": "regression"}
    assert record.verdict == "regression"
    assert record.metric("instructions").delta == pytest.approx(0.026, abs=0.003)  # type: ignore[union-attr]
    assert record.warnings == (f"latency.p50 is not gated: {NO_CLOCK}",)
    assert [one.name for one in record.unmeasured] == ["latency.p50"]
    assert gated(bench(small, baseline=small, **where)) == {"instructions": "pass", "size": "pass"}  # type: ignore[arg-type]


def test_a_result_of_another_machine_is_no_baseline(tmp_path: Path) -> None:
    file = foreign.conv_net(tmp_path / "others.onnx")
    record = bench(file)
    other = HostRecord(fingerprint="of another machine")
    record.model_copy(update={"host": other}).save(tmp_path / "stored.json")
    found = bench(file, baseline=tmp_path / "stored.json")
    assert gated(found) == {"latency.p50": "invalid", "size": "invalid"}
    assert found.verdict == "invalid"
    assert found.warnings[0].startswith("not compared: the stored result is from another machine")
    assert found.samples == ()


def test_a_result_of_this_machine_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.gate.protocol.ALONE", FIVE)
    monkeypatch.setattr("edgekit.gate.protocol.COMPARED", FIVE)
    file = foreign.conv_net(tmp_path / "others.onnx")
    bench(file).save(tmp_path / "stored.json")
    found = bench(file, baseline=tmp_path / "stored.json", gate="latency.p50=900%,size=1%")
    assert gated(found).keys() == {"latency.p50", "size"}
    assert gated(found)["latency.p50"] in ("pass", "inconclusive")  # where only one session was disturbed
    assert found.protocol.baseline == "stored"
    assert (found.protocol.process_s, found.protocol.copies) == (0.05, 16)
    assert {one.side for one in found.samples} == {"candidate"}


def test_what_the_place_cannot_measure_is_not_asked_of_a_stored_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.gate.measurable.Meter", lambda: Meter(str(tmp_path)))
    monkeypatch.setattr("edgekit.benching.find_counter", lambda place: (None, "nothing counts here"))
    monkeypatch.setattr("edgekit.gate.protocol.ALONE", FIVE)
    monkeypatch.setattr("edgekit.gate.protocol.COMPARED", FIVE)
    file = foreign.conv_net(tmp_path / "others.onnx")
    bench(file).save(tmp_path / "stored.json")
    found = bench(file, baseline=tmp_path / "stored.json", gate="latency.p50=900%,energy=5%,instructions=1%")
    assert gated(found).keys() == {"latency.p50"}
    assert found.verdict in ("pass", "inconclusive")  # where only one session was disturbed
    assert {one.name for one in found.unmeasured} == {"energy", "instructions"}


def test_what_was_measured_beside_another_is_no_stored_baseline(tmp_path: Path) -> None:
    file = foreign.conv_net(tmp_path / "others.onnx")
    bench(file, baseline=file, gate="size=1%").save(tmp_path / "stored.json")
    found = bench(file, baseline=tmp_path / "stored.json", gate="latency.p50=900%")
    assert found.warnings[0] == ("not compared: the stored result was measured beside a baseline, and this one alone")
    assert (found.verdict, found.samples) == ("invalid", ())


@pytest.fixture
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring is an error."""

    def measured(*asked: object) -> None:
        raise AssertionError(f"measured: {asked}")

    monkeypatch.setattr("edgekit.benching.measure_timed", measured)
    monkeypatch.setattr("edgekit.benching.measure_counted", measured)


@pytest.mark.usefixtures("nothing_measured")
def test_a_preset_of_other_processes_is_not_compared_with_a_stored_result(tmp_path: Path) -> None:
    file = foreign.conv_net(tmp_path / "others.onnx")
    how = Protocol(workload=Workload().model_dump(), process_s=0.4, copies=16)
    here = HostRecord.model_validate(host().record)
    make_record(p50(1.0), host=here, protocol=how).save(tmp_path / "stored.json")
    found = bench(file, baseline=tmp_path / "stored.json", preset="tiny")
    assert found.verdict == "invalid"
    told = "the stored result has another time of a process: 0.4, and this one has 10.0"
    assert found.warnings[0] == f"not compared: {told}"


ISSUES_EXAMPLE = "latency.p50=1%,latency.p90=5%,instructions=1%,size=1%,memory.peak=3%,accuracy=-0.5pp"


@pytest.mark.usefixtures("nothing_measured")
def test_what_lacks_data_is_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    file = linear(tmp_path / "others.onnx")
    with pytest.raises(UsageError, match="the accuracy is gated, and there is no data to answer"):
        bench(file, baseline=file, gate=ISSUES_EXAMPLE)
    with pytest.raises(DataError, match="there is no file or folder"):
        bench(file, baseline=file, data="./nothing")
    make_record(p50(1.0)).save(tmp_path / "stored.json")
    with pytest.raises(UsageError, match="data was given, and the baseline is a stored result"):
        bench(file, baseline=tmp_path / "stored.json", data=samples(tmp_path / "data.npz"))
    unlabelled = samples(tmp_path / "unlabelled.npz", labelled=False)
    with pytest.raises(DataError, match="has no labels"):
        bench(file, baseline=file, data=unlabelled)


@pytest.mark.usefixtures("nothing_measured")
def test_nothing_is_measured_where_the_place_can_measure_nothing_that_is_gated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.gate.measurable.Meter", lambda: Meter(str(tmp_path)))
    file = foreign.conv_net(tmp_path / "others.onnx")
    record = bench(file, baseline=file, gate="energy=5%")
    assert gated(record) == {"energy": "invalid"}
    assert record.verdict == "invalid"
    assert record.warnings[0] == f"not compared: energy: {NO_ENERGY}"


@pytest.mark.usefixtures("nothing_measured")
def test_inputs_of_other_sizes_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.gate.measurable.Meter", lambda: Meter(str(tmp_path)))  # ends before measuring
    one, two = (foreign.conv_net(tmp_path / f"{batch}.onnx", batch=batch) for batch in (1, 2))
    told = [record.warnings[1:] for record in (bench(path, baseline=one, gate="energy=5%") for path in (one, two))]
    sizes = "[1, 3, 12, 12] and [2, 3, 12, 12]"
    warning = f"the two do not do the same work: the input 'pixels' of the baseline and the model is {sizes}"
    assert told == [(), (warning,)]


@pytest.mark.usefixtures("nothing_measured")
def test_a_batch_that_a_graph_does_not_take_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its throughput would be that of so many samples, and one is answered."""
    monkeypatch.setattr("edgekit.gate.measurable.Meter", lambda: Meter(str(tmp_path)))  # ends before measuring
    one, two = (foreign.conv_net(tmp_path / f"{batch}.onnx", batch=batch) for batch in (1, 2))
    free, gate = linear(tmp_path / "free.onnx"), {"gate": "energy=5%", "workload": Workload(batch=2)}
    with pytest.raises(UsageError, match=r"--batch 2 is not the model's\nthe graph takes 1 samples at once") as raised:
        bench(two, baseline=one, **gate)  # type: ignore[arg-type]
    assert raised.value.id == "usage.workload"
    assert bench(free, baseline=free, **gate).verdict == "invalid"  # type: ignore[arg-type]
    assert bench(two, baseline=two, **gate).verdict == "invalid"  # type: ignore[arg-type]
    assert bench(two, baseline=two, gate="energy=5%").verdict == "invalid"


@pytest.mark.usefixtures("nothing_measured")
def test_models_that_are_not_scored_alike_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.benching.unlike_answers", lambda ours, theirs: f"{ours.name} is not {theirs.name}")
    ours, theirs = linear(tmp_path / "ours.onnx"), linear(tmp_path / "theirs.onnx")
    record = bench(ours, baseline=theirs, data=samples(tmp_path / "data.npz"))
    assert gated(record) == {"latency.p50": "invalid", "size": "invalid", "accuracy": "invalid"}
    assert record.verdict == "invalid"
    assert record.warnings[0] == "not compared: ours.onnx is not theirs.onnx"


def test_the_issues_example_is_a_gate_on_a_machine_without_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.gate.protocol.COMPARED", FIVE)
    monkeypatch.setattr("edgekit.benching.find_counter", lambda place: (None, "nothing counts here"))
    file = linear(tmp_path / "others.onnx")
    record = bench(file, baseline=file, gate=ISSUES_EXAMPLE, data=samples(tmp_path / "data.npz"))
    assert gated(record).keys() == {"latency.p50", "latency.p90", "size", "memory.peak", "accuracy"}
    assert record.verdict != "invalid"
    assert "instructions is not gated: nothing counts here" in record.warnings
    assert [one.name for one in record.unmeasured] == ["instructions"]
    assert gated(record)["accuracy"] == "pass"


def test_what_cannot_stand_beside_each_other_is_an_error(tmp_path: Path) -> None:
    file = foreign.conv_net(tmp_path / "others.onnx")
    (tmp_path / "a").mkdir()
    artifact_of_two = artifact(tmp_path / "a", "x86-64")
    manifest = json.loads((artifact_of_two / "manifest.json").read_text())
    manifest["components"] = {"encoder": manifest["components"][WHOLE]}
    (artifact_of_two / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="cannot be measured beside each other") as raised:
        bench(file, baseline=artifact_of_two)
    assert raised.value.id == "usage.not-comparable"
    assert raised.value.why == "the model is onnx: model, and the baseline onnx: encoder"


def test_a_gate_without_a_baseline_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a gate was given without a baseline"):
        bench(tmp_path / "others.onnx", gate="size=1%")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"budget_s": float("nan")}, r"budget_s is nan\nallowed: seconds above 0"),
        ({"budget_s": float("inf")}, r"budget_s is inf\nallowed: seconds above 0"),
        ({"budget_s": 0.0}, "budget_s is 0.0"),
        ({"threads": 0}, r"threads is 0\nallowed: 1 or more"),
        ({"seed": -1}, r"seed is -1\nallowed: 0 or more"),
    ],
)
def test_a_number_that_nothing_is_measured_with_is_an_error(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        bench(tmp_path / "others.onnx", **given)
    assert raised.value.id == "usage.bad-value"
