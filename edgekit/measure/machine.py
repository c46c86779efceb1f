"""Signs that the machine was not quiet while something was measured, read from the kernel where it has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# A percent of stolen time already shifts medians by more than the decisions' margin.
MOST_STOLEN = 0.01
MOST_OTHER_LOAD = 0.15


@dataclass(frozen=True)
class CpuTimes:
    """Jiffies since boot, over all processors, and this process' own (children included)."""

    total: float
    idle: float
    stolen: float
    own: float


def read_cpu_times() -> CpuTimes | None:
    """The counters of ``/proc/stat``; None on a system without it."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return None
    values = [float(value) for value in first[:8]]
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return CpuTimes(total=sum(values), idle=values[3] + values[4], stolen=values[7], own=own * os.sysconf("SC_CLK_TCK"))


def disturbances(before: CpuTimes | None, after: CpuTimes | None) -> list[str]:
    """What disturbed a measurement between two readings, one sentence each."""
    if before is None or after is None or after.total <= before.total:
        return []
    span = after.total - before.total
    stolen = (after.stolen - before.stolen) / span
    busy = span - (after.idle - before.idle) - (after.stolen - before.stolen)
    other = max(0.0, busy - (after.own - before.own)) / span
    found = []
    if stolen > MOST_STOLEN:
        found.append(
            f"{stolen:.0%} of the processors' time was taken by other virtual machines while latency was measured"
        )
    if other > MOST_OTHER_LOAD:
        found.append(f"other processes used {other:.0%} of the processors while latency was measured")
    return found
