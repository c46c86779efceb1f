"""The real adb client against a server that stands in for phones; their tool runs the real runtime in Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_adb import FIXED, PERF_TEST, Phone, Server, adb_server, needs_adb
from graphs import proto

from edgekit.devices.adb import AdbDevice, Address, abi_of, read_address
from edgekit.devices.tools import TOOLS
from edgekit.errors import HostError, ModelError, UsageError
from edgekit.progress import Silent
from edgekit.runtimes.measuring import Place, Subject, Timing, peak_memory, run_calls, time_subjects

SERIAL = "emulator-5554"
SHORT = Timing(seconds=0.0, rounds=2, most_rounds=2, block=3, warmup=1)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "phones"
    folder.mkdir()
    with adb_server(folder, monkeypatch, SERIAL) as made:
        yield made


@pytest.fixture
def phone(server: Server) -> Phone:
    return server.phones[SERIAL]


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    return program(tmp_path / "perf_test", FIXED)


@pytest.fixture
def real_tool(tmp_path: Path) -> Path:
    return program(tmp_path / "perf_test", PERF_TEST)


def program(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def device(tool: Path | str, *libraries: Path, serial: str = "") -> AdbDevice:
    return AdbDevice(Address(str(tool), libraries, serial), TOOLS["onnxruntime"])


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A graph with its weights in a folder beside it, and one inference's input."""
    weight = onnx.numpy_helper.from_array(np.full((300, 4), 2, np.float32), "w")
    model = proto("agraph (float[N, 300] x) => (float[N, 4] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(weight)
    (tmp_path / "data").mkdir()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="data/w.bin", size_threshold=0)
    return Subject(tmp_path / "m.onnx", {"x": np.ones((2, 300), np.float32)}, (tmp_path / "data" / "w.bin",))


@needs_adb
def test_subjects_are_run_there_with_their_own_inputs_and_nothing_is_left(
    phone: Phone, real_tool: Path, subject: Subject
) -> None:
    answer = time_subjects({"one": subject, "two": subject}, Place(device(real_tool)), SHORT)
    assert {name: np.shape(blocks) for name, blocks in answer.blocks_ms.items()} == {"one": (2, 3), "two": (2, 3)}
    assert 0 < min(np.ravel(answer.blocks_ms["one"])) < answer.load_ms
    assert answer.peak_memory_bytes > 20e6
    assert phone.left() == []


@needs_adb
def test_each_round_calls_the_tool_for_every_subject_and_leaves_the_warm_up_out(
    phone: Phone, tool: Path, subject: Subject
) -> None:
    android = device(tool)
    android.prepare(Silent())
    assert android.label == "Toy 7, over adb"
    answer = time_subjects({"one": subject, "two": subject}, Place(android, threads=2), SHORT)
    assert answer.blocks_ms == {"one": [[2.0, 3.0, 4.0]] * 2, "two": [[2.0, 3.0, 4.0]] * 2}
    assert (answer.load_ms, answer.peak_memory_bytes) == (500.0, 32 * 1024 * 1024)
    assert answer.host == {"machine": "arm64-v8a", "system": "Android 14"}
    calls = [command for command in phone.ran if "-m times" in command]
    assert [sum(f"{number}/m.onnx result" in call for call in calls) for number in (0, 1)] == [2, 2]
    assert all("./onnxruntime_perf_test -e cpu -m times -r 4 -x 2 " in call for call in calls)
    assert {call.partition(" && ")[0] for call in calls} == {calls[0].partition(" && ")[0]}
    assert phone.left() == []


@needs_adb
def test_peak_memory_is_the_tools_own(phone: Phone, tool: Path, subject: Subject) -> None:
    answer = peak_memory(subject, Place(device(tool)))
    assert (answer.peak_memory_bytes, answer.blocks_ms) == (32 * 1024 * 1024, {})
    assert any("-r 10 -x 1 0/m.onnx" in command for command in phone.ran)


@needs_adb
def test_a_tool_that_is_there_already_is_used_with_the_libraries_beside_it(
    phone: Phone, tool: Path, subject: Subject, tmp_path: Path
) -> None:
    tool.rename(phone.root / "perf_test")
    library = tmp_path / "libonnxruntime.so"
    library.write_bytes(b"library")
    android = device("device:/data/local/tmp/perf_test", library)
    answer = time_subjects({"one": subject}, Place(android), SHORT)
    assert len(answer.blocks_ms["one"]) == 2
    (first, *_) = [command for command in phone.ran if "-m times" in command]
    assert "LD_LIBRARY_PATH=.:/data/local/tmp /data/local/tmp/perf_test -e cpu" in first
    assert "chmod" not in first
    assert phone.left() == ["perf_test"]


@needs_adb
def test_answers_are_not_asked_of_it(phone: Phone, tool: Path, subject: Subject) -> None:
    with pytest.raises(HostError, match="outputs cannot be had\nAndroid devices are timed only") as raised:
        run_calls(subject, [subject.feeds], Place(device(tool)))
    assert raised.value.id == "environment.timed-only"
    assert phone.ran == []


@needs_adb
def test_a_slow_model_ends_with_the_fewest_rounds(phone: Phone, tool: Path, subject: Subject) -> None:
    long = Timing(seconds=0.0, rounds=1000, most_rounds=1000, block=1, warmup=0, enough_seconds=0.0)
    answer = time_subjects({"one": subject}, Place(device(tool)), long)
    assert answer.blocks_ms == {"one": [[1.0]] * 9}
    assert phone.left() == []


@needs_adb
@pytest.mark.parametrize(
    ("states", "serial", "id_", "says"),
    [
        ({}, "", "environment.device-unreachable", "there is no Android device\nadb sees: none"),
        ({"a": "device"}, "b", "environment.device-unreachable", "there is no device 'b'\nadb sees: a"),
        ({"a": "device", "b": "device"}, "", "environment.several-devices",
         "there are 2 Android devices\nadb sees: a, b"),
        ({"a": "unauthorized"}, "", "environment.device-refuses", "a has not allowed this computer"),
        ({"a": "offline"}, "", "environment.device-unreachable", "a cannot be used now\nadb says: offline"),
        ({"a": "no permissions (user in plugdev group; are your udev rules wrong?); see [x]"}, "",
         "environment.device-refuses", "this user may not use a"),
        ({"a": "recovery"}, "a", "environment.device-unreachable", "adb says: recovery"),
    ],
)  # fmt: skip
def test_devices_that_cannot_be_used(
    server: Server, tool: Path, states: dict[str, str], serial: str, id_: str, says: str, tmp_path: Path
) -> None:
    server.phones = {name: Phone(tmp_path, state) for name, state in states.items()}
    with pytest.raises(HostError) as raised:
        device(tool, serial=serial).prepare(Silent())
    assert (raised.value.id, says in str(raised.value)) == (id_, True), str(raised.value)


@needs_adb
def test_a_device_is_named_by_its_serial_or_by_the_environment(
    server: Server, phone: Phone, tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    server.phones["192.168.1.5:5555"] = Phone(other, properties=phone.properties | {"ro.product.model": "Toy 8"})
    named = device(tool, serial="192.168.1.5:5555")
    named.prepare(Silent())
    assert named.label == "Toy 8, over adb"
    monkeypatch.setenv("ANDROID_SERIAL", SERIAL)
    told = device(tool)
    before = told.fingerprint
    told.prepare(Silent())
    assert told.label == "Toy 7, over adb"
    assert len({before, told.fingerprint, named.fingerprint}) == 3


@needs_adb
def test_a_tool_for_another_processor(phone: Phone, tool: Path, subject: Subject, tmp_path: Path) -> None:
    ours = Path(sys.executable).resolve()
    assert abi_of(ours) in ("x86_64", "arm64-v8a")
    phone.properties["ro.product.cpu.abilist"] = "armeabi-v7a,armeabi"
    with pytest.raises(HostError, match="onnxruntime_perf_test does not run on Toy 7, over adb") as raised:
        device(ours).prepare(Silent())
    assert raised.value.id == "environment.wrong-abi"
    assert f"{ours.name!r} is made for {abi_of(ours)}; the device runs armeabi-v7a, armeabi" in str(raised.value)
    program(phone.root / "elsewhere", "#!/bin/sh\necho 'error: \"elsewhere\" has unexpected e_machine: 40'; exit 1\n")
    with pytest.raises(HostError, match="has unexpected e_machine") as raised:
        time_subjects({"one": subject}, Place(device("device:/data/local/tmp/elsewhere")), SHORT)
    assert raised.value.id == "environment.wrong-abi"
    assert phone.left() == ["elsewhere"]


@needs_adb
def test_a_tool_or_a_library_that_is_not_there(phone: Phone, subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="Toy 7, over adb lacks what runs the model") as raised:
        device("device:/data/local/tmp/perf_test").prepare(Silent())
    assert raised.value.id == "environment.device-lacks"
    assert "there is no program '/data/local/tmp/perf_test' on the device" in str(raised.value)
    said = 'CANNOT LINK EXECUTABLE "./perf_test": library "libonnxruntime.so" not found: needed by main executable'
    tool = program(tmp_path / "perf_test", f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    with pytest.raises(HostError, match=r'library "libonnxruntime\.so" not found') as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.device-lacks"
    assert "with lib= each library that it needs" in str(raised.value)
    assert phone.left() == []


@needs_adb
def test_a_full_device(phone: Phone, tool: Path, subject: Subject) -> None:
    phone.free_kb = 9 * 1024
    with pytest.raises(HostError, match="there is not enough room on emulator-5554") as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.device-full"
    assert "9 MB free, 16 MB needed" in str(raised.value)
    phone.free_kb, phone.push_fails = None, "couldn't write file: No space left on device"
    with pytest.raises(HostError, match="No space left on device") as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.device-full"
    assert phone.left() == []


@needs_adb
def test_a_push_that_fails_otherwise(phone: Phone, tool: Path, subject: Subject) -> None:
    phone.push_fails = "secure_mkdirs failed: Permission denied"
    with pytest.raises(HostError, match="the files cannot be pushed to emulator-5554") as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.device-lacks"
    assert "remote secure_mkdirs failed: Permission denied" in str(raised.value)
    assert phone.left() == []


@needs_adb
def test_a_file_that_changes_on_its_way(phone: Phone, tool: Path, subject: Subject) -> None:
    phone.damaged = "w.bin"
    with pytest.raises(HostError, match=r"0/data/w.bin was changed on its way to emulator-5554") as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.measuring"
    assert "-m times" not in " ".join(phone.ran)
    assert phone.left() == []


@needs_adb
def test_the_connection_drops_while_the_model_runs(phone: Phone, tool: Path, subject: Subject) -> None:
    phone.drops = "-m times"
    with pytest.raises(HostError, match="the connection to emulator-5554 was lost before the folder") as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.device-lost"
    (left,) = phone.left()
    assert f"may still be there: adb -s emulator-5554 shell rm -rf /data/local/tmp/{left}" in str(raised.value)
    assert "taken from the cache" in str(raised.value)


@needs_adb
def test_a_folder_that_cannot_be_removed_is_told(phone: Phone, tool: Path, subject: Subject) -> None:
    phone.drops = "rm -rf"
    with pytest.raises(HostError, match="it could not be removed") as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert f"rm -rf /data/local/tmp/{phone.left()[0]}" in str(raised.value)


@needs_adb
def test_a_tool_that_prints_something_else(phone: Phone, subject: Subject, tmp_path: Path) -> None:
    tool = program(tmp_path / "perf_test", "#!/bin/sh\necho 'Average inference time: fast'\n")
    with pytest.raises(
        HostError, match="what onnxruntime_perf_test printed on Toy 7, over adb cannot be read"
    ) as raised:
        time_subjects({"one": subject}, Place(device(tool)), SHORT)
    assert raised.value.id == "environment.measuring"
    assert "Average inference time: fast" in str(raised.value)
    assert phone.left() == []


@needs_adb
def test_a_tool_that_fails_and_a_model_that_it_refuses(
    phone: Phone, real_tool: Path, subject: Subject, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_text("no graph")
    with pytest.raises(ModelError, match="onnxruntime_perf_test on Toy 7, over adb does not run the model") as raised:
        time_subjects({"one": Subject(bad, subject.feeds)}, Place(device(real_tool)), SHORT)
    assert "Load model from 0/bad.onnx failed" in str(raised.value)
    stripped = program(tmp_path / "stripped", "#!/bin/sh\necho \"ERROR: Unknown command line flag 'e'\"; exit 1\n")
    with pytest.raises(HostError, match="Unknown command line flag 'e'") as raised:
        time_subjects({"one": subject}, Place(device(stripped)), SHORT)
    assert raised.value.id == "environment.measuring"


def test_without_adb(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="there is no adb here") as raised:
        device(tool).prepare(Silent())
    assert raised.value.id == "environment.no-tool"


@needs_adb
def test_a_device_that_does_not_answer(phone: Phone, subject: Subject, tmp_path: Path) -> None:
    tool = program(tmp_path / "perf_test", "#!/bin/sh\nsleep 3\n")
    android = device(tool)
    folder = tmp_path / "job"
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "m.onnx").write_bytes(b"graph")
    np.savez(folder / "0" / "feeds.npz", **{"0/x": np.zeros(1)})
    subjects = {"one": {"graph": "0/m.onnx", "feeds": "0/feeds.npz"}}
    spec = {"what": "latency", "threads": 1, "subjects": subjects, **vars(SHORT)}
    (folder / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(HostError, match="adb: no answer in") as raised:
        android.execute(folder, 1.5)
    assert raised.value.id == "environment.device-lost"


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tool", "a.so", "b.so"):
        Path(name).write_text("")
    assert read_address("?tool=tool") == Address("tool")
    assert read_address("10.0.0.5:5555?tool=tool&lib=a.so&lib=b.so") == Address(
        "tool", (Path("a.so"), Path("b.so")), "10.0.0.5:5555"
    )
    there = read_address("R5CT?tool=device:/data/local/tmp/benchmark_model")
    assert (there.serial, there.there) == ("R5CT", "/data/local/tmp/benchmark_model")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it names no tool"),
        ("R5CT", "it names no tool"),
        ("R5CT?tool=", "it names no tool"),
        ("?tool=device:", "it names no tool"),
        ("?tool=a&tool=b", "it names several tools"),
        ("?tol=a", "it names 'tol'; allowed are tool and lib"),
        ("?tool=no-such-file", "there is no file 'no-such-file' here"),
        ("?tool=device:/x&lib=no.so", "there is no file 'no.so' here"),
        ("?tool=device:perf_test", "'device:perf_test' is no whole path on the device"),
        ("//phone?tool=device:/x", "'//phone' is no serial"),
        ("-H?tool=device:/x", "'-H' is no serial"),
    ],
)
def test_addresses_that_make_no_sense(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="names no device") as raised:
        read_address(text)
    assert why in str(raised.value)
    assert raised.value.id == "usage.bad-device"
    assert "--device 'adb:SERIAL?tool=" in str(raised.value)
