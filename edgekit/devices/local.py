"""This machine as the device: a fresh process with limits, so that nothing of edgekit's own is measured or harmed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from edgekit.confinement import death, limits_for, run
from edgekit.devices.base import RUNNER, SPEC, Device, failure, hung
from edgekit.devices.runner import ENDED_BY
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
        limits = replace(limits_for(0), seconds=seconds)
        try:
            done = run(command, limits)
        except subprocess.TimeoutExpired as error:
            raise hung(error.timeout, self.label) from error
        code = ENDED_BY - done.returncode if done.returncode > ENDED_BY else done.returncode  # of a process of its own
        died = death("the model that is measured", code, done.stderr, limits)
        if died is not None:
            raise died
        if done.returncode != 0:
            raise failure(done.returncode, done.stderr, self.label)
        return done.stdout
