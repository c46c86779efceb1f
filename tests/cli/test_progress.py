from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console

from edgekit.cli.progress import Drawn, Lines, watch
from edgekit.progress import Silent


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None, highlight=False)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_watch_draws_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with watch(console(terminal=True), quiet=False) as progress:
        assert isinstance(progress, Drawn)
    with watch(console(terminal=False), quiet=False) as progress:
        assert type(progress) is Lines
    monkeypatch.setenv("TERM", "dumb")
    with watch(console(terminal=True), quiet=False) as progress:
        assert type(progress) is Lines
    with watch(console(terminal=True), quiet=True) as progress:
        assert isinstance(progress, Silent)


def test_drawn_step_leaves_one_line_behind(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("edgekit.cli.progress.time", SimpleNamespace(monotonic=lambda: 7.0))
    screen = console(terminal=True)
    with watch(screen, quiet=False) as progress:
        progress.start("distill [1/3]", 100)
        progress.advance(50, "loss 0.21")
        progress.finish("accuracy 91.2%")
    assert text(screen).rstrip().endswith("distill [1/3]: accuracy 91.2% (0.0 s)")


def test_open_step_is_taken_away_when_the_work_fails(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = console(terminal=True)
    progress = Drawn(screen)
    progress.start("distill", None)
    progress.start("export", 1)
    progress.close()
    assert "(0.0 s)" not in text(screen)
    assert text(screen).endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[?25h" in text(screen)


def test_line_of_a_step_is_not_broken_at_the_edge():
    screen = console(terminal=False)
    progress = Lines(screen)
    progress.start("measure", 4)
    progress.advance()
    progress.finish("word " * 30)
    assert len(text(screen).splitlines()) == 1
