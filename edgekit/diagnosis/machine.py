"""What the kernel says of memory, processors and limits; each is None where it does not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

UNLIMITED = 1 << 60  # version 1 of control groups writes "no limit" as a number of about this size
KIBIBYTE = 1024


class Memory(NamedTuple):
    """Memory in bytes.

    Attributes:
        total: installed, or the limit of the control group where that is less.
        available: what this process may still take.
        limited: whether a control group sets the limit.
    """

    total: int
    available: int
    limited: bool


@dataclass(frozen=True)
class Kernel:
    """The files in which Linux tells about itself.

    Args:
        root: ``/``; another folder in tests.
    """

    root: Path = Path("/")

    def memory(self) -> Memory | None:
        """Memory, with the limits of control groups."""
        known = {}
        for line in self._lines("proc/meminfo"):
            name, _, rest = line.partition(":")
            number = rest.split()[:1]
            if number and number[0].isdigit():
                known[name] = int(number[0]) * KIBIBYTE
        if "MemTotal" not in known or "MemAvailable" not in known:
            return None
        total, available, limited = known["MemTotal"], known["MemAvailable"], False
        for limit, used in self._memory_limits():
            if limit < total:
                total, limited = limit, True
            available = min(available, max(0, limit - used))
        return Memory(total, available, limited)

    def quota_cores(self) -> float | None:
        """Processors' worth of time that control groups allow; None where there is no limit."""
        quotas = []
        for folder in self._groups("cpu"):
            words = self._text(folder / "cpu.max").split()
            if len(words) == 2 and words[0].isdigit():
                quotas.append(int(words[0]) / int(words[1]))
            quota, period = self._number(folder / "cpu.cfs_quota_us"), self._number(folder / "cpu.cfs_period_us")
            if quota and period and quota > 0:
                quotas.append(quota / period)
        return min(quotas, default=None)

    def governors(self) -> set[str]:
        """How the processors' clocks are governed; empty where the kernel does not say, as in virtual machines."""
        files = (self.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
        return {self._text(file) for file in files} - {""}

    def turbo(self) -> bool | None:
        """Whether the clock may go above its base while the processor is cool."""
        off = self._number("sys/devices/system/cpu/intel_pstate/no_turbo")
        if off is not None:
            return off == 0
        boost = self._number("sys/devices/system/cpu/cpufreq/boost")
        return None if boost is None else boost == 1

    def threads_share_cores(self) -> bool | None:
        """Whether simultaneous multithreading is on: two processors are then one core."""
        active = self._number("sys/devices/system/cpu/smt/active")
        return None if active is None else active == 1

    def pressure_s(self) -> float | None:
        """Seconds since boot in which some process waited for a processor (Documentation/accounting/psi.rst)."""
        for line in self._lines("proc/pressure/cpu"):
            words = dict(word.partition("=")[::2] for word in line.split()[1:])
            if line.startswith("some") and words.get("total", "").isdigit():
                return int(words["total"]) / 1e6
        return None

    def hottest_degrees(self) -> float | None:
        """Of the hottest thermal zone, in Celsius; None where there is none, as in virtual machines."""
        zones = (self.root / "sys/class/thermal").glob("thermal_zone[0-9]*/temp")
        return max((found / 1e3 for zone in zones if (found := self._number(zone)) is not None), default=None)

    def _memory_limits(self) -> Iterator[tuple[int, int]]:
        """Limit and use of each control group around this process; the files it has read do not count as used."""
        for folder in self._groups("memory"):
            for limit_file, used_file, cached in (
                ("memory.max", "memory.current", "inactive_file"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ):
                limit, used = self._number(folder / limit_file), self._number(folder / used_file)
                if limit is None or used is None or limit >= UNLIMITED:
                    continue
                stat = dict(line.split()[:2] for line in self._lines(folder / "memory.stat") if len(line.split()) > 1)
                yield limit, max(0, used - int(stat.get(cached, 0)))

    def _groups(self, controller: str) -> Iterator[Path]:
        """Folders of the control groups around this process, of both versions, from the inside out."""
        for line in self._lines("proc/self/cgroup"):
            number, controllers, path = [*line.split(":", 2), "", ""][:3]
            if number == "0" and not controllers:
                base = self.root / "sys/fs/cgroup"
            elif controller in controllers.split(","):
                base = self.root / "sys/fs/cgroup" / controller
            else:
                continue
            inner = base / path.lstrip("/")
            yield inner
            if inner != base:
                yield from (parent for parent in inner.parents if parent == base or base in parent.parents)

    def _text(self, file: str | Path) -> str:
        try:
            return (self.root / file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _lines(self, file: str | Path) -> list[str]:
        return self._text(file).splitlines()

    def _number(self, file: str | Path) -> int | None:
        text = self._text(file)
        return int(text) if text.lstrip("-").isdigit() else None
