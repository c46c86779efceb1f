"""A stand-in for adb's server with devices, which the real client talks to; what is faulty is made so.

It speaks as much of the host and the sync protocol (AOSP, packages/modules/adb: SERVICES.TXT, SYNC.TXT) as ``adb
devices``, ``push`` and ``shell`` need. A device is a folder here: what is pushed to /data/local/tmp lies in it, and its
shell is this machine's, with that path for Android's and ``getprop`` beside it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ADB = shutil.which("adb")
needs_adb = pytest.mark.skipif(ADB is None, reason="no adb here (Debian: apt-get install adb)")
ANDROID_ROOT = "/data/local/tmp"
PROPERTIES = {
    "ro.product.model": "Toy 7",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
    "ro.build.version.release": "14",
    "ro.build.fingerprint": "toy/7/14:user/release-keys",
}
STDOUT, EXIT = 1, 3  # of the shell protocol


@dataclass
class Phone:
    """A device.

    Attributes:
        root: what is at /data/local/tmp.
        state: as ``adb devices`` prints it.
        properties: what ``getprop`` tells.
        free_kb: what ``df`` tells; None for the truth.
        push_fails: what a push ends in.
        damaged: part of the name of a file that changes on its way.
        drops: a part of a shell command on which the connection ends, and whether the device is gone then.
        ran: shell commands, in order.
    """

    root: Path
    state: str = "device"
    properties: dict[str, str] = field(default_factory=lambda: dict(PROPERTIES))
    free_kb: int | None = None
    push_fails: str = ""
    damaged: str = ""
    drops: str = ""
    ran: list[str] = field(default_factory=list)
    gone: bool = False

    def left(self) -> list[str]:
        """What lies in /data/local/tmp."""
        return sorted(path.name for path in self.root.iterdir())

    def programs(self) -> Path:
        """A folder with what Android's shell has and this machine's has not, or has otherwise."""
        folder = self.root.with_name(f"{self.root.name}-bin")
        folder.mkdir(exist_ok=True)
        cases = " ".join(f"{name}) echo '{value}';;" for name, value in self.properties.items())
        scripts = {"getprop": f'case "$1" in {cases} *) echo;; esac'}
        if self.free_kb is not None:
            scripts["df"] = (
                f"echo 'Filesystem 1K-blocks Used Available Use% Mounted on'; echo '/dev/x 9 9 {self.free_kb} 9% /'"
            )
        (folder / "df").unlink(missing_ok=True)
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return folder


class Server(socketserver.ThreadingTCPServer):
    """adb's server with phones by their serials."""

    daemon_threads = False  # closing it waits for them: none runs on beside the next test
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.phones: dict[str, Phone] = {}
        self.version = _client_version()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


def _client_version() -> int:
    """What the client compares: it kills a server of another version."""
    said = subprocess.run(["adb", "version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version 1\.0\.([0-9]+)", said)
    assert found is not None, said
    return int(found[1])


class _Closed(Exception):
    """The other side is gone."""


class _Connection(socketserver.BaseRequestHandler):
    server: Server
    request: socket.socket

    def handle(self) -> None:
        phone: Phone | None = None
        with contextlib.suppress(_Closed, ConnectionError):
            while True:
                service = self._receive(int(self._receive(4), 16)).decode()
                if service == "host:version":
                    self._answer(f"{self.server.version:04x}")
                    return
                if service in ("host:devices", "host:devices-l"):
                    phones = {serial: one for serial, one in self.server.phones.items() if not one.gone}
                    self._answer("".join(f"{serial}\t{one.state}\n" for serial, one in phones.items()))
                    return
                if service.startswith("host"):
                    named = re.match(r"host(?::transport|:tport:serial|-serial):(.+?)(:features)?$", service)
                    serial = named[1] if named else ""
                    phone = self.server.phones.get(serial)
                    if phone is None or phone.gone:
                        self._fail(f"device '{serial}' not found")
                        return
                    if service.endswith(":features"):
                        self._answer("shell_v2,cmd")
                        return
                    self.request.sendall(b"OKAY" + (struct.pack("<Q", 1) if "tport" in service else b""))
                elif phone is not None and service.startswith("shell"):
                    self.request.sendall(b"OKAY")
                    self._shell(phone, service.partition(":")[2])
                    return
                elif phone is not None and service == "sync:":
                    self.request.sendall(b"OKAY")
                    self._sync(phone)
                    return
                else:
                    self._fail(f"unknown service {service!r}")
                    return

    def _receive(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self.request.recv(size - len(parts))
            if not part:
                raise _Closed
            parts += part
        return parts

    def _answer(self, text: str) -> None:
        self.request.sendall(b"OKAY" + f"{len(text):04x}{text}".encode())

    def _fail(self, text: str) -> None:
        self.request.sendall(b"FAIL" + f"{len(text):04x}{text}".encode())

    def _shell(self, phone: Phone, command: str) -> None:
        """Run a command as the device would, and send what it printed in the packets of shell,v2."""
        phone.ran.append(command)
        if phone.drops and phone.drops in command:
            phone.gone = True
            return
        local = command.replace(ANDROID_ROOT, str(phone.root))
        done = subprocess.run(
            ["/bin/sh", "-c", local],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": f"{phone.programs()}{os.pathsep}{os.environ['PATH']}"},
            check=False,
        )
        said = done.stdout.replace(str(phone.root).encode(), ANDROID_ROOT.encode())
        for start in range(0, len(said), 1 << 15):
            self._packet(STDOUT, said[start : start + (1 << 15)])
        self._packet(EXIT, bytes([done.returncode]))

    def _packet(self, kind: int, data: bytes) -> None:
        self.request.sendall(struct.pack("<BI", kind, len(data)) + data)

    def _sync(self, phone: Phone) -> None:
        while True:
            kind, size = struct.unpack("<4sI", self._receive(8))
            if kind == b"QUIT":
                return
            name = self._receive(size).decode()
            if kind == b"STAT":
                file = self._place(phone, name)
                stat = file.stat() if file.exists() else None
                fields = (stat.st_mode, stat.st_size, int(stat.st_mtime)) if stat else (0, 0, 0)
                self.request.sendall(b"STAT" + struct.pack("<III", *fields))
            elif kind == b"SEND":
                self._store(phone, name)
            else:
                raise _Closed

    def _store(self, phone: Phone, name: str) -> None:
        path, _, mode = name.rpartition(",")
        data = b""
        while True:
            kind, size = struct.unpack("<4sI", self._receive(8))
            if kind == b"DONE":
                break
            data += self._receive(size)
        if phone.push_fails:
            message = phone.push_fails.encode()
            self.request.sendall(b"FAIL" + struct.pack("<I", len(message)) + message)
            return
        file = self._place(phone, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data[:-1] + b"?" if phone.damaged and phone.damaged in path else data)
        file.chmod(int(mode) & 0o777)
        self.request.sendall(b"OKAY" + struct.pack("<I", 0))

    @staticmethod
    def _place(phone: Phone, path: str) -> Path:
        assert path.startswith(ANDROID_ROOT), path
        return Path(f"{phone.root}{path.removeprefix(ANDROID_ROOT)}")


@contextlib.contextmanager
def adb_server(folder: Path, patch: pytest.MonkeyPatch, *serials: str) -> Iterator[Server]:
    """A server with phones, which every adb of this process and its children talks to."""
    with Server() as server:
        for serial in serials:
            root = folder / serial.replace(":", "_")
            root.mkdir()
            server.phones[serial] = Phone(root)
        patch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{server.port}")
        patch.delenv("ANDROID_SERIAL", raising=False)
        patch.setenv("HOME", str(folder))  # adb keeps keys there
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# A tool whose n-th inference took n milliseconds.
FIXED = """#!/bin/sh
echo "Setting intra_op_num_threads to $8
Session creation time cost: 0.25 s
First inference time cost: 7 ms
Average inference time cost: 2.5 ms"
number=0
while [ $number -lt $6 ]; do
    echo "0,0.00$((number + 1)),33554432,50,$number" >> ${10}
    number=$((number + 1))
done
"""

# onnxruntime_perf_test in Python: the same options, layout of inputs, output and result file, on the real runtime.
PERF_TEST = f"""#!{sys.executable}
import pathlib, resource, sys, time
import onnx, onnxruntime as ort
from onnx import numpy_helper

given = dict(zip(sys.argv[1:-2:2], sys.argv[2:-2:2]))
graph, result = sys.argv[-2:]
if list(given) != ["-e", "-m", "-r", "-x"] or given["-m"] != "times":
    sys.exit("ERROR: Unknown command line flag")
options = ort.SessionOptions()
options.intra_op_num_threads = int(given["-x"])
options.log_severity_level = 4
print("Setting intra_op_num_threads to", given["-x"])
began = time.perf_counter()
try:
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
except Exception as error:
    sys.exit(f"Load model from {{graph}} failed:{{error}}")
loaded = time.perf_counter() - began
sets = []
for place in pathlib.Path(graph).parent.iterdir():
    if place.is_dir():
        tensors = [onnx.TensorProto.FromString(file.read_bytes()) for file in sorted(place.glob("input_*.pb"))]
        sets.append({{tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}})
if not sets:
    sys.exit("there is no test data for model")
times = []
for number in range(int(given["-r"]) + 1):
    start = time.perf_counter()
    session.run(None, sets[number % len(sets)])
    times.append(time.perf_counter() - start)
first, *times = times
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(f"Session creation time cost: {{loaded:.6g}} s")
print(f"First inference time cost: {{int(first * 1e3)}} ms")
print(f"Total inference time cost: {{sum(times):.6g}} s")
print(f"Total inference requests: {{len(times)}}")
print(f"Average inference time cost total: {{sum(times) / len(times) * 1e3:.6f}} ms")
print(f"Total inference run time: {{sum(times):.6g}} s")
print(f"Number of inferences per second: {{len(times) / sum(times):.6g}} ")
print("Avg CPU usage: 50 %")
print(f"Peak working set size: {{peak}} bytes")
with open(result, "a") as stream:
    for number, seconds in enumerate(times):
        stream.write(f"{{pathlib.Path(graph).parent.name}},{{seconds:.6g}},{{peak}},50,{{number}}\\n")
"""
