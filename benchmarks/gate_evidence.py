"""What gates were seen to do, kept one a line, and whether that is what has to be shown.

A line counts for the code that decided it, on the machine and with the runtimes that it was made with: `DECIDING` names
the code, so that a change elsewhere leaves evidence as it is.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import edgekit
from edgekit.environment import host, version_of

State = Literal["holds", "fails", "open"]
PACKAGE = Path(edgekit.__file__).parent
RESULTS = Path(__file__).parent / "results" / "gate.jsonl"
# What computes the models, and what draws and judges: another version of it may give other times and other intervals.
RUNTIMES = ("onnxruntime", "ai-edge-litert", "numpy")
# What decides a gate: everything of gate/ and measure/ that measuring and judging import, and what runs on the device.
DECIDING = (
    *(f"gate/{name}.py" for name in ("conditions", "figures", "margins", "metrics", "protocol", "record", "session")),
    *(f"gate/{name}.py" for name in ("statistics", "stored", "traces", "verdict")),
    *(f"measure/{name}.py" for name in ("instructions", "latency", "machine", "statistics")),
    "runtimes/measuring.py",
    "runtimes/tflite_graph.py",
    "devices/runner.py",
    "devices/meter.py",
    "devices/emulated.py",
    "devices/emulation/plugin.c",
)
# What decides about answers, which no gate of times needs.
ANSWERING = ("gate/accuracy.py",)
# Of the models whose inference is timed with the harness and without.
OVERHEAD_LAYERS = (1, 20, 200)


def meaning(file: Path) -> bytes:
    """What code does, as bytes: of Python without comments and docstrings, whose change changes no gate."""
    if file.suffix != ".py":
        return file.read_bytes()
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
            node.body[0] = ast.Pass()  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


@cache
def code(names: Iterable[str] = DECIDING) -> str:
    """sha256 of what decides a gate, and of the load beside it."""
    digest = hashlib.sha256()
    for file in (*(PACKAGE / name for name in names), Path(__file__).with_name("gate_load.py")):
        digest.update(hashlib.sha256(meaning(file)).digest())
    return digest.hexdigest()


def origin() -> dict[str, Any]:
    """What a line has to have in common with what runs now, to count."""
    runtimes = {name: version for name in RUNTIMES if (version := version_of(name))}
    machine = f"{host().processor}, {host().cores} cores"  # in words: of how many cores hogs leave how much
    return {"code": code(), "host": host().fingerprint, "machine": machine, "runtimes": runtimes}


def done(key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of a kind that count here."""
    wanted = {**key, **origin()}
    return [line for line in read_lines() if all(line.get(name) == value for name, value in wanted.items())]


def read_lines() -> list[dict[str, Any]]:
    """Every line that is kept; a last one without its end was cut off with the machine, and is none."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def keep(line: Mapping[str, Any]) -> None:
    """Add a line, at once and whole; what was left of one that was cut off goes."""
    whole = {**line, "edgekit": edgekit.__version__, **origin()}
    with RESULTS.open("a+b", buffering=0) as stream:
        stream.seek(0)
        found = stream.read()
        stream.truncate(found.rfind(b"\n") + 1)
        stream.write(json.dumps(whole).encode() + b"\n")
        os.fsync(stream.fileno())


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep others from measuring meanwhile: they would disturb, and make the same gate again."""
    with RESULTS.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another gate.py is measuring: wait for its end, or stop it")
        yield


@dataclass(frozen=True)
class Rule:
    """What has to be shown: of so many gates at least a share has one of these verdicts.

    Attributes:
        verdicts: that are right.
        least: the share.
    """

    verdicts: tuple[str, ...]
    least: float

    def state(self, verdicts: Iterable[str], count: int) -> State:
        """Whether it holds of ``count`` gates: once all are made, or sooner where too few can be right."""
        counts = Counter(verdicts)
        made, right = counts.total(), sum(counts[one] for one in self.verdicts)
        if made - right > count - math.ceil(self.least * count - 1e-9):
            return "fails"
        return "holds" if made >= count else "open"

    @property
    def words(self) -> str:
        """It in words."""
        return f"{' or '.join(self.verdicts)} in at least {self.least:.0%}"


@dataclass(frozen=True)
class Claim:
    """What a line that is computed or measured once has to say.

    Attributes:
        key: what the line is of; of several the last one counts.
        words: what it has to show.
        holds: whether it does.
    """

    key: dict[str, Any]
    words: str
    holds: Callable[[Mapping[str, Any]], bool]

    def line(self) -> dict[str, Any] | None:
        """What was found; None where nothing was yet."""
        return next(reversed(done(self.key)), None)

    def state(self) -> State:
        """Whether it holds."""
        line = self.line()
        return "open" if line is None else "holds" if self.holds(line) else "fails"


def verdicts_of(line: Mapping[str, Any]) -> set[str]:
    """The verdicts on all losses and gains of a line of ``answers``."""
    return {str(value) for name, value in line.items() if name.endswith("gained")}


CLAIMS = (
    Claim(
        {"what": "traces", "kind": "warming up"},
        "a bias below 0.5 % is left by 1 to 200 runs of warming up",
        lambda line: max(line["largest_bias"].values()) < 0.005,
    ),
    Claim(
        {"what": "traces", "kind": "throttling of 10 to 50 %"},
        "flagged in at least 95 of 100",
        lambda line: line["of"] == 100 and line["flagged"] >= 95,
    ),
    Claim(
        {"what": "answers", "points": 0.2, "samples": 500, "judge": code(ANSWERING)},
        "inconclusive",
        lambda line: verdicts_of(line) == {"inconclusive"},
    ),
    Claim(
        {"what": "answers", "points": 3.0, "samples": 500, "judge": code(ANSWERING)},
        "regression",
        lambda line: verdicts_of(line) == {"regression"},
    ),
    *(
        Claim(
            {"what": "overhead", "layers": layers},
            "at most 2 us or 2 % are added to an inference",
            lambda line: line["added_us"] <= max(2.0, 0.02 * line["bare_us"]),
        )
        for layers in OVERHEAD_LAYERS
    ),
)


def worst(states: Iterable[State]) -> State:
    """Of several states together: one that fails decides, then one that is open."""
    told = set(states)
    return "fails" if "fails" in told else "open" if "open" in told else "holds"
