"""The plugin that counts instructions: its compilation, its arguments, and what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.devices.emulation.fetch import run
from edgekit.devices.emulation.kinds import PLUGIN_SOURCE, Kind
from edgekit.devices.runner import BEGIN_MARK, END_MARK

REGION = "edgekit-region"


@dataclass(frozen=True)
class Region:
    """What was executed between two marks.

    Attributes:
        instructions: all of them.
        kernels: those that tell kernels, by their name; without the ones that did not occur.
    """

    instructions: int
    kernels: dict[str, int] = field(default_factory=dict)


def compile_plugin(output: Path) -> None:
    """Compile the plugin; the functions of qemu that it calls are found when qemu loads it.

    Raises:
        HostError: the compiler is not there, or refuses.
    """
    flags = ["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,--unresolved-symbols=ignore-all"]
    run(["gcc", *flags, "-o", str(output), str(PLUGIN_SOURCE)], "compiling the plugin of the emulator", output.parent)


def plugin_arguments(library: Path, log: Path, kind: Kind) -> list[str]:
    """Arguments that make qemu count, and write what it counted to ``log``."""
    settings = [str(library).replace(",", ",,"), f"syscall={kind.getpgid}", f"begin={BEGIN_MARK:#x}"]
    settings.append(f"end={END_MARK:#x}")
    settings += [f"class={row.name}:{row.mask:#x}:{row.value:#x}" for row in kind.opcodes]
    return ["-d", "plugin", "-D", str(log), "-plugin", ",".join(settings)]


def read_regions(log: str) -> list[Region]:
    """The regions that the plugin wrote, in their order; other lines of qemu's log are passed over."""
    regions = []
    for line in log.splitlines():
        if not line.startswith(f"{REGION} "):
            continue
        _, total, *words = line.split()
        counts = (word.partition(":") for word in words)
        regions.append(Region(int(total), {name: int(count) for name, _, count in counts if count != "0"}))
    return regions


def middle(regions: Sequence[Region]) -> Region:
    """The region in the middle, by its instructions; of an even number, the lower one."""
    return sorted(regions, key=lambda region: region.instructions)[(len(regions) - 1) // 2]
