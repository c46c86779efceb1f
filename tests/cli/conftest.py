"""Running the command line inside the test's process, over pretended functions of `edgekit`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import edgekit
from edgekit.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything beside it is an error."""
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, Any]:
        """The error that the document carries."""
        document = self.document
        assert set(document) == {"schema", "error"}
        assert document["schema"] == "edgekit.error/1"
        return dict(document["error"])

    @property
    def told(self) -> str:
        """Stderr, as if the terminal had no edge."""
        return " ".join(self.stderr.split())


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command line; captures what any code writes to the two file descriptors."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("EDGEKIT_DEBUG", raising=False)
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        code = main(arguments)
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put pretended functions in the place of ``edgekit``'s public ones."""

    def put(**functions: object) -> None:
        for name, function in functions.items():
            monkeypatch.setitem(vars(edgekit), name, function)  # setattr would first load the real one

    return put


@pytest.fixture
def pretend_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module of pretended functions in the place of ``edgekit.NAME``."""

    def put(name: str, **functions: object) -> None:
        module = ModuleType(f"edgekit.{name}")
        for function_name, function in functions.items():
            setattr(module, function_name, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


@dataclass
class Recorder:
    """A function that keeps what it was called with, and returns or raises what it was told to."""

    result: object = None
    arguments: tuple[object, ...] = ()
    keywords: dict[str, Any] | None = None

    def __call__(self, *arguments: object, **keywords: object) -> object:
        self.arguments, self.keywords = arguments, keywords
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result() if callable(self.result) else self.result


@pytest.fixture
def recorder() -> Callable[[object], Recorder]:
    """A recording function that gives ``result``: returned, raised where it is an exception, called where it can be."""
    return Recorder
