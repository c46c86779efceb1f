"""Which metrics a place has no means to measure, known before anything is measured there."""

from __future__ import annotations

from dataclasses import replace

from edgekit.cache import Cache
from edgekit.devices.emulated import EmulatedDevice
from edgekit.devices.emulation.root import find_root, why_not
from edgekit.devices.meter import Meter
from edgekit.feasibility import NO_ENERGY
from edgekit.gate.margins import Margins
from edgekit.gate.metrics import STARTED, TIMED
from edgekit.places import NO_CLOCK
from edgekit.runtimes.measuring import Place

NO_START = "nothing there tells how long a process takes until its first answer"
NOT_HERE = "instructions are counted on this machine, and on emulated devices: --device emulated"
ON_GPU = "instructions are those of a processor, and the model is computed on a GPU"
NOT_SET_UP = "the emulator that counts them is not set up: `edgekit targets setup x86-64`"
# What instructions of this machine are counted on: virtual machines have no counters of their own, and an emulator's
# are the same on every machine.
COUNTED_ON = "haswell"


def find_counter(place: Place) -> tuple[Place | None, str]:
    """What counts the instructions of what is timed at a place; else None, and why there is no such thing."""
    if not place.local:
        return None, NOT_HERE
    if place.provider != "cpu":
        return None, ON_GPU
    device = EmulatedDevice(COUNTED_ON)
    if find_root(device.profile.kind, Cache()) is None:
        return None, why_not(device.profile.kind) or NOT_SET_UP
    return replace(place, device=device, threads=1), ""


def find_lacking(margins: Margins, place: Place, no_counter: str) -> dict[str, str]:
    """The gated metrics that cannot be measured at a place, and why.

    Args:
        margins: what is gated.
        place: where; one of several that are alike.
        no_counter: why instructions cannot be counted beside the times; empty where they can.
    """
    if not place.device.timed:
        return {name: NO_CLOCK for name in (*TIMED, *STARTED) if name in margins}
    found = {"instructions": no_counter}
    found |= {"energy": NO_ENERGY} if place.local and not Meter().readable() else {}
    found |= {} if place.device.starts_processes else {"cold_start": NO_START}
    return {name: why for name, why in found.items() if why and name in margins}
