"""A processor that is not here, emulated: answers as it would give them, and its instructions counted; no times."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from edgekit.cache import Cache, cache_key, temporary
from edgekit.devices.base import RUNNER, SPEC, Device
from edgekit.devices.emulation.guest import PLUGIN, make_call, make_prefix, run_guest
from edgekit.devices.emulation.kinds import kind_of
from edgekit.devices.emulation.plugin import Region, middle, plugin_arguments, read_regions
from edgekit.devices.emulation.profiles import profile_of
from edgekit.devices.emulation.root import Root, build_root, find_root
from edgekit.errors import HostError
from edgekit.progress import Progress

COUNTED = "instructions"


class EmulatedDevice(Device):
    """One processor under emulation.

    Args:
        profile: its name, see ``emulation/profiles.py``.
        cache: where its root lies; the usual one by default.
        python: this machine's interpreter, for a processor of this machine's kind; edgekit's own by default.
    """

    timed = False

    def __init__(self, profile: str, cache: Cache | None = None, python: str = sys.executable) -> None:
        self.profile = profile_of(profile)
        self.label = self.profile.label
        self._cache = cache or Cache()
        self._python = python

    @property
    def fingerprint(self) -> str:
        return cache_key(kind_of(self.profile.kind).digest, dataclasses.asdict(self.profile))

    def prepare(self, progress: Progress) -> None:
        build_root(self.profile.kind, self._cache, progress)

    def execute(self, folder: Path, seconds: float) -> str:
        """See ``Device``; the folder itself is used, and nothing but the runner writes in it.

        Where instructions are asked for, the runner's answer gains ``instructions``, for each subject a list of one
        number a marked region, and ``kernels``, for each subject how often each telling instruction was executed in
        the region in the middle.
        """
        root = find_root(self.profile.kind, self._cache)
        if root is None:
            raise HostError(
                f"the emulator for {self.profile.name} is not set up",
                id="environment.not-set-up",
                hint=f"Run `edgekit targets setup {self.profile.kind}`.",
            )
        place = folder.resolve()
        counted = json.loads((place / SPEC).read_text(encoding="utf-8"))["what"] == COUNTED
        with temporary() as scratch:
            log = scratch / "log"
            printed = self._run(root, place, scratch, log if counted else None, seconds)
            if not counted:
                return printed
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        try:
            answer = json.loads(printed)
        except ValueError:
            return printed  # whoever reads the answer says what is wrong with it
        return json.dumps(merge(answer, read_regions(text), self.label))

    def _run(self, root: Root, place: Path, scratch: Path, log: Path | None, seconds: float) -> str:
        prefix = scratch / "prefix"
        prefix.mkdir()
        make_prefix(prefix, root.path, self.profile)
        kind = kind_of(self.profile.kind)
        counting = plugin_arguments(root.path / PLUGIN, log, kind) if log is not None else []
        arguments = [*counting, "--", str(place / RUNNER), str(place / SPEC)]
        return run_guest(make_call(root.path, prefix, self.profile, self._python, arguments), seconds, self.label)


def merge(answer: dict[str, Any], regions: list[Region], label: str) -> dict[str, Any]:
    """The runner's answer with what the plugin counted.

    Args:
        answer: has ``regions``, the subject of each marked region.
        regions: what was counted in each.
        label: the device, as errors name it.

    Raises:
        HostError: the two do not have the same number.
    """
    names = answer["regions"]
    if len(names) != len(regions):
        raise HostError(
            f"the instructions on {label} could not be counted",
            id="environment.measuring",
            why=f"{len(names)} regions were run, and {len(regions)} were seen",
        )
    counted: dict[str, list[Region]] = {}
    for name, region in zip(names, regions, strict=True):
        counted.setdefault(name, []).append(region)
    return answer | {
        "instructions": {name: [region.instructions for region in found] for name, found in counted.items()},
        "kernels": {name: middle(found).kernels for name, found in counted.items()},
    }
