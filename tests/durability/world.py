"""A tiny model, its data and a run on a pretended device, in processes that are forked off one that has all loaded.

The scripts beside this one break such runs: they are killed, their writes fail, their files are changed. Each repeats
by its seed, takes counts as options and ends with 1 when something was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [path for path in (str(TESTS), str(TESTS.parent)) if path not in sys.path]
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}

import pytest  # noqa: E402  # the two lines above are for what is imported from here on

# Where figures go; tests have another place for theirs.
RESULTS = Path(os.environ.get("DURABILITY_RESULTS") or TESTS.parent / "benchmarks" / "results")
SETTINGS = {
    "prune.samples": "32",
    "prune.layers": "1.0",
    "prune.ratio": "0.3",
    "distill.epochs": "2",
    "distill.batch_size": "8",
    "distill.checkpoint_every": "5",
    "distill.evaluate_every": "10",
    "optimize.seconds": "0.1",
    "quantize.method": "static",
    "quantize.samples": "64",
    "quantize.tolerance": "1.0",
}


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

        os.environ["EDGEKIT_CACHE"] = str(cache)
        os.environ["HF_DATASETS_CACHE"] = str(cache.with_name("datasets"))
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
        from edgekit.cli.failures import Terminated, raise_on_sigterm

        try:
            with raise_on_sigterm():
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
    """Wait for a process: its exit code, or less than 0 the signal that ended it."""
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
    """What a finished run should not leave behind."""
    found = [path for name in ("tmp", "turns", "work") for path in (cache / name).glob("*")]
    found += list((cache / "runs").rglob(".*"))
    found += list(out.parent.glob(f".{out.name}.*"))
    return [str(path) for path in found]


def events(cache: Path) -> list[dict[str, Any]]:
    """Whole lines of the logs of a cache's runs."""
    lines = [line for file in (cache / "runs").glob("*/events.jsonl") for line in file.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in lines]


def finish(name: str, record: dict[str, Any], problems: Sequence[str]) -> None:
    """Add a result to its file in ``benchmarks/results``, print it, and end with 1 where there were problems."""
    from edgekit.environment import code_digest, host

    created = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"created": created, "code": code_digest(), "host": host().processor, **record, "problems": list(problems)}
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(whole) + "\n")
    print(json.dumps(whole, indent=1))
    raise SystemExit(1 if problems else 0)


@contextlib.contextmanager
def quiet() -> Any:
    """Without the log of damaged objects that a script makes on purpose."""
    import logging

    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
