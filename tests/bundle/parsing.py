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
    return [f"{file.name}:{node.start_point[0] + 1}: {node.type}" for node in _wrong(_tree(file))]


def blocks(file: Path) -> list[Any]:
    """A Gradle file's statements, without spaces; of a block its name and its statements."""
    return [_statement(node) for node in _tree(file).named_children if "comment" not in node.type]


def calls(file: Path) -> list[tuple[str, list[str]]]:
    """Each call in a Swift source: what is called, and the labels of its arguments, empty where there is none."""
    found = []
    for node in _below(_tree(file)):
        if node.type == "call_expression":
            given = next(one for one in _below(node.named_children[-1]) if one.type == "value_arguments")
            labels = [
                [one for one in each.named_children if one.type == "value_argument_label"]
                for each in given.named_children
            ]
            found.append((_text(node.named_children[0]), [_text(one[0]) if one else "" for one in labels]))
    return found


def _tree(file: Path) -> Any:
    tree_sitter: Any = pytest.importorskip("tree_sitter", reason="the parsers are not installed: the extra [dev]")
    grammar = importlib.import_module(GRAMMARS[file.suffix])
    return tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(file.read_bytes()).root_node


def _statement(node: Any) -> Any:
    if node.type == "call_expression" and node.named_children[-1].type == "annotated_lambda":
        inner = node.named_children[-1].named_children[0].named_children
        return _text(node.named_children[0]), [_statement(one) for one in inner if "comment" not in one.type]
    return "".join(_text(node).split())


def _text(node: Any) -> str:
    return str(node.text.decode())


def _below(node: Any) -> Iterator[Any]:
    yield node
    for child in node.named_children:
        yield from _below(child)


def _wrong(node: Any) -> Iterator[Any]:
    if node.type == "ERROR" or node.is_missing:
        yield node
    for child in node.children:
        yield from _wrong(child)


def sources(folder: Path, *suffixes: str) -> list[Path]:
    """The sources of a bundle in its languages."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix in suffixes]
