"""A device that a command of the user's reaches: a container, a job queue, a board's own tool."""

from __future__ import annotations

import hashlib
import shlex
import string
from pathlib import Path

from edgekit.devices.base import RUNNER, SPEC, Device, finished
from edgekit.errors import UsageError

EXAMPLE = "command:docker run --rm -v {folder}:/job:ro IMAGE python3 /job/runner.py /job/spec.json"
FIELDS = ("folder", "runner", "spec")


class CommandDevice(Device):
    """What a command reaches. It is run without a shell.

    Args:
        template: the command; ``{folder}`` stands for the folder with everything in it, ``{runner}`` and ``{spec}`` for
            the paths of the runner and of the specification in it.

    Raises:
        UsageError: the template is empty, cannot be split, or names another field.
    """

    label = "a device behind a command"

    def __init__(self, template: str) -> None:
        try:
            self._words = shlex.split(template)
            fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        except ValueError as error:
            raise _unusable(template, str(error)) from error
        unknown = sorted(fields - set(FIELDS))
        if not self._words or unknown or not fields:
            named = f"it names {{{unknown[0]}}}" if unknown else "it names no file" if self._words else "it is empty"
            raise _unusable(template, named)
        self._template = template

    @property
    def fingerprint(self) -> str:
        return f"command {hashlib.sha256(self._template.encode()).hexdigest()}"

    def execute(self, folder: Path, seconds: float) -> str:
        paths = {"folder": str(folder), "runner": str(folder / RUNNER), "spec": str(folder / SPEC)}
        return finished([word.format(**paths) for word in self._words], seconds, self.label)


def _unusable(template: str, why: str) -> UsageError:
    return UsageError(
        f"--device command:{template} cannot be run",
        id="usage.bad-device",
        why=f"{why}; allowed are {', '.join(f'{{{name}}}' for name in FIELDS)}, at least one of them",
        hint=f"For example: --device '{EXAMPLE}'",
    )
