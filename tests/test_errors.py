from __future__ import annotations

import pytest

from edgekit import errors
from edgekit.errors import EdgekitError, UnknownNameError

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
    assert set(error.as_dict()) == {"kind", "exit_code", "what", "why", "hint"}


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
