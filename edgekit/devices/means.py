"""What of a target can be measured from this machine, and why not more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.cache import Cache
from edgekit.devices import reach
from edgekit.devices.browser import BrowserDevice
from edgekit.devices.emulated import EmulatedDevice
from edgekit.devices.emulation.root import find_root
from edgekit.environment import host
from edgekit.target import Target

Measures = Literal["latency", "instructions", "nothing"]


@dataclass(frozen=True)
class Means:
    """What can be measured of a target without a device of the user's.

    Attributes:
        measures: ``latency`` on this machine, or in a browser on it; ``instructions`` of an inference, and answers,
            under emulation; or ``nothing``, so that the artifact is built and checked here and that is all.
        processors: those that are emulated.
        set_up: whether everything is there that the emulator needs; what is not is made when it is first used.
        not_timed_because: why there is no latency; empty where there is.
        not_emulated_because: why nothing is measured of a target that could be emulated.
    """

    measures: Measures
    processors: tuple[str, ...] = ()
    set_up: bool = True
    not_timed_because: str = ""
    not_emulated_because: str = ""


def find_means(target: Target) -> Means:
    """What can be measured of a target here, in its own runtime and in its own way."""
    missing = target.missing_on(host())
    if missing is None:
        return Means("latency")
    found = reach(target, target.runtime.name)
    if found.devices and all(isinstance(device, BrowserDevice) for device in found.devices):
        return Means("latency")
    emulated = [device.profile for device in found.devices if isinstance(device, EmulatedDevice)]
    if not emulated:
        return Means("nothing", not_timed_because=missing, not_emulated_because=found.because.removeprefix(missing))
    made = all(find_root(kind, Cache()) is not None for kind in {profile.kind for profile in emulated})
    return Means("instructions", tuple(profile.name for profile in emulated), made, missing)
