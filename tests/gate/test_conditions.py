from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.diagnosis.machine import Kernel
from edgekit.gate import conditions
from edgekit.gate.conditions import Reading
from edgekit.runtimes.measuring import Answer, CpuTimes


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_silent_kernel_gives_no_warnings(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    assert conditions.clocks(kernel, 4) == []
    assert conditions.read(kernel, 5.0) == Reading(5.0, None, None)
    assert conditions.between(Reading(0.0, None, None), Reading(9.0, None, None)) == []


def test_governor_turbo_and_a_quota_are_named(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    write(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", "0\n")
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert conditions.clocks(Kernel(tmp_path), 4) == [
        "clock governor: powersave: clocks follow the load",
        "turbo: on: clocks depend on heat",
        "processor limit: a control group allows the time of 1.5 of 4 processors, and stops in between",
    ]
    assert len(conditions.clocks(Kernel(tmp_path), 1)) == 2


def test_pressure_and_heat_are_named(tmp_path: Path) -> None:
    write(tmp_path, "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull total=0\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "81000\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "40000\n")
    after = conditions.read(Kernel(tmp_path), 10.0)
    assert after == Reading(10.0, 2.5, 81.0)
    assert conditions.between(Reading(0.0, 0.5, 50.0), after) == [
        ("pressure", "processes waited for a processor 20% of the time (/proc/pressure/cpu)"),
        ("heat", "the hottest zone is at 81 degrees Celsius: clocks may be throttled"),
    ]
    assert conditions.between(Reading(0.0, 2.0, 50.0), Reading(10.0, 2.5, 60.0)) == []


def test_the_processes_add_up_what_else_ran() -> None:
    def answer(others: float) -> Answer:
        first = CpuTimes(total=1000, idle=500, stolen=0, own=100)
        last = CpuTimes(total=1200, idle=500 + 100 - others, stolen=0, own=200)
        return Answer(load_ms=1, peak_memory_bytes=1, cpu_times=(first, last))

    assert conditions.of_processes([answer(0), answer(0)]) == []
    (found,) = conditions.of_processes([answer(0), answer(100)])
    assert found == ("load", "other processes used 25% of the processors while latency was measured")
    assert conditions.of_processes([Answer(load_ms=1, peak_memory_bytes=1)]) == []


@pytest.mark.parametrize(("slower", "found"), [(1.0, 0), (1.3, 1)])
def test_a_machine_that_became_slower_is_named(slower: float, found: int) -> None:
    told = conditions.throttled([1.0 + index % 3 / 100 for index in range(60)] + [slower] * 60)
    assert len(told) == found
    assert all("became 29% slower after 50% of the blocks and stayed so" in text for _, text in told)
    assert all(kind == "throttled" for kind, _ in told)
