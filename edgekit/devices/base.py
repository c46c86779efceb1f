"""A device: somewhere that the device runner can run.

Whatever is measured, on whatever device, happens the same way: a folder with the runner (``runner.py``), what it is to do
(``spec.json``) and the files that ``spec.json`` names goes there, ``python runner.py spec.json`` runs in it, and one JSON
document comes back on its standard output. A way to reach a device is one module with one class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

RUNNER, SPEC = "runner.py", "spec.json"


class Device(ABC):
    """Somewhere that the device runner can run.

    Attributes:
        label: as reports name it, without an address: ``this machine``, ``cortex-a76, emulated``.
        timed: whether its clock means something: an emulator's does not.
    """

    label: str
    timed: bool = True

    @abstractmethod
    def execute(self, folder: Path, seconds: float) -> str:
        """Run ``python runner.py spec.json`` in a copy of a folder there; what it printed on standard output.

        Args:
            folder: holds the runner, ``spec.json`` and every file that it names, by relative paths.
            seconds: it is stopped after so long.

        Raises:
            ModelError: the runtime there refuses the model; the reason is its own.
            HostError: the device cannot be reached or the runner failed; what to do about it.
        """
