"""Chromium without a window, driven through a pair of pipes by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/: messages are JSON, each ends with a zero byte; a reply carries the
number of its request, everything else is an event.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekit.confinement import surroundings
from edgekit.errors import HostError

NO_CHROMIUM = "there is no Chromium here, and EDGEKIT_CHROMIUM names no other browser of its kind"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium reads requests from descriptor 3 and writes replies to 4 (content/public/common/content_switches.cc). A shell
# puts the pipes there, since to run Python between fork and exec is not safe where there are threads.
MOVED = ("sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh")
# What a browser may need beside what a confined process gets: a snap the bus and the folder of the session, to be
# started in; where its sandbox's helper is.
BROWSERS_OWN = ("CHROME_DEVEL_SANDBOX", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--mute-audio",
)
CHUNK = 1 << 16


def find_chromium() -> str | None:
    """The path of Chromium or Chrome; None where there is none. ``EDGEKIT_CHROMIUM`` names another one.

    Raises:
        HostError: what it names is no program here.
    """
    named = os.environ.get("EDGEKIT_CHROMIUM")
    if not named:
        return next((found for name in NAMES if (found := shutil.which(name))), None)
    found = shutil.which(str(Path(named).expanduser()))
    if found is None:
        raise HostError(
            f"EDGEKIT_CHROMIUM names {named!r}, which is no program here",
            id="environment.no-tool",
            hint="Give the path of Chromium or of a browser of its kind, or unset the variable.",
        )
    return found


class Chromium:
    """A browser with one page; closed at the end of its block.

    Args:
        executable: of the browser.
        flags: further flags.

    Attributes:
        events: what the page told since it was opened: requests, messages, exceptions.
        version: as the browser names itself.
    """

    def __init__(self, executable: str, flags: tuple[str, ...] = ()) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True)
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium's sandbox refuses root
        command = [executable, *FLAGS, *root, f"--user-data-dir={self._profile.name}", *flags, "about:blank"]
        self._process = subprocess.Popen(
            [*MOVED, *command],
            env=surroundings({name: os.environ[name] for name in BROWSERS_OWN if name in os.environ}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._out, self._in = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self.version = ""

    def __enter__(self) -> Chromium:
        self.version = str(self.call("Browser.getVersion", seconds=60)["product"])
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()  # the browser ends when its pipe is closed
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._in.close()
        self._profile.cleanup()

    def call(self, method: str, *, seconds: float = 60, **parameters: Any) -> dict[str, Any]:
        """One request and its reply.

        Raises:
            HostError: no reply in time, the browser ended, or it refuses.
        """
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        try:
            _write_all(self._out.fileno(), json.dumps(message).encode() + b"\0")
        except BrokenPipeError as error:
            raise _failed(f"{method}: the browser has ended") from error
        end = time.monotonic() + seconds
        while True:
            found = self._read(end, method)
            if found.get("id") == self._count:
                break
            self.events.append(found)
        if "error" in found:
            raise _failed(f"{method}: {found['error'].get('message')}")
        result: dict[str, Any] = found["result"]
        return result

    def open(self, url: str) -> None:
        """Open a page, and wait for nothing."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str, seconds: float = 60) -> Any:
        """What JavaScript gives in the page, after its promise is kept.

        Raises:
            HostError: it threw; what it says.
        """
        found = self.call(
            "Runtime.evaluate", seconds=seconds, expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            told = found["exceptionDetails"]
            raise _failed(told.get("exception", {}).get("description") or told.get("text", "an exception"))
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float) -> Any:
        """What an expression gives, as soon as that is true."""
        end = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            if time.monotonic() > end:
                raise _failed(f"{expression} did not come true in {seconds:g} s")
            time.sleep(0.05)
        return found

    def screenshot(self, file: Path, width: int, height: int, scale: float = 1) -> None:
        """The page as a picture, of a window of so many pixels, as long as the page is."""
        self.resize(width, height, scale)
        whole = self.evaluate("Math.ceil(document.documentElement.scrollHeight)")
        self.resize(width, max(height, whole), scale)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """A window of so many pixels; below 600 it is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip

    def peak_memory_bytes(self) -> int:
        """Largest resident size of the process that the page runs in; 0 where the system does not tell."""
        return max(map(_peak, _renderers(self._process.pid)), default=0)

    def _read(self, end: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise _failed(f"{method}: no answer in time")
            chunk = os.read(self._in.fileno(), CHUNK)
            if not chunk:
                raise _failed(f"{method}: the browser has ended")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _renderers(parent: int) -> list[int]:
    """Processes below one that are renderers, by ``/proc``."""
    found, known = [], {parent}
    entries = sorted((int(entry.name), entry) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for number, entry in entries:
        try:
            above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if above in known:
            known.add(number)
            if b"--type=renderer" in words:
                found.append(number)
    return found


def _peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _failed(why: str) -> HostError:
    return HostError("the measuring process in the browser failed", id="environment.measuring", why=why)
