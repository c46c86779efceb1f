"""A device over ssh: the files go there in one stream, the runner runs, the folder is removed again.

The client is OpenSSH's own, with the user's configuration, keys and known hosts: nothing is asked, so that a host whose
key is not known, or another than before, is refused.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter

from edgekit.bounds import check_texts
from edgekit.devices.base import RUNNER, SPEC, Device, failure
from edgekit.environment import OTHER_BUILDS
from edgekit.errors import HostError, ModelError, UsageError
from edgekit.progress import Progress

EXAMPLE = "ssh://pi@raspberrypi.local:22?python=/home/pi/venv/bin/python"
CONNECT_SECONDS, ALIVE_SECONDS, ALIVE_COUNT = 10, 5, 3
CHECK_SECONDS = 90.0
# Room beside the files themselves: what the runner and its runtime write.
SPARE_BYTES = 16 * 1024 * 1024
LOST, NOT_FOUND, NO_ROOM = 255, 127, 28  # ssh's own code, the shell's, and ours (ENOSPC)

# What the device has, as JSON. It must run on any Python 3.
FACTS = """
import json, platform, sys
import {package}
import numpy
from importlib.metadata import distributions
name = ""
try:
    lines = open("/proc/cpuinfo", encoding="utf-8", errors="replace").read().splitlines()
    for line in lines:
        if line.split(":")[0].strip() in ("model name", "Model"):
            name = line.split(":", 1)[1].strip()
except OSError:
    pass
version = next((d.version for d in distributions() if d.metadata["Name"] in {distributions}), "unknown")
print(json.dumps({{"machine": platform.machine(), "processor": name, "version": version}}))
"""


@dataclass(frozen=True)
class Address:
    """What ``ssh://user@host:port?python=...&config=...`` says.

    Attributes:
        host: ``user@host`` or ``host``; a name from the user's ssh configuration is one too.
        port: None for the configuration's.
        python: the interpreter there that has the runtime.
        config: a file in place of the user's own configuration.
    """

    host: str
    port: int | None = None
    python: str = "python3"
    config: str | None = None


def read_address(text: str) -> Address:
    """Read what follows ``ssh:``.

    Raises:
        UsageError: no host, or something that is not known.
    """
    parts = urlsplit(f"ssh:{text}")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = sorted(options.keys() - {"python", "config"})
    try:
        port = parts.port
    except ValueError as error:
        raise _unusable(text, str(error)) from error
    if unknown:
        raise _unusable(text, f"it names {unknown[0]!r}; allowed are python and config")
    if not parts.hostname or parts.path not in ("", "/"):
        raise _unusable(text, "it names no host" if not parts.hostname else f"it names the path {parts.path!r}")
    user = f"{unquote(parts.username)}@" if parts.username else ""
    if f"{user}{parts.hostname}".startswith("-"):
        raise _unusable(text, "a host does not begin with a hyphen")
    return Address(f"{user}{parts.hostname}", port, options.get("python", "python3"), options.get("config"))


class SshDevice(Device):
    """A machine that ssh reaches.

    Args:
        address: where, and which Python.
        package: the module of the runtime that must be importable there.
        distribution: the name under which it is installed.
        architecture: what the machine there must be; None for any.
    """

    def __init__(self, address: Address, package: str, distribution: str, architecture: str | None = None) -> None:
        self._address = address
        self._architecture = architecture
        self._package, self._distribution = package, distribution
        self._facts: dict[str, str] = {}

    @property
    def label(self) -> str:  # type: ignore[override]  # it is known once the device has answered
        """The processor there, where it said."""
        return f"{self._facts.get('processor') or self._facts.get('machine') or 'a device'}, over ssh"

    @property
    def fingerprint(self) -> str:
        """The address, and once the device has answered what it is: another runtime there is another device."""
        facts = " ".join(f"{name} {value}" for name, value in sorted(self._facts.items()))
        address = self._address
        return f"ssh {address.host} {address.port} {address.python} {address.config} {facts}"

    def prepare(self, progress: Progress) -> None:
        progress.start("connect over ssh", None)
        names = {self._distribution, OTHER_BUILDS.get(self._distribution, self._distribution)}
        facts = FACTS.format(package=self._package, distributions=sorted(names))
        code, out, err = self._ssh(f"{shlex.quote(self._address.python)} -", facts.encode(), CHECK_SECONDS)
        if code:
            raise self._failure(code, err)
        self._facts = self._read_facts(out)
        machine = self._facts["machine"]
        if self._architecture not in (None, machine):
            raise HostError(
                f"{self._address.host} is no device of the target",
                id="environment.cannot-measure",
                why=f"the target is {self._architecture} and the machine there is {machine}",
                hint="Give the target that it is, or another --device.",
            )
        progress.finish(f"{self._facts['machine']}, {self._distribution} {self._facts['version']}")

    def _read_facts(self, out: str) -> dict[str, str]:
        """The last line that was printed; what a shell prints at its start is before it."""
        try:
            facts = TypeAdapter(dict[str, str]).validate_json((out.strip().splitlines() or [""])[-1])
            check_texts(facts)
            if not facts.keys() >= {"machine", "version"}:
                raise ValueError("it does not say what it is")
        except ValueError as error:
            raise HostError(
                f"{self._address.host} gave no answer that can be read",
                id="environment.device-unreachable",
                why=f"it printed {out.strip()[-200:]!r}",
                hint=f"Let the shell there print nothing by itself: ssh {self._address.host} true",
            ) from error
        return facts

    def execute(self, folder: Path, seconds: float) -> str:
        stream = _tar(folder)
        code, out, err = self._ssh(self._script(len(stream)), stream, seconds)
        if code:
            raise self._failure(code, err)
        return out

    def _script(self, size: int) -> str:
        """What the shell there does: make room, unpack, run, remove."""
        needed = (size + SPARE_BYTES) // 1024
        python = shlex.quote(self._address.python)
        return (
            'folder=$(mktemp -d "${TMPDIR:-/tmp}/edgekit-XXXXXX") || exit 74; trap \'rm -rf "$folder"\' EXIT; '
            "free=$(df -Pk \"$folder\" | awk 'NR == 2 { print $4 }'); "
            f'if [ "$free" -lt {needed} ]; then echo "$free" >&2; exit {NO_ROOM}; fi; '
            f'tar -xf - -C "$folder" || exit 74; cd "$folder" && {python} {RUNNER} {SPEC}'
        )

    def _ssh(self, script: str, sent: bytes, seconds: float) -> tuple[int, str, str]:
        address = self._address
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": CONNECT_SECONDS,
            "ServerAliveInterval": ALIVE_SECONDS,
            "ServerAliveCountMax": ALIVE_COUNT,
        }
        command = ["ssh", "-T", *(["-F", address.config] if address.config else [])]
        command += [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        command += [*(["-p", str(address.port)] if address.port else []), "--", address.host, script]
        try:
            done = subprocess.run(command, input=sent, capture_output=True, timeout=seconds, check=False)
        except FileNotFoundError as error:
            raise HostError(
                "there is no ssh here",
                id="environment.no-tool",
                hint="Install OpenSSH's client (Debian: apt-get install openssh-client).",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise HostError(
                f"{self.label}: no answer in {error.timeout:.0f} s",
                id="environment.device-lost",
                hint="See whether the device is busy with something else.",
            ) from error
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def _failure(self, code: int, stderr: str) -> HostError | ModelError:
        """What went wrong, by ssh's own words and the code of the shell there."""
        said = [line for line in stderr.strip().splitlines() if line.strip()]
        last = said[-1] if said else f"it ended with code {code}"
        host = self._address.host
        if code == LOST:
            return _not_connected(host, stderr, last)
        if code == NO_ROOM or "No space left" in stderr:
            free = f"{int(last) / 1024:.0f} MB free" if last.isdigit() else last
            return HostError(
                f"there is not enough room on {host} for the files",
                id="environment.device-full",
                why=free,
                hint="Free some, or set TMPDIR there to a folder on a larger disk.",
            )
        if code == NOT_FOUND or "ModuleNotFoundError" in stderr:
            return HostError(
                f"{host} lacks what runs the model",
                id="environment.device-lacks",
                why=last,
                hint=f"Install it there (pip install {self._distribution} numpy), or name the interpreter that has it:"
                f" --device '{EXAMPLE}'",
            )
        return failure(code, stderr, self.label)


def _not_connected(host: str, stderr: str, last: str) -> HostError:
    """What ssh itself says when it does not get there, or not back."""
    what = f"{host} cannot be used over ssh"
    if re.search("REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|host key is known", stderr):
        return HostError(
            what,
            id="environment.host-key",
            why=last,
            hint="Its key is unknown, or another than before. Compare it on the device, then accept it once:"
            f" ssh {host}",
        )
    if "Permission denied" in stderr:
        return HostError(
            what,
            id="environment.device-refuses",
            why=last,
            hint=f"Copy your key there with ssh-copy-id {host}, or start an ssh agent.",
        )
    if re.search("Could not resolve|refused|No route to host|timed out|unreachable|Bad configuration|config", last):
        return HostError(
            what,
            id="environment.device-unreachable",
            why=last,
            hint=f"Check the name, the port and that the device is on: ssh {host}",
        )
    return HostError(
        f"the connection to {host} was lost",
        id="environment.device-lost",
        why=last,
        hint="Run the same command again: what is finished is taken from the cache.",
    )


def _tar(folder: Path) -> bytes:
    """A folder as a tar archive that says nothing of who made it or when."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
        for path in sorted(folder.rglob("*")):
            entry = archive.gettarinfo(path, path.relative_to(folder).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = 0
            if entry.isfile():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    return stream.getvalue()


def _unusable(text: str, why: str) -> UsageError:
    return UsageError(
        f"--device ssh:{text} names no device",
        id="usage.bad-device",
        why=why,
        hint=f"For example: --device '{EXAMPLE}'",
    )
