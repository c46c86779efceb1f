from __future__ import annotations

import pytest
from records import make_record, p50

from edgekit.gate.protocol import Plan, find_plan
from edgekit.gate.record import HostRecord, Protocol, Runtime, Subject
from edgekit.gate.stored import incomparable, measured_like, unlike
from edgekit.report import TimedOn

HOW = Protocol(workload={"batch": 1}, clock="wall clock", process_s=0.4, copies=16)
NOW = make_record(p50(1.0), protocol=HOW)


def test_a_result_of_the_same_machine_and_work_counts() -> None:
    assert incomparable(NOW, NOW.model_copy(update={"created": "2020-01-01T00:00:00Z"})) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"host": HostRecord(fingerprint="cd")}, "another machine: their fingerprints differ in cores and processor"),
        (
            {"host": NOW.host.model_copy(update={"fingerprint": "cd", "python": "3.12"})},
            "from another machine: their fingerprints differ in python",
        ),
        ({"timed_on": TimedOn(device="ssh://board")}, "differ in cores and device and processor"),
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
        (
            {"protocol": HOW.model_copy(update={"process_s": 1.0})},
            "another time of a process: 1.0, and this one has 0.4",
        ),
        ({"protocol": HOW.model_copy(update={"copies": 3})}, "another number of copies in a process"),
        (
            {"protocol": HOW.model_copy(update={"baseline": "beside"})},
            "was measured beside a baseline, and this one alone",
        ),
        ({"metrics": (p50(None),)}, "the stored result does not have latency.p50"),
        ({"metrics": (), "protocol": Protocol(workload={"batch": 1})}, "the stored result does not have latency.p50"),
    ],
)
def test_what_differs_is_the_reason(changed: dict[str, object], why: str) -> None:
    assert why in incomparable(NOW, NOW.model_copy(update=changed), ["latency.p50"])


def test_what_is_not_known_yet_is_no_reason() -> None:
    runtime = NOW.runtime.model_copy(update={"version": None})
    early = NOW.model_copy(update={"runtime": runtime, "protocol": Protocol(workload={"batch": 1})})
    assert incomparable(early, NOW) == ""


def test_a_new_result_is_measured_as_the_stored_one_was() -> None:
    plan = measured_like(Plan(budget_s=60.0), NOW)
    assert (plan.seconds, plan.asked(0)["copies"], plan.budget_s) == (0.4, 16, 60.0)


def test_a_preset_keeps_the_time_of_its_processes() -> None:
    plan = measured_like(find_plan("tiny", None, compared=True), NOW)
    assert (plan.seconds, plan.processes, plan.preset) == (10.0, 5, "tiny")


def test_sessions_that_were_disturbed_in_other_ways_tell_nothing_of_times() -> None:
    loaded = NOW.model_copy(update={"protocol": HOW.model_copy(update={"disturbed": ("load", "pressure")})})
    assert unlike((), NOW) == ""
    assert unlike(("pressure", "load"), loaded) == ""
    assert unlike(("load",), loaded) == "only one of the two sessions was disturbed by pressure"
    assert unlike((), loaded) == "only one of the two sessions was disturbed by load and pressure"
