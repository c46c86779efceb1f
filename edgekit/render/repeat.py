"""The commands that make a run again, without a path of the machine that it was made on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from pydantic import JsonValue

from edgekit.recipe import LOCK_FILE
from edgekit.report import Report

OUT = "OUT"
# What the user said beside the recipe: options of one value, of several between commas, and those given again for each.
_SINGLE = ("student", "weights", "input", "preprocess", "layout", "metric", "max_length")
_JOINED = ("mean", "std", "labels")
_REPEATED = ("state",)
MAX_LABELS = 20


def compress_command(report: Report) -> list[str]:
    """The command that repeats a run by its lock, as words."""
    source = report.source
    words = ["edgekit", "compress", str(source.get("name") or "MODEL")]
    if source.get("commit"):
        words += ["--revision", str(source["commit"])]
    if report.data:
        words += ["--data", str(report.data.get("name") or "DATA")]
    if source.get("kind") not in (None, "transformers"):
        words += ["--task", report.task]
    words += ["--target", report.target, "--recipe", LOCK_FILE, *_options(report.options)]
    if report.artifact.format == "tflite":
        words += ["--format", "tflite"]
    if report.strict:
        words.append("--strict")
    return [*words, "-o", OUT]


def shell(words: list[str]) -> str:
    """Words as a shell reads them, an option and its value to a line."""
    lines = [[]] if not words else [[shlex.quote(words[0])]]
    for word in words[1:]:
        if word.startswith("-"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n    ".join(" ".join(line) for line in lines)


def repeat_notes(report: Report) -> list[str]:
    """What has to be there for the command to give the same."""
    notes = [
        f"{LOCK_FILE} lies beside the report. It holds the settings, the seed, the threads and what was decided by"
        " measuring, so that the run decides nothing again."
    ]
    local = [
        noun
        for noun, here in (
            ("model", not report.source.get("commit")),
            ("student", "student" in report.options),
            ("weights", "weights" in report.options),
            ("pre-processing", "preprocess" in report.options),
            ("data", bool(report.data) and not from_hub(report)),
        )
        if here
    ]
    if local:
        verb = "was" if len(local) == 1 else "were"
        notes.append(
            f"The {' and the '.join(local)} {verb} local: give the path. The lock refuses others, by their sha256."
        )
    notes.append("The same versions on a processor of the same level give the same bytes.")
    return notes


def from_hub(report: Report) -> bool:
    """Whether the data came from the hub: its digest is a commit there, and a sha256 where it was local."""
    return len(str(report.data.get("digest", ""))) == 40


def _options(options: Mapping[str, JsonValue]) -> list[str]:
    words: list[str] = []
    for name in _SINGLE:
        if options.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    for name in _JOINED:
        values = options.get(name)
        if isinstance(values, list):
            written = ",".join(str(value) for value in values)
            words += [f"--{name}", written if len(values) <= MAX_LABELS else name.upper()]
    for name in _REPEATED:
        values = options.get(name)
        for value in values if isinstance(values, list) else ():
            words += [f"--{name}", str(value)]
    columns = options.get("columns")
    if isinstance(columns, dict) and columns:
        words += ["--columns", ",".join(f"{ours}={theirs}" for ours, theirs in columns.items())]
    return words
