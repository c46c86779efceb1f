"""Starting a program under emulation: what qemu and its guest are told, and what the guest's end means."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.confinement import surroundings
from edgekit.devices.base import failure
from edgekit.devices.emulation.kinds import PYTHON, Kind, kind_of
from edgekit.devices.emulation.profiles import CORES, Profile
from edgekit.errors import EdgekitError, HostError, ResourceLimitError

# Parts of a root: the emulator with its libraries and the plugin; the guest's system; its Python packages.
HOST, GUEST, SITE = "host", "guest", "site"
QEMU, LOADER, PLUGIN = "host/qemu", "host/lib/ld-linux-x86-64.so.2", "host/plugin.so"
# qemu would write the memory of a guest that dies into the current folder.
NO_CORES = ("/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh")


@dataclass(frozen=True)
class Call:
    """How a program is started.

    Attributes:
        command: program and arguments.
        environment: all of it.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


def make_prefix(folder: Path, root: Path, profile: Profile) -> None:
    """Make the folder in which qemu looks first for every absolute path of its guest.

    It holds links to what the root has, and the profile's own ``/proc/cpuinfo``: so two profiles share one root and
    never see each other's. What is not in it is this machine's.
    """
    guest = root / GUEST
    for entry in sorted(guest.iterdir()) if guest.is_dir() else ():
        (folder / entry.name).symlink_to(entry.resolve())
    processors = folder / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (processors / name).write_text(f"0-{CORES - 1}\n", encoding="ascii")
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(profile.cpuinfo, encoding="ascii")


def make_call(root: Path, prefix: Path, profile: Profile, python: str, arguments: Sequence[str]) -> Call:
    """The command that runs a Python program on a profile.

    Args:
        root: folder of the root.
        prefix: made by ``make_prefix``.
        profile: the processor.
        python: this machine's interpreter, for a kind that has no guest of its own.
        arguments: qemu's own ones, ``--``, and the interpreter's.
    """
    kind = kind_of(profile.kind)
    split = list(arguments).index("--")
    interpreter = str(root / GUEST / "usr" / "bin" / f"python{PYTHON}") if kind.debian else python
    command = (*emulator(root, prefix, profile), *arguments[:split], interpreter, "-P", *arguments[split + 1 :])
    return Call(command, guest_environment(root, kind))


def emulator(root: Path, prefix: Path, profile: Profile) -> tuple[str, ...]:
    """What runs a program of a profile's processor: more of qemu's options may follow, then the program.

    Args:
        root: folder of the root.
        prefix: made by ``make_prefix``.
        profile: the processor.
    """
    qemu = (str(root / LOADER), "--library-path", str(root / HOST / "lib"), str(root / QEMU))
    return (*NO_CORES, *qemu, "-cpu", profile.cpu, "-L", str(prefix))


def guest_environment(root: Path, kind: Kind) -> dict[str, str]:
    """What the guest's environment holds: nothing of this machine's where it has packages of its own, and no secret."""
    fixed = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    if not kind.debian:
        return surroundings(fixed)
    packages = [root / SITE, root / GUEST / "usr" / "lib" / "python3" / "dist-packages"]
    path = os.pathsep.join(str(folder) for folder in packages if folder.is_dir())
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": path, **fixed}


def run_guest(call: Call, seconds: float, label: str) -> str:
    """Run a program under emulation to its end; what it printed on standard output.

    Raises:
        ModelError: the runtime there refuses the model.
        HostError: it hung, died, or failed otherwise.
        ResourceLimitError: it was killed, which the system does when memory runs out.
    """
    try:
        done = subprocess.run(
            call.command,
            env=dict(call.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"the measuring process on {label} hung and was stopped",
            id="environment.measuring",
            why=f"no answer in {error.timeout:.0f} s; emulation takes 100 to 400 times as long",
        ) from error
    if done.returncode != 0:
        raise guest_failure(done.returncode, done.stderr, label)
    return done.stdout


def guest_failure(code: int, stderr: str, label: str) -> EdgekitError:
    """What the end of a guest means, as an error of the right kind."""
    if code >= 0:
        return failure(code, stderr, label)
    if -code == signal.SIGKILL:
        return ResourceLimitError(
            f"the process on {label} was killed",
            id="resource-limit.memory",
            why="the system does that when memory runs out",
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    reasons = {
        signal.SIGILL: "the runtime there used an instruction that this processor does not have",
        signal.SIGSEGV: "the runtime there, or the emulator, reached for memory that is not its own",
    }
    return HostError(
        f"the process on {label} died with {name}",
        id="environment.guest-died",
        why=reasons.get(signal.Signals(-code), "") if name.startswith("SIG") else "",
    )
