"""What was not quiet while it was measured, as warnings: other load, stolen time, pressure, clocks, heat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgekit.diagnosis.conditions import TURBO, check_clocks
from edgekit.diagnosis.machine import Kernel
from edgekit.gate.record import Disturbance
from edgekit.gate.traces import slower_after
from edgekit.measure.machine import disturbances_by_kind
from edgekit.runtimes.measuring import Answer, CpuTimes

# Of the time, some process waited for a processor for so long (Linux: Documentation/accounting/psi.rst).
MOST_PRESSURE = 0.10
# Near to where boards begin to throttle: a Raspberry Pi's soft limit is 80 degrees (raspberrypi.com, "Frequency
# management and thermal control"), and phones' lie lower.
HOT_DEGREES = 75.0


class Seen(NamedTuple):
    """Something that was not quiet: what, and in one sentence how much of it."""

    kind: Disturbance
    told: str


@dataclass(frozen=True)
class Reading:
    """What this machine's kernel says at one time; None where it does not say.

    Attributes:
        seconds: of a monotonic clock.
        pressure_s: since boot, time in which some process waited for a processor.
        degrees: of the hottest zone, in Celsius.
    """

    seconds: float
    pressure_s: float | None
    degrees: float | None


def read(kernel: Kernel, seconds: float) -> Reading:
    """Read this machine now."""
    return Reading(seconds, kernel.pressure_s(), kernel.hottest_degrees())


def clocks(kernel: Kernel, cores: int) -> list[str]:
    """What makes clocks and processors vary whatever else runs, one sentence each."""
    checks = check_clocks(kernel, cores)
    return [
        f"{one.name}: {one.found}" for one in checks if one.state == "warning" or (one.name == TURBO and kernel.turbo())
    ]


def between(before: Reading, after: Reading) -> list[Seen]:
    """What the kernel says of the time between two readings."""
    found = list[Seen]()
    span = after.seconds - before.seconds
    if before.pressure_s is not None and after.pressure_s is not None and span > 0:
        share = (after.pressure_s - before.pressure_s) / span
        if share > MOST_PRESSURE:
            told = f"processes waited for a processor {share:.0%} of the time (/proc/pressure/cpu)"
            found.append(Seen("pressure", told))
    if after.degrees is not None and after.degrees >= HOT_DEGREES:
        told = f"the hottest zone is at {after.degrees:.0f} degrees Celsius: clocks may be throttled"
        found.append(Seen("heat", told))
    return found


def of_processes(answers: Sequence[Answer]) -> list[Seen]:
    """What the processes saw: other load and stolen time, over all of them together."""
    spans = [answer.cpu_times for answer in answers if len(answer.cpu_times) == 2]
    if not spans:
        return []
    sums = [sum_times([last for _, last in spans]), sum_times([first for first, _ in spans])]
    return [Seen(kind, told) for kind, told in disturbances_by_kind(sums[1], sums[0]).items()]


def sum_times(times: Sequence[CpuTimes]) -> CpuTimes:
    """Counters of several processes, added; only differences of them mean something."""
    return CpuTimes(
        total=sum(one.total for one in times),
        idle=sum(one.idle for one in times),
        stolen=sum(one.stolen for one in times),
        own=sum(one.own for one in times),
    )


def throttled(trace: Sequence[float]) -> list[Seen]:
    """That the machine became slower and stayed so.

    Args:
        trace: medians of blocks of one subject, over all processes in their order.
    """
    shift = slower_after(trace)
    if shift is None:
        return []
    when = f"after {shift.at / len(trace):.0%} of the blocks"
    told = f"the machine became {shift.by:.0%} slower {when} and stayed so: its clock is throttled, or other load came"
    return [Seen("throttled", told)]
