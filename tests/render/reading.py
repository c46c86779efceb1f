"""Reading a page as a browser would, as far as tests need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br"}


@dataclass
class Node:
    """An element with its attributes, and the elements and texts inside it."""

    name: str
    attributes: dict[str, str]
    content: list[Node | str] = field(default_factory=list)

    @property
    def children(self) -> list[Node]:
        return [part for part in self.content if isinstance(part, Node)]

    @property
    def raw(self) -> str:
        """All the text below it, as it stands there."""
        return "".join(part if isinstance(part, str) else part.raw for part in self.content)

    @property
    def text(self) -> str:
        """All the text below it in one line, a space between elements."""
        parts = (part if isinstance(part, str) else f" {part.text} " for part in self.content)
        return " ".join("".join(parts).split())

    def all(self, name: str) -> list[Node]:
        """Every element of a name below it, in order."""
        found = [child for child in self.children if child.name == name]
        return [*found, *(node for child in self.children for node in child.all(name))]

    def one(self, key: str) -> Node:
        """The element with an identifier."""
        (found,) = [node for node in self.walk() if node.attributes.get("id") == key]
        return found

    def walk(self) -> list[Node]:
        """Itself and everything below it."""
        return [self, *(node for child in self.children for node in child.walk())]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def read(page: str) -> Node:
    """A page as a tree; an element that is not closed in order fails the test."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def rows(node: Node) -> list[list[str]]:
    """The texts of a table's cells, without its header."""
    (body,) = node.all("tbody")
    return [[cell.text for cell in row.children] for row in body.children]
