"""Sources in languages that have no compiler here, parsed by tree-sitter's grammars."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GRAMMARS = {
    ".swift": "tree_sitter_swift",
    ".dart": "tree_sitter_dart_orchard",
    ".kt": "tree_sitter_kotlin",
    ".kts": "tree_sitter_kotlin",
}


def faults(file: Path) -> list[str]:
    """The places in a source that its grammar does not take."""
    tree_sitter: Any = pytest.importorskip("tree_sitter", reason="the parsers are not installed: the extra [dev]")
    grammar = importlib.import_module(GRAMMARS[file.suffix])
    content = file.read_bytes()
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(content)
    return [f"{file.name}:{node.start_point[0] + 1}: {node.type}" for node in _wrong(tree.root_node)]


def _wrong(node: Any) -> Iterator[Any]:
    if node.type == "ERROR" or node.is_missing:
        yield node
    for child in node.children:
        yield from _wrong(child)


def sources(folder: Path, *suffixes: str) -> list[Path]:
    """The sources of a bundle in its languages."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix in suffixes]
