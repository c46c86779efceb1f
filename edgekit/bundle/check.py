"""``bundle check``: the rules that a bundle has to keep, each a function that names what breaks it.

Nothing is run: a bundle is checked wherever it lies, without its runtime. What runs it is the self-test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgekit.artifact import walk
from edgekit.bounds import MAX_REPORT_BYTES, visible
from edgekit.bundle import rules
from edgekit.bundle.build import find_content
from edgekit.bundle.rules import Found, Given
from edgekit.bundle.schema import BUNDLE, Bundle
from edgekit.errors import ArtifactError
from edgekit.settings import Frozen, first_wrong


class Problem(Frozen):
    """One thing that is wrong: the rule that it breaks, the file, and what is the matter."""

    rule: str
    where: str
    what: str


class CheckRecord(Frozen):
    """A bundle and what was found; nothing where it is sound."""

    schema_: Literal["edgekit.bundle-check/1"] = Field("edgekit.bundle-check/1", alias="schema")
    path: str
    files: int
    rules: tuple[str, ...]
    problems: tuple[Problem, ...]


def check_bundle(path: str | Path) -> CheckRecord:
    """Check every rule.

    Raises:
        ArtifactError: there is no such directory.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ArtifactError(f"there is no directory {str(path)!r}", id="artifact.missing")
    content = find_content(root)
    if content is None:  # any folder, of which nothing can be told
        lacking = Problem(rule="description", where=BUNDLE, what="there has to be exactly one")
        return CheckRecord(path=str(path), files=0, rules=("description",), problems=(lacking,))
    files = walk(root)
    problems: list[Problem] = []
    given = _read(root, content, files, problems)
    for name, rule in rules.ALWAYS.items():
        problems += [_problem(name, found) for found in rule(given)]
    if given.bundle is not None:
        for name, described in rules.DESCRIBED.items():
            problems += [_problem(name, found) for found in described(given, given.bundle)]
    names = ("description", *rules.ALWAYS, *rules.DESCRIBED)
    return CheckRecord(path=str(path), files=len(files), rules=names, problems=tuple(problems))


def _read(root: Path, content: Path, files: list[Path], problems: list[Problem]) -> Given:
    """What the rules look at; ``bundle.json`` is the first rule."""
    try:
        bundle = _parse(content / BUNDLE)
    except ValueError as error:
        problems.append(Problem(rule="description", where=BUNDLE, what=first_wrong(error)))
        return Given(root, files, content, None)
    return Given(root, files, content, bundle)


def _parse(file: Path) -> Bundle:
    if file.stat().st_size > MAX_REPORT_BYTES:
        raise ValueError(f"it has {file.stat().st_size} bytes; allowed: {MAX_REPORT_BYTES}")
    return Bundle.model_validate_json(file.read_bytes())


def _problem(rule: str, found: Found) -> Problem:
    """A problem in characters that can be printed, whatever a file is called."""
    where, what = (visible(text.encode("utf-8", "backslashreplace").decode()) for text in found)
    return Problem(rule=rule, where=where, what=what)
