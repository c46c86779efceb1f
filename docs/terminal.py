"""A picture of what a command prints on a terminal of 80 columns: docs/terminal.py PICTURE.png COMMAND...

    python docs/terminal.py docs/assets/inspect-sst2-vnni.png edgekit inspect artifacts/sst2-vnni

Needs chromium (Debian: apt-get install chromium).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

COLUMNS, LINE_HEIGHT, CHARACTER = 80, 18, 8.43  # pixels, at 14 px of DejaVu Sans Mono
PAGE = (
    "<!doctype html><meta charset=utf-8><style>body{{margin:12px}}pre{{margin:0;"
    "font:14px/18px 'DejaVu Sans Mono',monospace}}{stylesheet}</style><pre>{code}</pre>"
)


def main() -> None:
    """Run the command, show what it wrote, and write the picture."""
    picture, *command = sys.argv[1:]
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    written = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    text = Text(f"$ {' '.join(map(_short, command))}\n", style="bold")
    text = Text.assemble(text, Text.from_ansi(written))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(text)
    page = console.export_html(theme=DEFAULT_TERMINAL_THEME, code_format=PAGE)
    lines = text.plain.rstrip().count("\n") + 2
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        size = f"{round(COLUMNS * CHARACTER) + 24},{lines * LINE_HEIGHT + 12}"
        browser = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
        subprocess.run([*browser, f"--screenshot={picture}", file.as_uri()], stderr=subprocess.DEVNULL, check=True)


def _short(argument: str) -> str:
    """An argument as the picture shows it: a path outside of this folder by its name alone."""
    return Path(argument).name if Path(argument).is_absolute() else argument


if __name__ == "__main__":
    main()
