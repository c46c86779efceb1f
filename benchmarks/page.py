"""Parts of a page that a script writes: what stands between two marks, ``<!-- NAME: begin -->`` and its end."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, name: str, text: str) -> None:
    """Put a text between the marks of a page; what stands around them stays.

    Args:
        page: a Markdown file.
        name: of the part.
        text: new, with its last line ended.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise SystemExit(f"{page.name} lacks the marks {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")
