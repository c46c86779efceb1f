"""Where a model runs when it is measured: this machine, or one that is reached in another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.cache import Cache
from edgekit.devices.adb import AdbDevice
from edgekit.devices.adb import read_address as read_adb_address
from edgekit.devices.base import Device
from edgekit.devices.browser import BrowserDevice
from edgekit.devices.chromium import NO_CHROMIUM, find_chromium
from edgekit.devices.command import CommandDevice
from edgekit.devices.emulated import EmulatedDevice
from edgekit.devices.emulation.root import find_root, why_not
from edgekit.devices.local import LocalDevice
from edgekit.devices.ssh import SshDevice, read_address
from edgekit.devices.tools import TOOLS
from edgekit.environment import host
from edgekit.errors import UnknownNameError, UsageError
from edgekit.target import PACKAGES, Target

# Which module each runtime is on a device.
MODULES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}

# The way that measures nowhere, as the user may want it: then nothing is timed, counted or profiled.
NONE, NOT_WANTED = "none", "--device none asks for no measurement"

# The kind of machine that is emulated for an architecture.
KINDS_OF = {"aarch64": "arm64", "armv7l": "armhf", "x86_64": "x86-64"}


@dataclass(frozen=True)
class Reached:
    """How a target is measured.

    Attributes:
        devices: where; several for the profiles of an emulator; none where the target cannot be measured.
        because: why there are none.
        asked: whether the user named the way, so that it is an error when the device cannot be had.
    """

    devices: tuple[Device, ...] = ()
    because: str = ""
    asked: bool = False


def _local(target: Target, runtime: str, address: str) -> Reached:
    del address
    missing = target.missing_on(host(), runtime)
    return Reached(because=missing) if missing else Reached((LocalDevice(),))


def _emulated(target: Target, runtime: str, address: str) -> Reached:
    del runtime
    profiles = [name for name in address.split(",") if name] or list(target.profiles)
    if not profiles:
        return Reached(because=f"the target {target.name!r} names no processor to emulate")
    devices = tuple(EmulatedDevice(profile) for profile in profiles)
    for device in devices:
        if device.profile.kind != KINDS_OF.get(target.architecture):
            raise UsageError(
                f"{device.profile.name} is no processor of the target {target.name!r}",
                id="usage.target-mismatch",
                why=f"the target is {target.architecture}, and the processor is of the kind {device.profile.kind}",
                hint=f"Give --device emulated:{','.join(target.profiles) or 'NAME'}, or another target.",
            )
    absent = {device.profile.kind for device in devices if find_root(device.profile.kind, Cache()) is None}
    reasons = [why for kind in sorted(absent) if (why := why_not(kind)) is not None]
    return Reached(because=reasons[0]) if reasons else Reached(devices)


def _ssh(target: Target, runtime: str, address: str) -> Reached:
    return Reached((SshDevice(read_address(address), MODULES[runtime], PACKAGES[runtime], target.architecture),))


def _adb(target: Target, runtime: str, address: str) -> Reached:
    del target
    return Reached((AdbDevice(read_adb_address(address), TOOLS[runtime]),))


def _command(target: Target, runtime: str, address: str) -> Reached:
    del target, runtime
    return Reached((CommandDevice(address),))


def _none(target: Target, runtime: str, address: str) -> Reached:
    del target, runtime, address
    return Reached(because=NOT_WANTED)


def _browser(target: Target, runtime: str, address: str) -> Reached:
    del target, address
    if runtime != "onnxruntime":
        return Reached(because=f"in a browser onnxruntime runs models, and this one is for {runtime}")
    if find_chromium() is None:
        return Reached(because=NO_CHROMIUM)
    return Reached((BrowserDevice(),))


# A way by its name: given the target, the runtime, and what follows the name in ``--device NAME:ADDRESS``, the devices.
WAYS: dict[str, Callable[[Target, str, str], Reached]] = {
    "local": _local,
    "emulated": _emulated,
    "ssh": _ssh,
    "adb": _adb,
    "command": _command,
    "browser": _browser,
    NONE: _none,
}


def reach(target: Target, runtime: str, device: str | None = None) -> Reached:
    """Where a target is measured: on this machine where it is one, else in the way that the target's file names.

    Args:
        target: the target.
        runtime: what runs the artifact there.
        device: what the user asked for instead: ``local``, ``emulated``, ``ssh://user@host``, ...

    Raises:
        UnknownNameError: there is no such way.
        UsageError: the address makes no sense.
    """
    if device is None:
        here = _local(target, runtime, "")
        return here if here.devices or target.reach == "local" else WAYS[target.reach](target, runtime, "")
    name, _, address = device.partition(":")
    if name not in WAYS:
        raise UnknownNameError(
            "device",
            name,
            WAYS,
            id="unknown-name.device",
            hint="`edgekit compress --help` says how each is written.",
        )
    found = WAYS[name](target, runtime, address)
    return Reached(found.devices, found.because, asked=name != NONE)


def ready_emulators(target: Target) -> tuple[Device, ...]:
    """The emulated processors of a target's that are set up."""
    devices = [EmulatedDevice(profile) for profile in target.profiles]
    return tuple(device for device in devices if find_root(device.profile.kind, Cache()) is not None)
