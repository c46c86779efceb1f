"""Signs that the machine was not quiet while something was measured, read from the kernel where it has them."""

from __future__ import annotations

from typing import Literal

from edgekit.devices.runner import cpu_times
from edgekit.runtimes.measuring import CpuTimes

# A percent of stolen time already shifts medians by more than the decisions' margin.
MOST_STOLEN = 0.01
MOST_OTHER_LOAD = 0.15


def read_cpu_times() -> CpuTimes | None:
    """This machine's counters now; None on a system without them."""
    found = cpu_times()
    return None if found is None else CpuTimes(**found)


def disturbances(before: CpuTimes | None, after: CpuTimes | None) -> list[str]:
    """What disturbed a measurement between two readings, one sentence each."""
    if before is None or after is None:
        return []
    return list(disturbances_by_kind(before, after).values())


def disturbances_by_kind(before: CpuTimes, after: CpuTimes) -> dict[Literal["stolen", "load"], str]:
    """What disturbed a measurement between two readings: stolen time, other load."""
    if after.total <= before.total:
        return {}
    span = after.total - before.total
    stolen = (after.stolen - before.stolen) / span
    busy = span - (after.idle - before.idle) - (after.stolen - before.stolen)
    other = max(0.0, busy - (after.own - before.own)) / span
    found: dict[Literal["stolen", "load"], str] = {}
    if stolen > MOST_STOLEN:
        found["stolen"] = (
            f"{stolen:.0%} of the processors' time was taken by other virtual machines while latency was measured"
        )
    if other > MOST_OTHER_LOAD:
        found["load"] = f"other processes used {other:.0%} of the processors while latency was measured"
    return found
