"""HTML by construction: text becomes markup in one place only, and is escaped there.

``element("b", label)`` escapes ``label``; what ``element`` returned before is taken as it is. So a label of
``</script><b>`` is text on every page, whoever wrote the section that shows it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# Characters of a name or a reason that are shown; the whole of it is in report.json.
LONGEST = 300
VOID = {"meta", "br"}
# What XML 1.0 does not allow in any form, and a terminal or an editor might obey; tab and line feed stay.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Html(str):
    """Markup: text that is not escaped again."""

    __slots__ = ()


Child = str | None


def text(value: str) -> Html:
    """Text as markup: escaped, shortened when it is very long, without control characters."""
    return value if isinstance(value, Html) else Html(_escape(value))


def element(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """One element.

    Args:
        name: of the tag.
        *children: markup as it is, other text escaped, None left out.
        **attributes: ``class_`` for ``class``, ``_`` for ``-``; None is left out, a float is written short.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(children)
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{inside}</{name}>")


def join(children: Iterable[Child], separator: str = "") -> Html:
    """Children one after the other."""
    return Html(separator.join(text(child) for child in children if child is not None))


def table(
    head: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    kinds: str,
    caption: str,
    class_: str | None = None,
) -> Html:
    """A table whose first column names the rows.

    Args:
        head: names of the columns.
        rows: cells, the first of each names the row.
        kinds: a letter a column: ``t`` text, ``n`` number, ``b`` bar, ``c`` centred.
        caption: what the table shows, for those who do not see where it stands.
        class_: of the table.
    """
    names = {"t": None, "n": "n", "b": "b", "c": "c"}
    classes = [names[kind] for kind in kinds]
    header = [element("th", cell, scope="col", class_=kind) for cell, kind in zip(head, classes, strict=True)]
    body = []
    for first, *rest in rows:
        cells = [element("td", cell, class_=kind) for cell, kind in zip(rest, classes[1:], strict=True)]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *header)),
            element("tbody", *body),
            class_=class_,
        ),
        class_="scroll",
        role="region",
        tabindex="0",
        aria_label=caption,
    )


def section(name: str, heading: str, *children: Child, lead: Child = None) -> Html:
    """A section with its heading, and a sentence that says what it shows."""
    return element(
        "section",
        element("h2", heading, id=f"{name}-heading"),
        None if lead is None else element("p", lead, class_="lead"),
        *children,
        id=name,
        aria_labelledby=f"{name}-heading",
    )


def items(texts: Iterable[Child], class_: str | None = None) -> Html:
    """A list."""
    return element("ul", *(element("li", entry) for entry in texts), class_=class_)


def facts(pairs: Iterable[tuple[Child, Child]]) -> Html:
    """Names with what they are."""
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs), class_="facts"
    )


def note(*children: Child) -> Html:
    """Small print."""
    return element("p", *children, class_="note")


def minus(figure: str) -> str:
    """A figure with a real minus sign, which is as wide as a plus."""
    return re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", figure)


def _attribute(value: str | float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else _escape(str(value))


def _escape(value: str) -> str:
    shown = value if len(value) <= LONGEST else value[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return html.escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", shown))
