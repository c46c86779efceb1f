"""The frame of every page: one file that asks for nothing, under a policy that would refuse it anyway."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from edgekit.render.html.markup import Child, Html, element, join

GENERATOR = "edgekit"
# How a page of edgekit begins: a file that begins otherwise is never written over.
OPENING = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="{GENERATOR}">'


@cache
def style() -> str:
    """The style sheet, as it stands in every page."""
    return resources.files("edgekit.render.html").joinpath("style.css").read_text(encoding="utf-8")


def document(title: str, *body: Child, contents: Sequence[tuple[str, str]], foot: Child) -> str:
    """A whole page.

    Args:
        title: of the browser's tab.
        *body: what stands in it.
        contents: identifiers of the sections with their names.
        foot: the last line.
    """
    sheet = style()
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    first, *rest = body
    links = [element("li", element("a", name, href=f"#{section}")) for section, name in contents]
    return OPENING + join(
        (
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="referrer", content="no-referrer"),
            element("title", title),
            Html(f"<style>{sheet}</style>"),
            Html("</head>\n<body>"),
            element(
                "main",
                first,
                element("nav", element("ul", *links), aria_label="sections") if links else None,
                *rest,
                element("footer", foot),
            ),
            Html("</body></html>\n"),
        )
    )
