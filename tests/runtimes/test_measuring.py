from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_devices import Emulator
from graphs import proto
from tflites import INSTALLED, REASON

from edgekit.devices import runner
from edgekit.devices.base import SPEC, Device
from edgekit.devices.local import LocalDevice
from edgekit.devices.meter import Meter
from edgekit.devices.runner import measure_latency, wants_round
from edgekit.errors import EdgekitError, HostError, ModelError
from edgekit.runtimes.measuring import (
    Place,
    Subject,
    Timing,
    count_instructions,
    here,
    latency_run,
    peak_memory,
    run_calls,
    run_processes,
    start_run,
    time_subjects,
)

DOUBLE = "agraph (float[N, 4] x) => (float[N, 4] y) { y = Add(x, x) }"
FEEDS = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
SHORT = Timing(seconds=0.0, rounds=4, block=2, warmup=1)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    onnx.save(proto(DOUBLE), tmp_path / "double.onnx")
    return Subject(tmp_path / "double.onnx", FEEDS)


def test_every_subject_is_timed_in_blocks_interleaved(subject: Subject) -> None:
    answer = time_subjects({"one": subject, "two": subject}, here(1), SHORT)
    assert {name: np.shape(blocks) for name, blocks in answer.blocks_ms.items()} == {"one": (4, 2), "two": (4, 2)}
    assert min(np.ravel(answer.blocks_ms["one"])) > 0
    assert answer.runtime_version.count(".") == 2


@pytest.mark.parametrize(
    ("done", "spent", "more"),
    [
        (24, 7.0, True),  # too few rounds yet
        (25, 7.9, True),  # too little time yet
        (200, 7.9, False),  # never more than these
        (25, 8.0, False),
        (24, 119.9, True),
        (24, 120.0, False),  # slow: fewer will do
        (9, 500.0, False),
        (8, 500.0, True),  # but not fewer than these
    ],
)
def test_rounds_are_made_until_they_are_enough_and_fewer_of_a_slow_model(done: int, spent: float, more: bool) -> None:
    assert wants_round(done, spent, vars(Timing())) is more


@pytest.mark.parametrize(("rounds", "made"), [(1000, 9), (4, 4)])
def test_the_runner_ends_a_slow_model_with_the_fewest_rounds(subject: Subject, rounds: int, made: int) -> None:
    slow = Timing(seconds=0.0, rounds=rounds, block=1, warmup=1, enough_seconds=0.0)
    answer = time_subjects({"one": subject, "two": subject}, here(1), slow)
    assert {name: np.shape(blocks) for name, blocks in answer.blocks_ms.items()} == {"one": (made, 1), "two": (made, 1)}


def test_memory_is_that_of_a_process_with_the_runtime_in_it(subject: Subject) -> None:
    assert peak_memory(subject, here(1)).peak_memory_bytes > 20e6


def test_outputs_come_back_as_they_were_computed(subject: Subject) -> None:
    calls = [FEEDS, {"x": FEEDS["x"][:1] - 7}]
    answer = run_calls(subject, calls, here(1))
    found = [outputs["y"].array() for outputs in answer.outputs["subject"]]
    assert [values.dtype for values in found] == [np.float32, np.float32]
    for values, call in zip(found, calls, strict=True):
        np.testing.assert_array_equal(values, 2 * call["x"])


def test_instructions_are_counted_where_the_device_counts_them(subject: Subject) -> None:
    device = Emulator()
    answer = count_instructions({"one": subject, "two": subject}, Place(device), 3)
    size = subject.graph.stat().st_size
    assert answer.instructions == {"one": [size] * 3, "two": [size] * 3}
    assert device.asked == ["instructions"]


def test_external_data_goes_along_under_its_own_path(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.full((300, 4), 2, np.float32), "w")
    model = proto("agraph (float[N, 300] x) => (float[N, 4] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(weight)
    (tmp_path / "data").mkdir()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="data/w.bin", size_threshold=0)
    feeds = {"x": np.ones((1, 300), np.float32)}
    answer = run_calls(Subject(tmp_path / "m.onnx", feeds, (tmp_path / "data" / "w.bin",)), [feeds], here(1))
    np.testing.assert_array_equal(answer.outputs["subject"][0]["y"].array(), np.full((1, 4), 600))


def test_a_graph_that_the_runtime_refuses_is_the_models_fault(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime on this machine does not run the model"):
        time_subjects({"bad": Subject(tmp_path / "bad.onnx", FEEDS)}, here(1), SHORT)


@pytest.mark.skipif(not INSTALLED, reason=REASON)
def test_a_file_that_litert_refuses_is_the_models_fault(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3 no graph")
    with pytest.raises(ModelError, match="the runtime on this machine does not run the model") as caught:
        time_subjects({"bad": Subject(tmp_path / "bad.tflite", FEEDS)}, here(1, "litert"), SHORT)
    assert caught.value.id == "model.does-not-load"


class Tampering(LocalDevice):
    """Changes a byte of what it was sent."""

    def execute(self, folder: Path, seconds: float) -> str:
        graph = folder / json.loads((folder / SPEC).read_text())["subjects"]["subject"]["graph"]
        graph.write_bytes(graph.read_bytes() + b"\0")
        return super().execute(folder, seconds)


def test_what_a_transfer_changed_is_not_run(subject: Subject) -> None:
    with pytest.raises(HostError, match=r"0/double\.onnx was changed on its way here"):
        peak_memory(subject, Place(Tampering()))


class Chatty(Device):
    """Answers with something else."""

    label = "chatty"
    fingerprint = "chatty"

    def execute(self, folder: Path, seconds: float) -> str:
        return "Welcome!\n{}"


@pytest.mark.parametrize(
    "answer",
    [
        '{"load_ms": NaN, "peak_memory_bytes": 1}',
        '{"load_ms": 1, "peak_memory_bytes": 1, "blocks_ms": {"subject": [[Infinity]]}}',
        '{"load_ms": 1, "peak_memory_bytes": 1, "blocks_ms": {"subject": [[-1]]}}',
        '{"load_ms": 1, "peak_memory_bytes": 1, "host": {"system": "\\u001b[2J"}}',
    ],
)
def test_an_answer_of_odd_numbers_or_texts_is_none(
    subject: Subject, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chatty, "execute", lambda self, folder, seconds: answer)
    with pytest.raises(HostError, match=r"chatty gave no answer that can be read"):
        peak_memory(subject, Place(Chatty()))


def test_an_answer_that_is_none_is_shown(subject: Subject) -> None:
    with pytest.raises(HostError, match=r"chatty gave no answer that can be read\nWelcome!"):
        peak_memory(subject, Place(Chatty()))


def test_a_runner_that_hangs_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("import time; time.sleep(60)")
    (tmp_path / SPEC).write_text("{}")
    with pytest.raises(HostError, match=r"on this machine hung and was stopped\nno answer in 1 s"):
        LocalDevice().execute(tmp_path, 1.0)


NO_TIME = dict.fromkeys(("seconds", "enough_seconds"), 0.0)
PROCESS = {**NO_TIME, **dict.fromkeys(("rounds", "fewest_rounds", "most_rounds"), 2), "warmup": 1, "seed": 0}


def test_fresh_processes_run_one_after_the_other(subject: Subject) -> None:
    asked = {**PROCESS, "block": 3, "block_ms": 1.0, "copies": 2}
    runs = [latency_run(["two", "one"], asked), start_run("one"), start_run("two")]
    timed, *started = run_processes({"one": subject, "two": subject}, here(1), runs, seconds=600.0, fewest=1)
    assert list(timed.blocks_ms) == ["two", "one"]
    assert [len(blocks) for blocks in timed.blocks_ms.values()] == [2, 2]
    lengths = {len(block) for blocks in timed.blocks_ms.values() for block in blocks}
    assert len(lengths) == 1
    assert lengths.pop() >= 3
    assert timed.overhead_us is not None
    assert timed.first_ms is None
    for answer in started:
        assert answer.first_ms is not None
        assert answer.first_ms > answer.load_ms > 0
        assert answer.peak_memory_bytes > 10_000_000


SLOW_TO_IMPORT = """
import time

time.sleep(1.0)


class SessionOptions:
    pass


class InferenceSession:
    def __init__(self, graph, options, providers):
        pass

    def get_outputs(self):
        return []

    def run(self, names, feeds):
        return []
"""


def test_the_time_to_load_a_model_is_without_the_runtimes_own(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(SLOW_TO_IMPORT)
    np.savez(tmp_path / "feeds.npz", **{"0/x": np.ones(1)})  # type: ignore[arg-type]
    spec = {"what": "memory", "warmup": 1, "runtime": "onnxruntime", "package": "onnxruntime", "threads": 1}
    spec |= {"providers": ["CPUExecutionProvider"], "sha256": {}}
    spec |= {"subjects": {"m": {"graph": "m.onnx", "feeds": "feeds.npz"}}}
    (tmp_path / SPEC).write_text(json.dumps(spec))
    command = [sys.executable, runner.__file__, str(tmp_path / SPEC)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
    assert 0 < json.loads(done.stdout)["load_ms"] < 1000


def test_no_process_begins_for_which_there_is_no_time(subject: Subject) -> None:
    runs = [start_run("one")] * 4
    assert len(run_processes({"one": subject}, here(1), runs, seconds=0.0, fewest=2)) == 2


@pytest.mark.parametrize(("at_once", "limits"), [(True, [1500.0]), (False, [300.0] * 5)])
def test_a_budget_that_is_spent_before_leaves_the_fewest_processes_their_time(
    subject: Subject, at_once: bool, limits: list[float]
) -> None:
    """A model that takes long to load has spent a small budget before anything is timed."""
    given = list[float]()

    class Noting(Device):
        label = "noting"
        fingerprint = "noting"
        starts_processes = at_once

        def execute(self, folder: Path, seconds: float) -> str:
            given.append(seconds)
            one = {"load_ms": 1.0, "peak_memory_bytes": 1}
            return json.dumps({**one, "processes": [one] * 5} if at_once else one)

    answers = run_processes({"one": subject}, Place(Noting()), [start_run("one")] * 8, seconds=-115.0, fewest=5)
    assert (len(answers), given) == (5, limits)


def test_a_device_that_starts_no_processes_is_sent_each(subject: Subject) -> None:
    class Simple(LocalDevice):
        starts_processes = False

    runs = [start_run("one")] * 3
    answers = run_processes({"one": subject}, Place(Simple()), runs, seconds=0.0, fewest=2)
    assert [answer.first_ms for answer in answers] == [None, None]
    assert min(answer.peak_memory_bytes for answer in answers) > 10_000_000


def test_a_process_that_fails_is_the_error_of_all(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    broken = Subject(tmp_path / "broken.onnx", FEEDS)
    with pytest.raises(ModelError, match="onnxruntime on this machine does not run the model"):
        run_processes({"one": broken}, here(1), [start_run("one")], seconds=1.0, fewest=1)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(("signal", "id_"), [("SIGSEGV", "model.crashes"), ("SIGKILL", "resource-limit.model-memory")])
def test_a_process_that_a_signal_ends_says_so(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: str, id_: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(f"import os, signal\nos.kill(os.getpid(), signal.{signal})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EdgekitError) as raised:
        run_processes({"one": subject}, here(1), [start_run("one")], seconds=1.0, fewest=1)
    assert raised.value.id == id_


def test_copies_take_turns_and_blocks_fill_their_time() -> None:
    ran: list[str] = []
    calls = {"m": [lambda: ran.append("a"), lambda: ran.append("b")]}
    blocks = measure_latency(calls, {**PROCESS, "block": 2}, lambda call: call() or 1.0)  # type: ignore[arg-type, func-returns-value]
    assert blocks == {"m": [[1.0, 1.0]] * 2}
    assert ran == ["a", "b", *"aaa", *"bbb"]


def test_counters_of_energy_are_read_where_they_are(tmp_path: Path) -> None:
    assert not Meter(str(tmp_path)).readable()
    domains = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "psys"}
    counters = [tmp_path / "sys/class/powercap" / name / "energy_uj" for name in domains]
    for counter, name in zip(counters, domains.values(), strict=True):
        counter.parent.mkdir(parents=True)
        counter.write_text("1000\n")
        (counter.parent / "name").write_text(f"{name}\n")
    meter = Meter(str(tmp_path))
    assert meter.readable()
    assert meter.read() == 1000.0
    counters[0].write_text("1600\n")
    meter.note("m", 1000.0, 3)
    counters[0].write_text("10\n")
    meter.note("m", 1000.0, 3)
    meter.note("m", 10.0, 3)
    assert meter.uj == {"m": [200.0, None, None]}


def test_a_processor_is_not_counted_again_by_its_cores(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon3"
    folder.mkdir(parents=True)
    for number, label in enumerate(("Ecore000", "Ecore001", "Esocket0", None), 1):
        (folder / f"energy{number}_input").write_text(f"{number}\n")
        if label:
            (folder / f"energy{number}_label").write_text(f"{label}\n")
    assert Meter(str(tmp_path)).read() == 7.0


def test_nothing_runs_beside_what_is_measured(subject: Subject) -> None:
    """In a process of its own: onnxruntime reads the variable when it is imported."""
    lines = (
        "import gc, os, sys",
        "from edgekit.devices import runner",
        "runner.OnnxGraph({'graph': sys.argv[1]}, 1)",
        "seen = []",
        "runner.run_marked({'m': lambda: seen.append(gc.isenabled())}, {'warmup': 1, 'count': 2})",
        "tasks = os.listdir('/proc/self/task') if os.path.isdir('/proc/self/task') else ['this']",
        "print(os.environ['ORT_DISABLE_TELEMETRY'], *seen, gc.isenabled(), len(tasks))",
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "\n".join(lines), str(subject.graph)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
    assert done.stdout.split() == ["1", "False", "False", "False", "True", "1"]
