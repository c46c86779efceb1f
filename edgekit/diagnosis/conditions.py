"""The conditions of a run: room in memory and on disk, a quiet machine to measure on, the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgekit.diagnosis.machine import Kernel
from edgekit.diagnosis.records import Check
from edgekit.diagnosis.surroundings import HUB, Surroundings, cannot_write, free_bytes, is_on, nearest_existing
from edgekit.measure.machine import MOST_OTHER_LOAD, MOST_STOLEN

ROOM, QUIET, NETWORK = "Memory and disk", "Quiet, for measuring", "Hub"
TURBO = "turbo"
GIGABYTE = 1e9
# torch and transformers take about 0.6 GB once they are imported, and training keeps four copies of the model.
LEAST_MEMORY, GOOD_MEMORY = 1 * GIGABYTE, 4 * GIGABYTE
# A run keeps up to 16 copies of the model (`planning.py`): 1.5 GB for one of 90 MB.
LEAST_DISK, GOOD_DISK = 0.2 * GIGABYTE, 5 * GIGABYTE
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def check_room(around: Surroundings) -> Iterator[Check]:
    """Memory that is left, disks with room, and a cache that can be written."""
    yield _memory(around)
    seen: dict[int, str] = {}
    for name, folder in (("cache", around.cache), ("working folder", around.folder), ("temporary", around.temporary)):
        device = nearest_existing(folder).stat().st_dev
        if device in seen:
            found = f"on the same disk as the {seen[device]}"
            yield Check(group=ROOM, name=f"disk: {name}", state="ok", found=found)
            continue
        seen[device] = name
        yield _disk(name, folder)
    yield _writable("cache can be written", around.cache, "Set EDGEKIT_CACHE to a folder that can be written.")
    yield _writable("temporary files", around.temporary, "Set TMPDIR to a folder that can be written.")


def _memory(around: Surroundings) -> Check:
    memory = around.kernel.memory()
    if memory is None:
        return Check(group=ROOM, name="memory", state="note", found="the system does not say how much is free")
    limit = " that the control group allows" if memory.limited else ""
    found = f"{_gigabytes(memory.available)} of {_gigabytes(memory.total)}{limit} available"
    fix = "Close other programs, or raise the limit of the container; a smaller --set distill.batch_size needs less."
    return _by_size("memory", memory.available, (LEAST_MEMORY, GOOD_MEMORY), found, fix)


def _disk(name: str, folder: Path) -> Check:
    free = free_bytes(folder)
    fix = "Make room (`edgekit cache prune` frees the cache), or point EDGEKIT_CACHE to another disk."
    return _by_size(f"disk: {name}", free, (LEAST_DISK, GOOD_DISK), f"{_gigabytes(free)} free", fix)


def _by_size(name: str, size: float, bounds: tuple[float, float], found: str, fix: str) -> Check:
    """Failed below the first bound, a warning below the second."""
    least, good = bounds
    if size < least:
        return Check(group=ROOM, name=name, state="failed", found=f"{found}; at least {_gigabytes(least)}", fix=fix)
    if size < good:
        return Check(group=ROOM, name=name, state="warning", found=f"{found}; better {_gigabytes(good)}", fix=fix)
    return Check(group=ROOM, name=name, state="ok", found=found)


def _writable(name: str, folder: Path, fix: str) -> Check:
    problem = cannot_write(folder)
    if problem is None:
        return Check(group=ROOM, name=name, state="ok", found=str(folder))
    return Check(group=ROOM, name=name, state="failed", found=f"{folder}: {problem}", fix=fix)


def check_quiet(around: Surroundings) -> Iterator[Check]:
    """What makes timings scatter; edgekit measures interleaved, so that most of it evens out."""
    yield from check_clocks(around.kernel, around.host.cores)
    yield from _neighbours(around)


def check_clocks(kernel: Kernel, cores: int) -> Iterator[Check]:
    """What makes the speed of this many processors vary, whatever else runs."""
    governors = kernel.governors()
    if not governors:
        yield _quiet("clock governor", "note", "the kernel does not say, as is usual in virtual machines")
    elif governors == {"performance"}:
        yield _quiet("clock governor", "ok", "performance")
    else:
        fix = "sudo cpupower frequency-set -g performance"
        yield _quiet("clock governor", "warning", f"{', '.join(sorted(governors))}: clocks follow the load", fix)
    turbo = {
        True: ("note", "on: clocks depend on heat"),
        False: ("ok", "off"),
        None: ("note", "the kernel does not say"),
    }
    yield _quiet(TURBO, *turbo[kernel.turbo()])
    shared = {
        True: ("note", "on: two processors share one core"),
        False: ("ok", "off"),
        None: ("note", "the kernel does not say"),
    }
    yield _quiet("SMT", *shared[kernel.threads_share_cores()])
    quota = kernel.quota_cores()
    if quota is not None and quota < cores:
        fix = "Raise the container's CPU limit, or pin it to whole processors (--cpuset-cpus)."
        found = f"a control group allows the time of {quota:g} of {cores} processors, and stops in between"
        yield _quiet("processor limit", "warning", found, fix)


def _neighbours(around: Surroundings) -> Iterator[Check]:
    load = around.load()
    if load is None:
        yield _quiet("other processes", "note", "the system does not say how busy it is")
        return
    others, stolen = load
    found = f"use {others:.0%} of the processors now"
    if others > MOST_OTHER_LOAD:
        yield _quiet("other processes", "warning", found, "Wait for them, or stop them, before anything is measured.")
    else:
        yield _quiet("other processes", "ok", found)
    if stolen > MOST_STOLEN:
        fix = "Measure on a machine, or at a time, with fewer neighbours."
        yield _quiet("other virtual machines", "warning", f"take {stolen:.0%} of the processors' time now", fix)


def _quiet(name: str, state: str, found: str, fix: str = "") -> Check:
    return Check.model_validate({"group": QUIET, "name": name, "state": state, "found": found, "fix": fix})


def check_network(around: Surroundings) -> Iterator[Check]:
    """Whether models and data can be fetched from the hub."""
    switched = [name for name in OFFLINE_VARIABLES if is_on(around.variables.get(name))]
    if switched:
        found = f"offline mode is set ({', '.join(switched)}): what was fetched before can be used"
        yield Check(group=NETWORK, name="hub", state="note", found=found)
        return
    endpoint = around.variables.get("HF_ENDPOINT") or HUB
    problem = around.hub(endpoint)
    if problem is None:
        yield Check(group=NETWORK, name="hub", state="ok", found=f"{endpoint} answers")
        return
    fix = "Local folders work all the same. HF_HUB_OFFLINE=1 saves the waiting; HF_ENDPOINT names a mirror."
    yield Check(group=NETWORK, name="hub", state="warning", found=f"{endpoint} cannot be reached: {problem}", fix=fix)


def _gigabytes(size_bytes: float) -> str:
    return f"{size_bytes / GIGABYTE:.1f} GB"
