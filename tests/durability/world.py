"""A tiny model, its data and a run on a pretended device, in processes that are forked off one that has all loaded.

The scripts beside this one break such runs: they are killed, their writes fail, their files are changed. Each repeats
by its seed, takes counts as options and ends with 1 when something was lost. Their work is done in blocks, and each
that is done is a line of a file in ``benchmarks/results``: the same script again goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

TESTS = Path(__file__).parents[1]
sys.path[:0] = [path for path in (str(TESTS), str(TESTS.parent)) if path not in sys.path]
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "OMP_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}

import pytest  # noqa: E402  # the lines above are for what is imported from here on
from tqdm import tqdm  # noqa: E402  # as above

# Where figures go; tests have another place for theirs.
RESULTS = Path(os.environ.get("DURABILITY_RESULTS") or TESTS.parent / "benchmarks" / "results")
TEMPORARY = "temporary"
# No process here takes so long, on any machine.
HANG_SECONDS = 1800.0
SETTINGS = {
    "prune.samples": "32",
    "prune.layers": "1.0",
    "prune.ratio": "0.3",
    "distill.epochs": "10",
    "distill.batch_size": "8",
    "distill.checkpoint_every": "5",
    "distill.evaluate_every": "10",
    "optimize.seconds": "0.1",
    "quantize.method": "static",
    "quantize.samples": "64",
    "quantize.tolerance": "1.0",
}
# Those of a recipe that trains nothing.
UNTRAINED = {name: value for name, value in SETTINGS.items() if name.startswith(("optimize.", "quantize."))}


def preload() -> None:
    """Load what a run needs and pretend the device, so that a forked process begins at once."""
    import datasets
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from end_to_end.made import QUICK, no_profile, pretend_device

    import edgekit.api
    import edgekit.cli

    torch.set_num_threads(1)
    # tqdm's own lock is shared by all processes that are forked, and one that was killed may have held it; classes that
    # libraries derive keep the one that they find
    tqdm.monitor_interval = 0  # no thread that takes it while a process is forked
    tqdm.set_lock(threading.RLock())
    datasets.disable_progress_bars()
    patch = pytest.MonkeyPatch()
    pretend_device(patch)
    for name in ("pipeline.JUDGING", "assembly.FINAL", "assembly.INTERIM"):
        patch.setattr(f"edgekit.{name}", QUICK)
    patch.setattr("edgekit.assembly.profile_sides", no_profile)
    assert edgekit.cli.main is not None


class World:
    """A folder with a model and data.

    Args:
        root: empty.
        rows: of the data.
    """

    def __init__(self, root: Path, rows: int = 160) -> None:
        from end_to_end.made import model_folder, text_data

        self.root = root
        self.model, self.data = model_folder("bert", root / "model", layers=2), text_data(root, rows)

    def compress(self, out: Path, cache: Path, **changes: Any) -> None:
        """A whole run: prune, distill, export, optimize, static INT8, verify."""
        from end_to_end.made import WORKLOAD

        import edgekit

        use(cache)
        options: dict[str, Any] = {
            "data": self.data,
            "target": "x86-64-vnni",
            "settings": SETTINGS,
            "max_drop": 1.0,
            "workload": WORKLOAD,
            "jobs": 1,
            "output": out,
        }
        edgekit.compress(self.model, **(options | changes))

    def command(self, out: Path) -> list[str]:
        """The same run as the words of a command line; the cache is what EDGEKIT_CACHE says."""
        settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
        told = ["--target", "x86-64-vnni", "--max-drop", "99%", "--tokens", "16", "--jobs", "1", "--quiet"]
        return ["compress", str(self.model), "--data", str(self.data), *told, *settings, "--output", str(out)]

    def run_command(self, out: Path, cache: Path) -> None:
        """The same run through the command line: with its watchers, its handlers and its exit codes."""
        from edgekit.cli import main

        use(cache)
        sys.argv = ["edgekit", *self.command(out)]
        code = main()
        sys.stderr.flush()
        os._exit(code)


def use(cache: Path) -> None:
    """Have this process work in a cache, and put what is temporary beside it, where ``leftovers`` looks for it."""
    os.environ["EDGEKIT_CACHE"] = str(cache)
    os.environ["HF_DATASETS_CACHE"] = str(cache.with_name("datasets"))
    temporary = cache.with_name(TEMPORARY)
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)


def forked(work: Callable[[], object], errors: Path, *, group: bool = False) -> int:
    """Do something in a process of its own; its number. What it raises ends it with 1, as 143 and 130 end signals."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        if group:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with errors.open("a", encoding="utf-8") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        from edgekit.cli.failures import Terminated, raise_on_signals

        try:
            with raise_on_signals():
                work()
            code = 0
        except Terminated:
            code = 128 + signal.SIGTERM
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        except BaseException:  # noqa: BLE001  # whatever it was, it is told in the file
            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int:
    """Wait for a process: its exit code, or less than 0 the signal that ended it. One that hangs is killed."""
    watched = os.pidfd_open(process)
    try:
        if not select.select([watched], [], [], HANG_SECONDS)[0]:
            os.kill(process, signal.SIGKILL)
    finally:
        os.close(watched)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def hashes(out: Path) -> dict[str, str]:
    """sha256 of every file of a result that a repeated run has to have in common: the report tells times."""
    from edgekit.source import sha256_file

    told = {"report.json", "report.html", "README.md", "SHA256SUMS"}
    return {
        path.relative_to(out).as_posix(): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in told
    }


def leftovers(cache: Path, out: Path) -> list[str]:
    """What a finished run should not leave behind, each beside the cache or the output that it lies in."""
    found = [path for name in ("tmp", "turns", "work") for path in (cache / name).glob("*")]
    found += list((cache / "runs").rglob(".*"))
    found += list(cache.with_name(TEMPORARY).glob("edgekit-*"))
    told = [path.relative_to(cache.parent) for path in found]
    told += [path.relative_to(out.parent) for path in out.parent.glob(f".{out.name}.*")]
    return [path.as_posix() for path in told]


def events(cache: Path) -> list[dict[str, Any]]:
    """Whole lines of the logs of a cache's runs."""
    lines = [line for file in (cache / "runs").glob("*/events.jsonl") for line in file.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in lines]


def stages_done(cache: Path) -> list[dict[str, Any]]:
    """What the logs say of the stages that are done."""
    return [event for event in events(cache) if event["event"] == "stage.done"]


class Blocks:
    """What a script has done, a line for each block of its work. Lines are never changed.

    A block in which something was wrong is done again. What was wrong stays so until the code or the script is another:
    what happens now and then would be gone at the second attempt.

    Args:
        script: its name, and that of the file.
        options: what its results hang on beside the code.
    """

    def __init__(self, script: str, **options: Any) -> None:
        from edgekit.environment import code_digest

        self._file = RESULTS / f"{script}.jsonl"
        made_by = hashlib.sha256(b"".join(file.read_bytes() for file in _parts(script))).hexdigest()
        self._same = {"schema": "edgekit.durability/1", "code": code_digest(whole=True), "script": made_by, **options}
        self.done: dict[str, dict[str, Any]] = {}
        self._earlier: list[str] = []
        self._began = time.monotonic()
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.is_file() else ():
            record = json.loads(line)
            if self._same.items() <= record.items():
                self._put(record)

    def _put(self, record: dict[str, Any]) -> None:
        block = record["block"]
        if block in self.done:
            self._earlier += [f"{block}, at an earlier attempt: {one}" for one in self.done[block]["problems"]]
        self.done[block] = record

    def is_done(self, block: str) -> bool:
        """Whether a block was done, and nothing was wrong in it."""
        return block in self.done and not self.done[block]["problems"]

    def add(self, block: str, problems: Sequence[str], **figures: Any) -> None:
        """A block that is done now."""
        from edgekit.environment import host

        record = {
            **self._same,
            "block": block,
            **figures,
            "problems": list(problems),
            "seconds": round(time.monotonic() - self._began, 1),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "host": host().processor,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        self._put(record)
        self._began = time.monotonic()
        print(f"{block}: {len(problems)} problems", file=sys.stderr, flush=True)

    def total(self, name: str) -> int:
        """The sum of a figure over all blocks."""
        return sum(record.get(name, 0) for record in self.done.values())

    def finish(self, **figures: Any) -> NoReturn:
        """Print what all blocks came to, those of earlier runs included; ends with 1 where one ever had problems."""
        problems = [f"{block}: {one}" for block, record in self.done.items() for one in record["problems"]]
        problems += self._earlier
        whole = {**self._same, "blocks": len(self.done), **figures, "problems": problems}
        print(json.dumps(whole, indent=1))
        raise SystemExit(1 if problems else 0)


def _parts(script: str) -> list[Path]:
    """What decides what a script does beside the package."""
    here = Path(__file__).parent
    return [file for file in (here / f"{script}.py", here / f"{script}.c", Path(__file__)) if file.is_file()]


def _commit() -> str:
    """Of the repository; empty where there is none, with a plus where files were changed since."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=TESTS,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


@contextlib.contextmanager
def quiet() -> Any:
    """Without the log of damaged objects that a script makes on purpose."""
    import logging

    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
