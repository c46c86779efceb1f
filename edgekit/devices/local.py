"""This machine as the device: a fresh process, so that nothing of edgekit's own is measured."""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.devices.base import RUNNER, SPEC, Device, finished
from edgekit.environment import host


class LocalDevice(Device):
    """This machine.

    Args:
        python: the interpreter that has the runtime; edgekit's own by default.
    """

    label = "this machine"

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python

    @property
    def fingerprint(self) -> str:
        return host().fingerprint

    def execute(self, folder: Path, seconds: float) -> str:
        command = [self._python, str(folder / RUNNER), str(folder / SPEC)]
        return finished(command, seconds, self.label)
