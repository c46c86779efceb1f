"""An Android device over adb: files are pushed, the runtime's own timing tool runs, the folder is removed again.

An Android device has no Python, so that the runner cannot run there. What the specification asks for is done by a tool
of ``tools.py`` in its place, one process a call: subjects are interleaved by calling it for one after the other, in an
order that is drawn anew each round. It gives times and peak memory; what a graph answers is not asked there.

The client is adb's own, with the user's server, keys and devices. This was tested with the real client against a server
that stands in for a phone, not with a phone.
"""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from edgekit.cache import temporary
from edgekit.devices.adb_client import Client, Room, find_device
from edgekit.devices.base import SPEC, Device
from edgekit.devices.runner import wants_round
from edgekit.devices.tools import Call, Measured, Tool, UnreadableError
from edgekit.errors import EdgekitError, HostError, ModelError, UsageError
from edgekit.progress import Progress
from edgekit.source import sha256_file

EXAMPLE = "adb:SERIAL?tool=./onnxruntime_perf_test&lib=./libonnxruntime.so"
ON_DEVICE = "device:"
CHECK_SECONDS = 60.0
# Inferences of the call that peak memory is taken of, as the runner makes.
MEMORY_INFERENCES = 10
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # a shell's own codes
# ELF's `e_machine` (System V ABI) by what Android calls it: https://developer.android.com/ndk/guides/abis
ABIS = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a"}
# What a tool says where it is the model that does not run.
REFUSALS = re.compile(
    r"Load model from .+ failed|Failed to load model|NOT_IMPLEMENTED|Could not find an implementation|"
    r"Failed to initialize the interpreter|Failed to allocate tensors|INVALID_GRAPH|Unsupported model IR version"
)
# Path of a subject's graph there, and the arguments that name its inputs.
Subject = tuple[str, tuple[str, ...]]
FACTS = ("ro.product.model", "ro.product.cpu.abilist", "ro.build.version.release", "ro.build.fingerprint")


def abi_of(file: Path) -> str:
    """The ABI that a program or library is made for, by its ELF header; empty where it has none, as a script."""
    with file.open("rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF":
        return ""
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return ABIS.get(machine, f"machine {machine}")


@dataclass(frozen=True)
class Address:
    """What ``adb:SERIAL?tool=...&lib=...`` says.

    Attributes:
        tool: a file here, or ``device:PATH`` for one that is there already.
        libraries: files here that the tool needs beside it.
        serial: as ``adb devices`` lists it; empty where there is only one device.
    """

    tool: str
    libraries: tuple[Path, ...] = ()
    serial: str = ""

    @property
    def there(self) -> str:
        """Path of a tool that is on the device already, or nothing."""
        return self.tool.removeprefix(ON_DEVICE) if self.tool.startswith(ON_DEVICE) else ""


def read_address(text: str) -> Address:
    """Read what follows ``adb:``.

    Raises:
        UsageError: it names no tool, a file that is not there, or something that is not known.
    """
    serial, _, query = text.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    unknown = sorted(options.keys() - {"tool", "lib"})
    tools = options.get("tool", [])
    if unknown:
        raise _unusable(text, f"it names {unknown[0]!r}; allowed are tool and lib")
    if re.search(r"^-|[\s/]", serial):
        raise _unusable(text, f"{serial!r} is no serial; `adb devices` lists them")
    if len(tools) != 1 or not tools[0].removeprefix(ON_DEVICE):
        raise _unusable(text, "it names no tool" if len(tools) < 2 else "it names several tools")
    if tools[0].startswith(ON_DEVICE) and not tools[0].startswith(f"{ON_DEVICE}/"):
        raise _unusable(text, f"{tools[0]!r} is no whole path on the device")
    files = [*([] if tools[0].startswith(ON_DEVICE) else tools), *options.get("lib", [])]
    missing = [file for file in files if not Path(file).expanduser().is_file()]
    if missing:
        raise _unusable(text, f"there is no file {missing[0]!r} here")
    return Address(tools[0], tuple(Path(file).expanduser() for file in options.get("lib", [])), serial)


class AdbDevice(Device):
    """An Android device that adb reaches.

    Args:
        address: which, and with what it is timed.
        tool: how that is called and read.
    """

    starts_processes = False
    no_answers_because = "Android devices are timed only: their tools do not give back what a graph answers"

    def __init__(self, address: Address, tool: Tool) -> None:
        self._address, self.tool = address, tool
        self._client: Client | None = None
        self._facts: dict[str, str] = {}

    @property
    def label(self) -> str:  # type: ignore[override]  # it is known once the device has answered
        """The device's model, where it said."""
        return f"{self._facts.get('ro.product.model') or 'an Android device'}, over adb"

    @property
    def fingerprint(self) -> str:
        """The address and the tool's content; once the device has answered, also which one it is and its system."""
        address, serial = self._address, self._client.serial if self._client else self._address.serial
        files = [*([] if address.there else [Path(address.tool).expanduser()]), *address.libraries]
        hashes = " ".join(sha256_file(file) for file in files)
        return f"adb {serial} {address.there} {hashes} {self._facts.get('ro.build.fingerprint', '')}"

    def prepare(self, progress: Progress) -> None:
        progress.start("connect over adb", None)
        self._connected()
        progress.finish(f"Android {self._facts['ro.build.version.release']}, {self._facts['ro.product.cpu.abilist']}")

    def execute(self, folder: Path, seconds: float) -> str:
        spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        if spec["what"] not in ("latency", "memory"):
            raise HostError(
                f"{self.label}: {spec['what']} cannot be had",
                id="environment.timed-only",
                why=self.no_answers_because,
            )
        deadline = time.monotonic() + seconds
        client = self._connected()
        with temporary() as staged:
            calls = self._stage(folder, spec, staged)
            with Room(client) as room:
                room.send(staged, deadline - time.monotonic())
                runs = _Runs(self, room, deadline)
                measure = runs.latency if spec["what"] == "latency" else runs.memory
                answer = measure(calls, spec)
        machine, release = self._facts["ro.product.cpu.abilist"].split(",")[0], self._facts["ro.build.version.release"]
        return json.dumps(answer | {"host": {"machine": machine, "system": f"Android {release}"}})

    def _connected(self) -> Client:
        """The client of the device, found and asked once.

        Raises:
            HostError: there is none or more than one, it refuses, or lacks the tool.
        """
        if self._client is None:
            client = find_device(self._address.serial, CHECK_SECONDS)
            script = "; ".join(f"getprop {name}" for name in FACTS)
            code, said = client.shell(script, CHECK_SECONDS)
            lines = [line.strip() for line in said.splitlines()]
            if code or len(lines) != len(FACTS) or not lines[1]:
                raise HostError(
                    f"{client.serial} does not say what it is",
                    id="environment.device-lacks",
                    why=said.strip()[:200] or "getprop printed nothing",
                    hint="It has to be an Android device.",
                )
            self._facts = dict(zip(FACTS, lines, strict=True))
            self._check_tool(client)
            self._client = client
        return self._client

    def _check_tool(self, client: Client) -> None:
        """Whether the tool is there, or can run there."""
        there, abis = self._address.there, self._facts["ro.product.cpu.abilist"].split(",")
        if there:
            code, _ = client.shell(f"test -f {shlex.quote(there)} && test -x {shlex.quote(there)}", CHECK_SECONDS)
            if code:
                raise self._lacks(f"there is no program {there!r} on the device")
            return
        for file in (Path(self._address.tool).expanduser(), *self._address.libraries):
            abi = abi_of(file)
            if abi and abi not in abis:
                raise self._wrong_abi(f"{file.name!r} is made for {abi}")

    def _stage(self, folder: Path, spec: Mapping[str, Any], staged: Path) -> dict[str, Subject]:
        """Lay out what is pushed; for each subject its graph there and the arguments that name its inputs."""
        import numpy as np

        laid = {}
        for name, subject in spec["subjects"].items():
            graph, feeds = staged / subject["graph"], folder / subject["feeds"]
            shutil.copytree(feeds.parent, graph.parent, ignore=shutil.ignore_patterns(feeds.name))
            with np.load(feeds, allow_pickle=False) as stored:
                first = {key.partition("/")[2]: stored[key] for key in stored.files if key.startswith("0/")}
            laid[name] = subject["graph"], self.tool.lay_out(graph, first)
        for file in self._address.libraries:
            shutil.copyfile(file, staged / file.name)
        if not self._address.there:
            shutil.copyfile(Path(self._address.tool).expanduser(), staged / self.tool.name)
        return laid

    def call(self, room: Room, call: Call, seconds: float) -> Measured:
        """Call the tool once in its folder.

        Raises:
            ModelError: the runtime there refuses the model.
            HostError: the tool cannot run, fails, or prints what cannot be read.
        """
        there = self._address.there
        program = shlex.quote(there or f"./{self.tool.name}")
        libraries = "." if not there else f".:{shlex.quote(str(Path(there).parent))}"
        words = " ".join(shlex.quote(word) for word in self.tool.arguments(call, "result"))
        allow = "" if there else f"chmod 755 {program}; "
        code, printed = room.shell(f"{allow}rm -f result; LD_LIBRARY_PATH={libraries} {program} {words} 2>&1", seconds)
        if code:
            raise self._failure(code, printed)
        _, result = room.shell("if [ -f result ]; then cat result; fi", seconds)
        try:
            return self.tool.read(printed, result, call)
        except UnreadableError as error:
            raise HostError(
                f"what {self.tool.name} printed on {self.label} cannot be read",
                id="environment.measuring",
                why=str(error).strip()[-400:] or "it printed nothing",
                hint="Its version may be one whose output edgekit does not know; docs/devices.md tells what is known.",
            ) from error

    def _failure(self, code: int, printed: str) -> EdgekitError:
        """What a tool that ended with an error says, as an error of the right kind."""
        said = [line.strip() for line in printed.splitlines() if line.strip()]
        last = said[-1] if said else f"it ended with code {code}"
        if re.search(r"CANNOT LINK EXECUTABLE|error while loading shared libraries", printed):
            return self._lacks(last)
        if code == NOT_EXECUTABLE or re.search(r"not executable|Exec format error|e_machine", printed):
            return self._wrong_abi(last)
        if code == NOT_FOUND:
            return self._lacks(last)
        refusal = next((line for line in said if REFUSALS.search(line)), "")
        if refusal:
            what = f"{self.tool.name} on {self.label} does not run the model"
            return ModelError(what, id="model.does-not-load", why=refusal)
        return HostError(
            f"{self.tool.name} on {self.label} failed",
            id="environment.measuring",
            why="\n".join(said[-3:]) or last,
            hint="Some builds for Android know none of their own options; docs/devices.md tells how it is built.",
        )

    def _lacks(self, why: str) -> HostError:
        return HostError(
            f"{self.label} lacks what runs the model",
            id="environment.device-lacks",
            why=why,
            hint=f"Name the tool, and with lib= each library that it needs: --device '{EXAMPLE}'",
        )

    def _wrong_abi(self, why: str) -> HostError:
        return HostError(
            f"{self.tool.name} does not run on {self.label}",
            id="environment.wrong-abi",
            why=f"{why}; the device runs {', '.join(self._facts['ro.product.cpu.abilist'].split(','))}",
            hint="Build it for one of those.",
        )


class _Runs:
    """Calls of the tool for several subjects, until a deadline."""

    def __init__(self, device: AdbDevice, room: Room, deadline: float) -> None:
        self._device, self._room, self._deadline = device, room, deadline

    def latency(self, subjects: Mapping[str, Subject], spec: Mapping[str, Any]) -> dict[str, Any]:
        """Rounds with one block of each subject, in an order that is drawn anew each round; see the runner.

        Where the tool tells fewer inferences apart than a block has, there are more rounds of smaller blocks.
        """
        most = self._device.tool.most
        block = min(spec["block"], most) if most else spec["block"]
        rule = {**spec, "rounds": -(-spec["rounds"] * spec["block"] // block)}
        order, names = random.Random(spec["seed"]), list(subjects)
        found: dict[str, list[Measured]] = {name: [] for name in names}
        began, done = time.monotonic(), 0
        while wants_round(done, time.monotonic() - began, rule):
            order.shuffle(names)
            for name in names:
                graph, inputs = subjects[name]
                found[name].append(self._call(Call(graph, inputs, spec["warmup"], block, spec["threads"])))
            done += 1
        return {
            "load_ms": sum(statistics.median(run.load_ms for run in runs) for runs in found.values()),
            "blocks_ms": {name: [run.samples_ms for run in runs] for name, runs in found.items()},
            "peak_memory_bytes": max(run.peak_memory_bytes for runs in found.values() for run in runs),
        }

    def memory(self, subjects: Mapping[str, Subject], spec: Mapping[str, Any]) -> dict[str, Any]:
        """Peak memory of a process that loads a subject and runs it ten times."""
        ((graph, inputs),) = subjects.values()
        run = self._call(Call(graph, inputs, MEMORY_INFERENCES - 1, 1, spec["threads"], memory=True))
        return {"load_ms": run.load_ms, "peak_memory_bytes": run.peak_memory_bytes}

    def _call(self, call: Call) -> Measured:
        return self._device.call(self._room, call, self._deadline - time.monotonic())


def _unusable(text: str, why: str) -> UsageError:
    return UsageError(
        f"--device adb:{text} names no device",
        id="usage.bad-device",
        why=why,
        hint=f"For example: --device '{EXAMPLE}'",
    )
