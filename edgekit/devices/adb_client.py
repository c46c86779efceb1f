"""adb's own client: which device is meant, commands in its shell, and a folder there that does not outlive its use."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edgekit.errors import HostError
from edgekit.source import sha256_file

# Where the user of adb's shell may write and run programs.
ROOT = "/data/local/tmp"
# Room beside the files themselves: what a tool and its runtime write.
SPARE_BYTES = 16 * 1024 * 1024
REMOVE_SECONDS = 30.0
# The line that ends each command: adb's own code does not tell a command that ended from a connection that did.
END = re.compile(r"^edgekit-end ([0-9]+)\r?$", re.MULTILINE)
AVAILABLE = re.compile(r"\s[0-9]+\s+[0-9]+\s+([0-9]+)\s+[0-9]+%\s")
LISTED = re.compile(r"^(\S+)\s+(no permissions|\S+)(.*)$")
READY = "device"


@dataclass(frozen=True)
class Client:
    """adb for one device.

    Attributes:
        serial: as ``adb devices`` lists it.
    """

    serial: str

    def shell(self, script: str, seconds: float) -> tuple[int, str]:
        """Run a script in the device's shell; its code and what it printed.

        Raises:
            HostError: the connection was lost, or nothing came back in time.
        """
        code, out, err = run_adb(
            ["-s", self.serial, "shell", f"( {script} ); code=$?; echo; echo edgekit-end $code"], seconds
        )
        ends = list(END.finditer(out))
        if not ends:
            raise lost(self.serial, err.strip() or out.strip() or f"adb ended with code {code}")
        return int(ends[-1][1]), out[: ends[-1].start()].removesuffix("\n").replace("\r\n", "\n")

    def push(self, files: Sequence[Path], target: str, seconds: float) -> None:
        """Copy files and folders into a folder there.

        Raises:
            HostError: the device is full or does not let them in, or the connection was lost.
        """
        command = ["-s", self.serial, "push", *(str(file) for file in files), f"{target}/"]
        code, out, err = run_adb(command, seconds)
        if not code:
            return
        lines = [line.strip() for line in (out + err).splitlines() if line.strip()]
        said = next((line for line in lines if re.search("error|failed", line)), f"adb ended with code {code}")
        if "No space left" in said:
            raise full(self.serial, said)
        if "remote" not in said:
            raise lost(self.serial, said)
        raise HostError(
            f"the files cannot be pushed to {self.serial}",
            id="environment.device-lacks",
            why=said,
            hint=f"adb's shell has to be allowed to write in {ROOT}.",
        )

    def remove(self, folder: str) -> bool:
        """Remove a folder there; whether it is gone."""
        try:
            code, _ = self.shell(f"rm -rf {folder}", REMOVE_SECONDS)
        except HostError:
            return False
        return code == 0


class Room:
    """A folder of our own on a device, which is removed at the end of the block.

    Args:
        client: of the device.

    Raises:
        HostError: it cannot be made, or is still there after the block.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.folder = f"{ROOT}/edgekit-{secrets.token_hex(6)}"

    def __enter__(self) -> Room:
        code, said = self._client.shell(f"mkdir {self.folder}", REMOVE_SECONDS)
        if code:
            raise (
                full(self._client.serial, said.strip())
                if "No space left" in said
                else HostError(
                    f"no folder can be made on {self._client.serial}",
                    id="environment.device-lacks",
                    why=said.strip(),
                    hint=f"adb's shell has to be allowed to write in {ROOT}.",
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gone = self._client.remove(self.folder)
        if gone or not (error is None or isinstance(error, HostError)):
            return
        serial, said = self._client.serial, "it could not be removed"
        if isinstance(error, HostError):
            said = f"{error.what}: {error.why}" if error.why else error.what
        raise HostError(
            f"the connection to {serial} was lost before the folder there was removed",
            id="environment.device-lost",
            why=said,
            hint="Run the same command again: what is finished is taken from the cache. What was sent may still be"
            f" there: adb -s {serial} shell rm -rf {self.folder}",
        ) from error

    def send(self, staged: Path, seconds: float) -> None:
        """Push what a folder holds, and see that it arrived as it is.

        Raises:
            HostError: it does not fit, the connection was lost, or a file is another than the one that was sent.
        """
        files = sorted(path for path in staged.rglob("*") if path.is_file())
        needed = sum(file.stat().st_size for file in files) + SPARE_BYTES
        _, said = self._client.shell(f"df -k {self.folder}", REMOVE_SECONDS)
        free = AVAILABLE.search(f"{said} ")  # systems before Android 6 print it otherwise: then the push tells
        if free and int(free[1]) * 1024 < needed:
            raise full(self._client.serial, f"{int(free[1]) / 1024:.0f} MB free, {needed / 1024**2:.0f} MB needed")
        self._client.push(sorted(staged.iterdir()), self.folder, seconds)
        _, said = self.shell("find . -type f -exec sha256sum {} +", seconds)
        sums = {name.strip(): digest for digest, _, name in (line.partition(" ") for line in said.splitlines())}
        for file in files:
            name = file.relative_to(staged).as_posix()
            if sums.get(f"./{name}") != sha256_file(file):
                raise HostError(
                    f"{name} was changed on its way to {self._client.serial}",
                    id="environment.measuring",
                    why=f"sha256 there: {sums.get(f'./{name}') or said.strip()[:200] or 'none'}",
                    hint="Try another cable or port; the device needs sha256sum (Android 8 or later).",
                )

    def shell(self, script: str, seconds: float) -> tuple[int, str]:
        """Run a script in the folder; its code and what it printed."""
        return self._client.shell(f"cd {self.folder} && {{ {script}; }}", seconds)


def find_device(serial: str, seconds: float) -> Client:
    """The device of a serial; without one, of $ANDROID_SERIAL, or the only one that there is.

    Raises:
        HostError: there is no adb, no such device or more than one, or it is not ready.
    """
    code, out, err = run_adb(["devices"], seconds)
    if code:
        raise HostError(
            "adb does not tell which devices there are",
            id="environment.device-unreachable",
            why=(err.strip() or out.strip() or f"it ended with code {code}").splitlines()[-1],
            hint="See what `adb devices` says.",
        )
    rows = out.partition("List of devices attached")[2].splitlines()
    states = {row[1]: row[2] for row in map(LISTED.match, rows) if row is not None}
    serial = serial or os.environ.get("ANDROID_SERIAL", "")
    if not states or (serial and serial not in states):
        raise HostError(
            f"there is no device {serial!r}" if serial else "there is no Android device",
            id="environment.device-unreachable",
            why=f"adb sees: {', '.join(sorted(states)) or 'none'}",
            hint="Connect it and allow USB debugging in its developer options; `adb devices` has to list it.",
        )
    if not serial and len(states) > 1:
        raise HostError(
            f"there are {len(states)} Android devices",
            id="environment.several-devices",
            why=f"adb sees: {', '.join(sorted(states))}",
            hint="Name one: --device 'adb:SERIAL?tool=...'.",
        )
    serial = serial or next(iter(states))
    if states[serial] != READY:
        raise _not_ready(serial, states[serial])
    return Client(serial)


def _not_ready(serial: str, state: str) -> HostError:
    if state in ("unauthorized", "authorizing"):
        return HostError(
            f"{serial} has not allowed this computer",
            id="environment.device-refuses",
            why=f"adb says: {state}",
            hint="Unlock it and accept the key that it asks about.",
        )
    if state == "no permissions":
        return HostError(
            f"this user may not use {serial}",
            id="environment.device-refuses",
            why=f"adb says: {state}",
            hint="Install the udev rules for Android devices (Debian: android-sdk-platform-tools-common).",
        )
    return HostError(
        f"{serial} cannot be used now",
        id="environment.device-unreachable",
        why=f"adb says: {state}",
        hint="Unplug it and connect it again; `adb reconnect` helps with one that stays offline.",
    )


def run_adb(words: Sequence[str], seconds: float) -> tuple[int, str, str]:
    """Run adb to its end; its code, and what it printed on both streams.

    Raises:
        HostError: it is not installed, or nothing came back in time.
    """
    try:
        done = subprocess.run(
            ["adb", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=max(seconds, 0.1), check=False
        )
    except FileNotFoundError as error:
        raise HostError(
            "there is no adb here",
            id="environment.no-tool",
            hint="Install Android's platform tools (Debian: apt-get install adb).",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"adb: no answer in {error.timeout:.0f} s",
            id="environment.device-lost",
            hint="See whether the device is busy with something else.",
        ) from error
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def lost(serial: str, why: str) -> HostError:
    """The connection ended before what was asked for did."""
    return HostError(
        f"the connection to {serial} was lost",
        id="environment.device-lost",
        why=why.splitlines()[-1],
        hint="Run the same command again: what is finished is taken from the cache.",
    )


def full(serial: str, why: str) -> HostError:
    """The files do not fit."""
    return HostError(
        f"there is not enough room on {serial} for the files",
        id="environment.device-full",
        why=why,
        hint=f"Free some; they go to {ROOT}.",
    )
