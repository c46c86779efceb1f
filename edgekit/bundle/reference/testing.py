"""The self-test of a bundle: is every file whole, and does the model answer here as it did where it was made?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .model import BUNDLE, Array, Model


def self_test(folder: str | Path) -> list[str]:
    """What is wrong, one line each; nothing when all is well.

    Files are looked at first, so that a damaged one is named, and not what follows from it.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / BUNDLE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{BUNDLE}: {error}"]
    problems = [*_file_problems(folder, description), *_label_problems(folder, description)]
    if problems:
        return problems
    model = Model.load(folder)
    stored = json.loads((folder / description["selftest"]).read_text(encoding="utf-8"))
    scale = max(abs(value) for case in stored["cases"] for value in case["output"]) or 1.0
    return [
        f"{description['selftest']}: sample {number}: {problem}"
        for number, case in enumerate(stored["cases"])
        for problem in _case_problems(folder, model, case, stored | {"scale": scale})
    ]


def _file_problems(folder: Path, description: dict[str, Any]) -> Iterator[str]:
    for name, record in description["files"].items():
        file = folder / name
        if not file.is_file():
            yield f"{name}: missing"
        elif file.stat().st_size != record["size_bytes"]:
            yield f"{name}: has {file.stat().st_size} bytes, not {record['size_bytes']}"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != record["sha256"]:
            yield f"{name}: changed (its SHA-256 is another one)"


def _label_problems(folder: Path, description: dict[str, Any]) -> Iterator[str]:
    answer = description["answer"]
    file = folder / answer["labels"]
    count = file.read_text(encoding="utf-8", errors="replace").count("\n") if file.is_file() else 0
    if count != answer["count"]:
        yield f"{answer['labels']}: {count} labels, and the model has {answer['count']} classes"


def _case_problems(folder: Path, model: Model, case: dict[str, Any], stored: dict[str, Any]) -> Iterator[str]:
    inputs = model.prepare(_raw(folder, case), case.get("pair"))
    for name, tensor in case["inputs"].items():
        expected = np.fromfile(folder / tensor["file"], tensor["dtype"]).reshape(tensor["shape"])
        allowed = 0 if tensor["dtype"] == "int64" else stored["input_tolerance"]
        if inputs[name].shape != expected.shape:
            yield f"{name} has the shape {inputs[name].shape}, not {expected.shape}"
            return
        difference = np.abs(inputs[name] - expected).max(initial=0)
        if difference > allowed:
            yield f"{name} differs by {difference:.3g}; allowed: {allowed:.3g}"
            return
        # A port's image may be a step of a pixel away: that does not count against the model.
        inputs[name] = expected.astype(inputs[name].dtype)
    output = model.output(inputs)
    expected = np.asarray(case["output"])
    difference = np.abs(output - expected).max() / stored["scale"]
    if not difference <= stored["tolerance"]:
        yield f"the output differs by {difference:.3g} of the largest answer; allowed: {stored['tolerance']:.3g}"
    label = model.labels[int(output.argmax())]
    if case["label"] not in (None, label):
        yield f"the label is {label!r}, not {case['label']!r}"


def _raw(folder: Path, case: dict[str, Any]) -> str | Array:
    if case.get("text") is not None:
        return str(case["text"])
    return np.fromfile(folder / case["image"], np.uint8).reshape(case["height"], case["width"], -1)
