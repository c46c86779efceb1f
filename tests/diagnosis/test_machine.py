from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.diagnosis.machine import Kernel, Memory

MEMINFO = "MemTotal:       8000000 kB\nMemFree:        1000000 kB\nMemAvailable:   6000000 kB\n"
K = 1024


def kernel(root: Path, **files: str) -> Kernel:
    """A kernel whose files hold this; ``__`` in a name stands for a slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Kernel(root)


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_memory_without_a_limit(tmp_path: Path) -> None:
    assert kernel(tmp_path, proc__meminfo=MEMINFO).memory() == Memory(8_000_000 * K, 6_000_000 * K, False)


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    silent = Kernel(tmp_path)
    assert silent.memory() is None
    assert silent.quota_cores() is None
    assert (silent.governors(), silent.turbo(), silent.threads_share_cores()) == (set(), None, None)


def test_the_limit_of_the_second_version_counts_without_the_cached_files(tmp_path: Path) -> None:
    machine = kernel(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/app/inner\n")
    write(tmp_path, "sys/fs/cgroup/app/memory.max", "4000000000\n")
    write(tmp_path, "sys/fs/cgroup/app/memory.current", "1500000000\n")
    write(tmp_path, "sys/fs/cgroup/app/memory.stat", "anon 1\ninactive_file 500000000\n")
    write(tmp_path, "sys/fs/cgroup/app/inner/memory.max", "max\n")
    assert machine.memory() == Memory(4_000_000_000, 3_000_000_000, True)


def test_the_limit_of_the_first_version(tmp_path: Path) -> None:
    machine = kernel(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="9:name=systemd:/\n4:memory:/box\n1:cpu:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2000000000")
    write(tmp_path, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1900000000")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    write(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", "5")
    assert machine.memory() == Memory(2_000_000_000, 100_000_000, True)


def test_the_limit_at_the_root_of_a_container_counts(tmp_path: Path) -> None:
    machine = kernel(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "1000000000")
    write(tmp_path, "sys/fs/cgroup/memory.current", "999999999999")
    assert machine.memory() == Memory(1_000_000_000, 0, True)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "400000 100000", "sys/fs/cgroup/box/cpu.max": "50000 100000"}, 0.5),
        ({}, None),
    ],
)
def test_the_processor_limit(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    machine = kernel(tmp_path, proc__self__cgroup="0::/box\n")
    for name, text in files.items():
        write(tmp_path, name, text)
    assert machine.quota_cores() == cores


def test_the_processor_limit_of_the_first_version(tmp_path: Path) -> None:
    machine = kernel(tmp_path, proc__self__cgroup="1:cpu,cpuacct:/\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert machine.quota_cores() is None
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000")
    assert machine.quota_cores() == 2


def test_clocks(tmp_path: Path) -> None:
    base = "sys/devices/system/cpu"
    for number, governor in enumerate(("powersave", "performance")):
        write(tmp_path, f"{base}/cpu{number}/cpufreq/scaling_governor", f"{governor}\n")
    write(tmp_path, f"{base}/smt/active", "1\n")
    write(tmp_path, f"{base}/cpufreq/boost", "0\n")
    machine = Kernel(tmp_path)
    assert machine.governors() == {"powersave", "performance"}
    assert (machine.turbo(), machine.threads_share_cores()) == (False, True)
    write(tmp_path, f"{base}/intel_pstate/no_turbo", "0\n")
    assert machine.turbo() is True
