"""What gates were seen to do, kept one a line, and whether that is what has to be shown.

A line counts for the code that decided it, on the machine and with the runtimes that it was made with: `DECIDING` names
the code, so that a change elsewhere leaves evidence as it is.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import edgekit
from edgekit.environment import host, version_of

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
def code() -> str:
    """sha256 of what decides a gate, and of the load beside it."""
    digest = hashlib.sha256()
    for file in (*(PACKAGE / name for name in DECIDING), Path(__file__).with_name("gate_load.py")):
        digest.update(hashlib.sha256(meaning(file)).digest())
    return digest.hexdigest()


def origin() -> dict[str, Any]:
    """What a line has to have in common with what runs now, to count."""
    runtimes = {name: version for name in RUNTIMES if (version := version_of(name))}
    return {"code": code(), "host": host().fingerprint, "runtimes": runtimes}


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


@dataclass(frozen=True)
class Rule:
    """What has to be shown: of so many gates at least a share has one of these verdicts.

    Attributes:
        verdicts: that are right.
        least: the share.
    """

    verdicts: tuple[str, ...]
    least: float

    def state(self, verdicts: Iterable[str], count: int) -> Literal["holds", "fails", "open"]:
        """Whether it holds of ``count`` gates, whatever those end in that were not made yet."""
        counts = Counter(verdicts)
        right = sum(counts[one] for one in self.verdicts)
        wanted = math.ceil(self.least * count - 1e-9)
        if right >= wanted:
            return "holds"
        return "fails" if sum(counts.values()) - right > count - wanted else "open"

    @property
    def words(self) -> str:
        """It in words."""
        return f"{' or '.join(self.verdicts)} in at least {self.least:.0%}"


def state_of(rules: Iterable[Rule], verdicts: Iterable[str], count: int) -> Literal["holds", "fails", "open"]:
    """Of several rules together: one that fails decides, then one that is open."""
    told = list(verdicts)
    states = {rule.state(told, count) for rule in rules}
    return "fails" if "fails" in states else "open" if "open" in states else "holds"
