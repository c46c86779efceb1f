"""Where an artifact runs when it is measured, and what tells that place from the target that the artifact is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import Component, Format
from edgekit.devices import NONE, WAYS, reach
from edgekit.devices.base import Device
from edgekit.environment import host
from edgekit.errors import HostError, UnknownNameError
from edgekit.feasibility import check_reached, provider_for, runtime_for
from edgekit.progress import Progress
from edgekit.runtimes.measuring import Place, try_provider
from edgekit.target import EXECUTION_PROVIDERS, HOST, Provider, Target, load_target, target_names

NO_CLOCK = "an emulator's clock says nothing about the device"
FASTER_HERE = "timed on a processor with VNNI, which multiplies INT8 faster than {} has to"


def places_of(
    target: Target, format_: Format, devices: Sequence[Device], threads: int, provider: Provider | None = None
) -> tuple[Place, ...]:
    """Devices with the runtime and what computes in it: the target's own, unless another provider is asked for."""
    computes = provider or provider_for(target, format_)
    return tuple(Place(device, runtime_for(target, format_), threads, computes) for device in devices)


def make_ready(places: Sequence[Place], progress: Progress) -> None:
    """Have every device ready to measure.

    Raises:
        HostError: one cannot be had.
    """
    for place in places:
        place.device.prepare(progress)
        if place.provider != "cpu":
            try_provider(place)


def check_answering(places: Sequence[Place]) -> None:
    """That every device gives back what a graph answers.

    Raises:
        HostError: one is only timed.
    """
    for device in (place.device for place in places if place.device.no_answers_because):
        raise HostError(
            f"{device.label}: answers cannot be had", id="environment.timed-only", why=device.no_answers_because
        )


def find_target(made_for: str | None, given: str | Path | Target | None, device: str | None) -> Target | None:
    """The target of what is measured; None where nothing says it, and no device is asked for.

    Args:
        made_for: the name in an artifact's manifest; None for a file of others, which is taken to be for this machine.
        given: what the user said.
        device: the device that the user named.

    Raises:
        UnknownNameError: a device was named for an artifact whose target is a file of the user's, which was not given.
    """
    if given is not None:
        return load_target(given)
    if made_for is None:
        return None if device is None else load_target(HOST)
    if made_for in target_names():
        return load_target(made_for)
    if device is None:
        return None
    hint = "The artifact was made for it: give its file with --target."
    raise UnknownNameError("target", made_for, target_names(), id="unknown-name.target", hint=hint)


@dataclass(frozen=True)
class Exported:
    """An exported model, and what it is for.

    Attributes:
        format: ``onnx`` or ``tflite``.
        parts: its components.
        made_for: the target that its manifest names; None for a file of others.
        target: what it is for; None where nobody says, or where it is a file of the user's that was not given.
    """

    format: Format
    parts: tuple[Component, ...]
    made_for: str | None
    target: Target | None

    def reach(
        self, device: str, threads: int, progress: Progress, provider: Provider | None = None
    ) -> tuple[Place, ...]:
        """The devices that ``--device`` names, ready.

        Raises:
            UnknownNameError: there is no such way.
            UsageError: the address makes no sense.
            HostError: the device is no such target, or cannot be had.
        """
        assert self.target is not None  # `find_target` gives one where a device is named
        if device == NONE:
            ways = [way for way in WAYS if way != NONE]
            hint = "Leave out --device to measure on this machine: `none` is for compress."
            raise UnknownNameError("device", device, ways, id="unknown-name.device", hint=hint)
        reached = reach(self.target, runtime_for(self.target, self.format), device)
        check_reached(self.target, reached)
        places = places_of(self.target, self.format, reached.devices, threads, provider)
        make_ready(places, progress)
        return places

    def doubts_of_times(self, provider: Provider) -> tuple[str, ...]:
        """Why times taken here, computed by a provider of onnxruntime, are not the target's; nothing where they are."""
        target, found = self.target, self._elsewhere("measured", provider)
        if found or target is None:
            return found
        return (FASTER_HERE.format(target.name),) if self._sums_differ and target.int8.saturates else ()

    def doubts_of_answers(self) -> tuple[str, ...]:
        """Why answers of this machine's processor may not be the target's; nothing where they are."""
        found = self._elsewhere("answered", "cpu")
        if self.target is None or not self._sums_differ:
            return found
        name = self.target.name
        yes, no = (name, "this machine") if self.target.int8.saturates else ("this machine", name)
        return (*found, f"INT8 products are added in 16 bits that saturate on {yes}, not on {no}: answers may differ")

    def _elsewhere(self, done: str, provider: Provider) -> tuple[str, ...]:
        """What tells this machine, and what computes on it, from the target."""
        target = self.target
        if target is None:
            unknown = f"{done} on this machine; --target FILE tells whether it is the target {self.made_for}"
            return () if self.made_for is None else (unknown,)
        missing = target.missing_on(host(), runtime_for(target, self.format))
        if missing is not None:
            return (f"{done} on this machine, which is not the target {target.name}: {missing}",)
        if target.runtime.provider != provider:
            mine, theirs = (EXECUTION_PROVIDERS[name][0] for name in (provider, target.runtime.provider))
            return (f"{done} with {mine}, and the target {target.name} computes with {theirs}",)
        return ()

    @property
    def _sums_differ(self) -> bool:
        """Whether sums of INT8 products saturate on the target and not here, or the other way round."""
        if self.target is None or self.format != "onnx" or all(part.precision != "int8" for part in self.parts):
            return False
        return host().saturates != self.target.int8.saturates

    @property
    def record(self) -> dict[str, JsonValue]:
        """The target's name, as a record's subject holds it; nothing where there is none."""
        name = self.target.name if self.target else self.made_for
        return {"target": name} if name else {}
