"""Over ssh to a real sshd on the loopback; what is faulty is made so."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Server, needs_sshd, sshd

from edgekit.devices.base import RUNNER, SPEC
from edgekit.devices.ssh import Address, SshDevice, read_address
from edgekit.errors import HostError, UsageError
from edgekit.progress import Silent

RUNNER_TEXT = "import json, os, sys; print(json.dumps([sorted(os.listdir('.')), open('0/a.bin').read(), sys.argv[1]]))"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with sshd(tmp_path / "ssh") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as it goes to a device."""
    made = tmp_path / "job"
    (made / "0").mkdir(parents=True)
    (made / "0" / "a.bin").write_text("content")
    (made / RUNNER).write_text(RUNNER_TEXT)
    (made / SPEC).write_text("{}")
    return made


@needs_sshd
def test_a_folder_goes_there_is_run_and_is_removed_again(folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with sshd(tmp_path / "ssh", f"SetEnv TMPDIR={there}") as server:
        device = server.device()
        device.prepare(Silent())
        assert device.label.endswith(", over ssh")
        assert "loopback" not in device.label
        found = json.loads(device.execute(folder, 600))
    assert found == [["0", RUNNER, SPEC], "content", SPEC]
    assert list(there.glob("edgekit-*")) == []


@needs_sshd
def test_a_machine_of_another_architecture_is_no_device_of_the_target(server: Server) -> None:
    device = SshDevice(server.device()._address, "onnxruntime", "onnxruntime", "riscv64")
    with pytest.raises(HostError, match="loopback is no device of the target") as raised:
        device.prepare(Silent())
    assert raised.value.why == f"the target is riscv64 and the machine there is {platform.machine()}"


@needs_sshd
def test_what_a_shell_prints_at_its_start_is_not_the_answer(server: Server) -> None:
    python = server.folder / "python"
    python.write_text(f'#!/bin/sh\necho welcome\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    device = server.device(python=str(python))
    before = device.fingerprint
    device.prepare(Silent())
    assert device.fingerprint != before
    python.write_text("#!/bin/sh\necho welcome\n")
    with pytest.raises(HostError, match="loopback gave no answer that can be read") as raised:
        server.device(python=str(python)).prepare(Silent())
    assert raised.value.why == "it printed 'welcome'"


@needs_sshd
def test_a_wrong_host_key_is_refused(server: Server) -> None:
    key = " ".join((server.folder / "other.pub").read_text().split()[:2])
    (server.folder / "known").write_text(f"[127.0.0.1]:{server.port} {key}\n")
    with pytest.raises(HostError, match="loopback cannot be used over ssh") as raised:
        server.device().prepare(Silent())
    assert raised.value.id == "environment.host-key"
    assert "accept it once: ssh loopback" in str(raised.value)


@needs_sshd
def test_an_unknown_host_key_is_refused(server: Server) -> None:
    (server.folder / "known").write_text("")
    with pytest.raises(HostError) as raised:
        server.device().prepare(Silent())
    assert raised.value.id == "environment.host-key"


@needs_sshd
def test_a_key_that_opens_nothing(server: Server) -> None:
    (server.folder / "authorized").write_text((server.folder / "other.pub").read_text())
    with pytest.raises(HostError) as raised:
        server.device().prepare(Silent())
    assert raised.value.id == "environment.device-refuses"
    assert "ssh-copy-id loopback" in str(raised.value)


@needs_sshd
def test_nobody_listens(server: Server) -> None:
    server.process.terminate()
    server.process.wait(60)
    with pytest.raises(HostError, match="Connection refused") as raised:
        server.device().prepare(Silent())
    assert raised.value.id == "environment.device-unreachable"


@needs_sshd
def test_the_connection_drops_while_the_model_runs(server: Server, folder: Path) -> None:
    (folder / RUNNER).write_text("import os, signal; os.kill(os.getppid(), 0)\n" + KILL_SESSION)
    with pytest.raises(HostError, match="the connection to loopback was lost") as raised:
        server.device().execute(folder, 600)
    assert raised.value.id == "environment.device-lost"
    assert "taken from the cache" in str(raised.value)


# Kills the sshd that serves this connection: the first ancestor of that name.
KILL_SESSION = """
pid = os.getppid()
while pid > 1:
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status") if ":" in line)
    if status["Name"].strip().startswith("sshd"):
        os.kill(pid, signal.SIGKILL)
        break
    pid = int(status["PPid"])
import time; time.sleep(5)
"""


@needs_sshd
def test_a_device_without_the_runtime(server: Server, tmp_path: Path) -> None:
    device = SshDevice(Address("loopback", None, sys.executable, str(server.folder / "client")), "no_such", "no-such")
    with pytest.raises(HostError, match="loopback lacks what runs the model") as raised:
        device.prepare(Silent())
    assert raised.value.id == "environment.device-lacks"
    assert "pip install no-such numpy" in str(raised.value)
    with pytest.raises(HostError, match="loopback lacks what runs the model"):
        server.device(python=str(tmp_path / "no-python")).prepare(Silent())


@needs_sshd
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="a small disk needs root to be mounted")
def test_a_full_disk(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        with (
            sshd(tmp_path / "ssh", f"SetEnv TMPDIR={small}") as server,
            pytest.raises(HostError, match="there is not enough room on loopback") as raised,
        ):
            server.device(python=sys.executable).execute(folder, 600)
        assert raised.value.id == "environment.device-full"
        assert "1 MB free" in str(raised.value)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)  # a process there may have yet to end


def test_addresses() -> None:
    assert read_address("//pi@board:2222?python=/opt/python") == Address("pi@board", 2222, "/opt/python")
    assert read_address("//board") == Address("board", None, "python3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it names no host"),
        ("//", "it names no host"),
        ("//board/home/pi", "it names the path '/home/pi'"),
        ("//board?pyton=x", "it names 'pyton'; allowed are python and config"),
        ("//board:99999", "Port out of range"),
        ("//-oProxyCommand=x", "a host does not begin with a hyphen"),
    ],
)
def test_addresses_that_make_no_sense(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="names no device") as raised:
        read_address(text)
    assert why in str(raised.value)
    assert raised.value.id == "usage.bad-device"
