"""What stands in the documentation's code blocks: commands with the output shown, Python, and files."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?$')
# Commands in indented blocks have these words where a reader puts his own; a module given as code reads images.
PLACEHOLDERS = {
    "MODEL": "./my-model",
    "DATA": "./my-data",
    "OUT": "out",
    "NEW": "./new",
    "OLD": "./old",
    "DIR": "./bundle",
}
IMAGES = PLACEHOLDERS | {"DATA": "./my-images"}
INDENTED = re.compile(r"^    (edgekit .+?)(?:\s{2,}.*)?$")


@dataclass(frozen=True)
class Step:
    """Something in a page that is run, or a file that it shows.

    Attributes:
        place: page and line; what is generated has the line of its marker.
        kind: ``command``, ``python``, or ``file``.
        text: the command, the code, or the file's content.
        shown: the output that the page shows; None where it shows none.
        name: of a file.
        section: the heading that it stands under.
    """

    place: str
    kind: str
    text: str
    shown: list[str] | None = None
    name: str = ""
    section: str = ""


def generator() -> ModuleType:
    """docs/generate.py, as mkdocs loads it."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(DOCS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


GENERATE = generator()


def pages() -> list[str]:
    """Every page of the documentation, and the README."""
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))]


def read_steps(page: str) -> list[Step]:
    """The steps of a page in order, generated ones too."""
    return list(_steps((ROOT / page).read_text(encoding="utf-8").splitlines(), page, 1))


def _steps(lines: list[str], page: str, first: int, at: int | None = None) -> Iterator[Step]:
    """The steps in lines; ``at`` is the number to name for all of them."""
    number, section = 0, ""
    while number < len(lines):
        line, place = lines[number], f"{page}:{at or first + number}"
        number += 1
        marker, fence, indented = GENERATE.MARKER.match(line), FENCE.match(line), INDENTED.match(line)
        if marker:
            text = GENERATE.generate(marker[1], marker[2])
            yield from _steps(text.splitlines(), page, 1, at=at or first + number - 1)
        elif fence:
            end = lines.index("```", number)
            for step in _block(fence[1], fence[2], lines[number:end], place, at is None):
                yield replace(step, section=section)
            number = end + 1
        elif indented:
            words = IMAGES if "net.py:" in line else PLACEHOLDERS
            text = re.sub(r"\b[A-Z]+\b", lambda word, words=words: words.get(word[0], word[0]), indented[1])
            yield Step(place, "command", text, section=section)
        elif line.startswith("## "):
            section = line.removeprefix("## ")


def _block(language: str, title: str | None, lines: list[str], place: str, counted: bool) -> Iterator[Step]:
    if title is not None:
        yield Step(place, "file", "\n".join(lines) + "\n", name=title)
    elif language == "python":
        yield Step(place, "python", "\n".join(lines))
    elif language in ("sh", "console"):
        yield from _commands(lines, place, counted, prompt="$ " if language == "console" else "")


def _commands(lines: list[str], place: str, counted: bool, prompt: str) -> Iterator[Step]:
    """Commands of a block; a line that ends in a backslash goes on in the next."""
    page, _, number = place.rpartition(":")
    text, shown, where = "", [], place
    for offset, line in enumerate(lines, 1):
        goes_on = text.endswith("\\")
        if goes_on:
            text = text[:-1] + line.strip()
        elif line.startswith(prompt) and line.strip() and not line.startswith("#"):
            if text:
                yield Step(where, "command", text, shown or None)
            text, shown = line.removeprefix(prompt), []
            where = f"{page}:{int(number) + offset * counted}"
        elif prompt:
            shown.append(line.rstrip())
    if text:
        yield Step(where, "command", text, shown or None)
