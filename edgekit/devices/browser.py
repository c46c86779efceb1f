"""A browser on this machine: Chromium without a window, and ONNX Runtime as WebAssembly in it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import platform
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.cache import Cache
from edgekit.devices import web_runtime
from edgekit.devices.base import SPEC, Device
from edgekit.devices.chromium import Chromium, find_chromium
from edgekit.environment import host
from edgekit.errors import HostError, ModelError
from edgekit.progress import Progress

PAGE = "browser_runner.html"
SOURCES = (PAGE, "browser_runner.js")
# What a page has to be served with to compute with several threads and to read a clock of 5 microseconds.
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}


class BrowserDevice(Device):
    """Chromium on this machine."""

    label = "a browser here"

    @property
    def fingerprint(self) -> str:
        return f"browser {find_chromium()} {web_runtime.VERSION} {host().fingerprint}"

    def prepare(self, progress: Progress) -> None:
        """Fetch the runtime where it is not in the cache.

        Raises:
            HostError: there is no browser, or the runtime cannot be had.
        """
        _executable()
        web_runtime.provide(Cache(), progress)

    def execute(self, folder: Path, seconds: float) -> str:
        spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        spec["subjects"] = {name: _subject(folder, subject) for name, subject in spec["subjects"].items()}
        (folder / SPEC).write_text(json.dumps(spec), encoding="utf-8")
        for name in SOURCES:
            shutil.copyfile(Path(__file__).with_name(name), folder / name)
        shutil.copytree(web_runtime.provide(Cache()), folder / "ort")
        with Chromium(_executable()) as browser, served(folder) as address:
            browser.open(f"{address}/{PAGE}")
            browser.wait_for("'run' in globalThis", 60)
            answer: dict[str, Any] = browser.evaluate("run()", seconds)
            refused = str(answer.get("refused", ""))
            if refused:
                raise ModelError(
                    f"ONNX Runtime in {self.label} does not run the model", id="model.does-not-load", why=refused
                )
            answer["peak_memory_bytes"] = browser.peak_memory_bytes()
            answer["host"] |= {"browser": browser.version, "processor": host().processor, "system": platform.system()}
        return json.dumps(answer)


def _executable() -> str:
    found = find_chromium()
    if found is None:
        raise HostError(
            "there is no Chromium here",
            id="environment.no-tool",
            hint="Install it, as Debian's package chromium is, or name another one in EDGEKIT_CHROMIUM.",
        )
    return found


def _subject(folder: Path, subject: dict[str, Any]) -> dict[str, Any]:
    """A subject with its inputs as files of bare values, which JavaScript reads; ``calls`` lists them."""
    import numpy as np

    own = (folder / subject["feeds"]).parent
    calls: dict[int, dict[str, Any]] = {}
    with np.load(folder / subject["feeds"], allow_pickle=False) as stored:
        for number, key in enumerate(stored.files):
            index, _, name = key.partition("/")
            values = np.ascontiguousarray(stored[key])
            file = own / f"feed-{number}.bin"
            file.write_bytes(values.tobytes())
            calls.setdefault(int(index), {})[name] = {
                "file": file.relative_to(folder).as_posix(),
                "dtype": values.dtype.name,
                "shape": list(values.shape),
            }
    (folder / subject["feeds"]).unlink()
    graph = folder / subject["graph"]
    beside = [path for path in own.rglob("*") if path.is_file() and path != graph and path.suffix != ".bin"]
    return {
        "graph": subject["graph"],
        "beside": {path.relative_to(graph.parent).as_posix(): path.relative_to(folder).as_posix() for path in beside},
        "calls": [calls[index] for index in sorted(calls)],
    }


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files with the headers that isolate a page, and no log."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):  # the browser was closed before it had everything
            super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:  # the name is the base class's
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder behind an address of this machine, isolated, for as long as the block lasts."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
