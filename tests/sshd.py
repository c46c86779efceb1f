"""A real sshd on the loopback, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.devices.ssh import Address, SshDevice

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="no sshd and ssh here (Debian: apt-get install openssh-server)"
)


@dataclass
class Server:
    """An sshd of our own.

    Attributes:
        folder: keys, configuration of server and client, known hosts.
        port: where it listens.
        process: the daemon.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """As ``--device`` takes it."""
        return f"ssh://loopback?python={sys.executable}&config={self.folder / 'client'}"

    def device(self, **changes: object) -> SshDevice:
        known = {"host": "loopback", "python": sys.executable, "config": str(self.folder / "client")} | changes
        return SshDevice(Address(**known), "onnxruntime", "onnxruntime")  # type: ignore[arg-type]


@contextlib.contextmanager
def sshd(folder: Path, *options: str) -> Iterator[Server]:
    """An sshd that runs until the end of the block, with all its files in a new folder.

    Args:
        folder: for its files.
        *options: further lines of its configuration.
    """
    with _held_port() as port:
        yield from _running(folder, port, options)


def _running(folder: Path, port: int, options: Sequence[str]) -> Iterator[Server]:
    """The server while it runs, at a port."""
    folder.mkdir(mode=0o700)
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "server").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        + "".join(f"{option}\n" for option in options)
    )
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "client").write_text(
        f"Host loopback\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n GlobalKnownHostsFile /dev/null\n"
        " StrictHostKeyChecking yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "server")], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield Server(folder, port, process)
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def _held_port() -> Iterator[int]:
    """A port that the system gives nobody else: bound, not listened at, so that sshd may listen there (socket(7))."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it listens."""
    for _ in range(1200):
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: it ended with code {process.returncode}")
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("sshd does not listen")
