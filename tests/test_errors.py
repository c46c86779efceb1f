from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import pytest
from docs.reading import GENERATE

from edgekit import errors
from edgekit.error_catalogue import load_catalogue
from edgekit.errors import DataError, EdgekitError, ModelError, UnknownNameError, retelling

PACKAGE = Path(errors.__file__).parent
CATALOGUE = load_catalogue()

EXIT_CODES = {
    "EdgekitError": 70,
    "VerificationError": 1,
    "UsageError": 2,
    "UnknownNameError": 2,
    "HostError": 3,
    "InputError": 4,
    "ModelError": 4,
    "DataError": 4,
    "ArtifactError": 4,
    "ResourceLimitError": 5,
}
CLASSES = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, EdgekitError)
}


def test_every_class_stands_in_the_table() -> None:
    assert {name: kind.exit_code for name, kind in CLASSES.items()} == EXIT_CODES


@pytest.mark.parametrize("name", EXIT_CODES)
def test_the_tree_in_the_docstring_is_the_tree_of_the_code(name: str) -> None:
    line = next(line for line in str(errors.__doc__).splitlines() if line.strip(" │├└─").startswith(f"{name} "))
    assert line.strip(" │├└─").split()[1] == str(EXIT_CODES[name])
    depth = len(CLASSES[name].__mro__) - len(EdgekitError.__mro__)
    assert len(line) - len(line.lstrip(" │├└─")) == 4 + 4 * depth


@pytest.mark.parametrize("name", EXIT_CODES)
def test_the_document_of_an_error_has_its_kind_and_code(name: str) -> None:
    kind = CLASSES[name]
    error = kind("target", "x", ["y"]) if kind is UnknownNameError else kind("what", why="why", hint="hint")
    assert error.as_dict()["exit_code"] == EXIT_CODES[name]
    assert set(error.as_dict()) == {"id", "kind", "exit_code", "what", "why", "hint"}


def test_the_text_is_what_why_and_hint_without_empty_lines() -> None:
    assert str(EdgekitError("what", why="why", hint="hint")) == "what\nwhy\nhint"
    assert str(EdgekitError("what", hint="hint")) == "what\nhint"
    assert str(EdgekitError("what")) == "what"


def test_an_unknown_name_lists_the_names_and_the_nearest() -> None:
    error = UnknownNameError("target", "x86-64-vni", ["arm64", "x86-64", "x86-64-vnni"], hint="Look.")
    assert error.what == "there is no target 'x86-64-vni'"
    assert error.why == "allowed: arm64, x86-64, x86-64-vnni"
    assert error.hint == "Did you mean 'x86-64-vnni' or 'x86-64'? Look."


def test_an_unknown_name_guesses_nothing_when_nothing_is_near() -> None:
    assert UnknownNameError("target", "zzz", ["arm64"]).hint == ""
    assert UnknownNameError("split", "zzz", []).why == "no split is known here"


SITES = sorted(
    (str(path.relative_to(PACKAGE)), node.lineno, str(name), {word.arg: word.value for word in node.keywords}.get("id"))
    for path in PACKAGE.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and (name := getattr(node.func, "id", getattr(node.func, "attr", ""))) in EXIT_CODES
)
# What the command line tells without an error of edgekit's own.
TOLD = {"internal", "interrupted", "terminated"}


def test_every_error_that_is_raised_has_an_id_of_the_catalogue_and_of_its_kind() -> None:
    wrong = [
        f"{file}:{line}"
        for file, line, name, id_ in SITES
        if not isinstance(id_, ast.Constant)
        or id_.value not in CATALOGUE
        or str(id_.value).partition(".")[0] != CLASSES[name].kind
    ]
    assert wrong == []
    assert len(SITES) > 150


def test_every_id_of_the_catalogue_is_used() -> None:
    used = {id_.value for *_, id_ in SITES if isinstance(id_, ast.Constant)}
    assert CATALOGUE.keys() - used == TOLD


def test_an_id_is_never_removed() -> None:
    promised = (Path(__file__).parent / "error_ids.txt").read_text(encoding="utf-8").split()
    assert set(promised) - CATALOGUE.keys() == set(), "an id is a promise: keep it, and raise it where it was raised"
    assert CATALOGUE.keys() - set(promised) == set(), "a new id is a promise: add it to tests/error_ids.txt"
    assert promised == sorted(set(promised))


@pytest.mark.parametrize("id_", CATALOGUE)
def test_an_entry_is_plain_sentences(id_: str) -> None:
    assert re.fullmatch(r"[a-z-]+(\.[a-z-]+)?", id_)
    for sentence in CATALOGUE[id_]:
        assert re.fullmatch(r"[A-Za-z0-9`-].*\.", sentence), sentence
        assert "|" not in sentence
    assert len(CATALOGUE[id_].means) <= 90


@pytest.mark.parametrize("id_", CATALOGUE)
def test_the_page_has_a_section_with_an_anchor_for_each_id(id_: str) -> None:
    entry = CATALOGUE[id_]
    section = GENERATE.generate("catalogue", None).split(f"#### {id_} {{#{id_}}}\n")[1].split("\n#")[0]
    assert section.split() == f"{entry.means} - Usual cause: {entry.cause} - What to do: {entry.remedy}".split()


def test_an_error_without_a_hint_of_its_own_has_the_remedy_of_its_id() -> None:
    assert DataError("no rows", id="data.empty").hint == CATALOGUE["data.empty"].remedy
    assert DataError("no rows", id="data.empty", hint="Look.").hint == "Look."
    assert (DataError("no rows").id, DataError("no rows").hint) == ("data", "")
    assert str(DataError("no rows", id="data.empty")) == "no rows"


class PanicException(BaseException):
    """As Rust's libraries raise it."""


@pytest.mark.parametrize("error", [KeyError("input_ids"), TypeError("a\n\nb"), PanicException("no such token")])
def test_what_a_library_raises_on_a_file_becomes_one_error(error: BaseException) -> None:
    with (
        pytest.raises(DataError) as caught,
        retelling(lambda why: DataError("not read", id="data.unreadable", why=why)),
    ):
        raise error
    assert caught.value.why == f"{type(error).__name__}: {' '.join(str(error).split())}"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        MemoryError(),
        ModelError("ours", id="model.missing"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_what_is_no_fault_of_the_file_is_left_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, retelling(lambda why: DataError("not read", id="data.unreadable")):
        raise error
    assert caught.value is error


def test_what_ran_out_is_told_where_a_library_wraps_it() -> None:
    full = OSError(errno.EDQUOT, "Disk quota exceeded")
    error = RuntimeError("no rows")
    error.__cause__ = ValueError("not written")
    error.__cause__.__cause__ = full
    with pytest.raises(OSError, match="quota") as caught, retelling(lambda why: DataError(why, id="data.unreadable")):
        raise error
    assert caught.value is full
