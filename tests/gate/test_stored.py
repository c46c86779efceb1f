from __future__ import annotations

import pytest
from records import make_record, p50

from edgekit.gate.record import HostRecord, Protocol, Runtime, Subject
from edgekit.gate.stored import incomparable

NOW = make_record(p50(1.0), protocol=Protocol(workload={"batch": 1}, clock="wall clock"))


def test_a_result_of_the_same_machine_and_work_counts() -> None:
    assert incomparable(NOW, NOW.model_copy(update={"created": "2020-01-01T00:00:00Z"})) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"host": HostRecord(fingerprint="cd")}, "from another machine: their fingerprints differ"),
        (
            {"subject": Subject(name="m", sha256="0", bytes=1, format="tflite")},
            "of the format tflite, and this one is onnx",
        ),
        ({"runtime": Runtime(name="onnxruntime", version="1.20.0", provider="CPUExecutionProvider")}, "1.20.0"),
        (
            {"runtime": NOW.runtime.model_copy(update={"threads": 4})},
            "another number of threads: 4, and this one has 1",
        ),
        ({"protocol": Protocol(workload={"batch": 8}, clock="wall clock")}, "another workload"),
        ({"protocol": Protocol(workload={"batch": 1}, clock="CUDA events")}, "another clock"),
    ],
)
def test_what_differs_is_the_reason(changed: dict[str, object], why: str) -> None:
    assert why in incomparable(NOW, NOW.model_copy(update=changed))


def test_what_is_not_known_yet_is_no_reason() -> None:
    runtime = NOW.runtime.model_copy(update={"version": None})
    early = NOW.model_copy(update={"runtime": runtime, "protocol": Protocol(workload={"batch": 1})})
    assert incomparable(early, NOW) == ""
