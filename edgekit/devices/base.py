"""A device: somewhere that the device runner can run.

Whatever is measured, on whatever device, happens the same way: a folder with the runner (``runner.py``), what it is
to do (``spec.json``) and the files that ``spec.json`` names goes there, ``python runner.py spec.json`` runs in it, and
one JSON document comes back on its standard output. A way to reach a device is one module with one class.
"""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import HostError, ModelError
from edgekit.progress import Progress

RUNNER, SPEC = "runner.py", "spec.json"
# How the last line of a runner begins whose TFLite runtime does not take the model: its exception's name.
REFUSED = "Refused: "


class Device(ABC):
    """Somewhere that the device runner can run.

    Attributes:
        label: as reports name it, without an address: ``this machine``, ``cortex-a76, emulated``.
        timed: whether its clock means something: an emulator's does not, and its instructions are counted instead.
        starts_processes: whether the runner there can start further processes of its own.
        no_answers_because: why what a graph answers there cannot be had; empty where it can.
    """

    label: str
    timed: bool = True
    starts_processes: bool = True
    no_answers_because: str = ""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names the machine and its state for cache keys: another one may measure something else."""

    def prepare(self, progress: Progress) -> None:  # noqa: B027  # most devices have nothing to prepare
        """Make what the device needs here, and see that it answers.

        Raises:
            HostError: it cannot be had, or does not answer; what to do about it.
        """

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


def finished(command: Sequence[str], seconds: float, label: str) -> str:
    """Run a command to its end; what it printed on standard output.

    Args:
        command: the program and its arguments.
        seconds: it is stopped after so long.
        label: the device, as errors name it.

    Raises:
        ModelError: the runner there says that the runtime refuses the model.
        HostError: it hung, or failed otherwise.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise HostError(
            f"there is no program {command[0]!r} here",
            id="environment.no-tool",
            hint="Install it, or give its whole path.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise hung(error.timeout, label) from error
    if done.returncode != 0:
        raise failure(done.returncode, done.stderr, label)
    return done.stdout


def hung(seconds: float, label: str) -> HostError:
    """The error of a runner that gave no answer."""
    return HostError(
        f"the measuring process on {label} hung and was stopped",
        id="environment.measuring",
        why=f"no answer in {seconds:.0f} s",
    )


def failure(code: int, stderr: str, label: str) -> ModelError | HostError:
    """What a runner that ended with an error says, as an error of the right kind."""
    last = (stderr.strip().splitlines() or [f"it ended with code {code}"])[-1]
    if last.startswith("onnxruntime."):
        return ModelError(f"onnxruntime on {label} does not run the model", id="model.does-not-load", why=last)
    if last.startswith(REFUSED):
        why = last.removeprefix(REFUSED)
        return ModelError(f"the runtime on {label} does not run the model", id="model.does-not-load", why=why)
    return HostError(f"the measuring process on {label} failed", id="environment.measuring", why=last)
