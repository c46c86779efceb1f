"""`edgekit.progress.Progress` on stderr: a bar on a terminal, a line for each finished step anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from edgekit.progress import Progress, Silent
from edgekit.render.figures import duration


class Lines:
    """One short line for each finished step.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._label = ""
        self._started = 0.0

    def start(self, label: str, total: int | None = None) -> None:
        """Begin a step."""
        del total
        self._label, self._started = label, time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Nothing is drawn before the end."""
        del steps, note

    def finish(self, note: str = "") -> None:
        """Write the line of the step."""
        took = duration(time.monotonic() - self._started)
        self.console.print(
            Text(f"{self._label}: {note} ({took})" if note else f"{self._label} ({took})"), soft_wrap=True
        )

    def close(self) -> None:
        """Nothing is open."""


class Drawn(Lines):
    """A bar while a step runs, and its line when it is done."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars: Bars | None = None
        self._task = TaskID(0)

    def start(self, label: str, total: int | None = None) -> None:
        """Begin a step; one that is still open ends without a line."""
        self.close()
        super().start(label)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            transient=True,
        )
        self._task = self._bars.add_task(label, total=total, note="")
        self._bars.start()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""
        if self._bars is not None and note:
            self._bars.update(self._task, advance=steps, note=note)
        elif self._bars is not None:
            self._bars.advance(self._task, steps)

    def finish(self, note: str = "") -> None:
        """Replace the bar by the line of the step."""
        self.close()
        super().finish(note)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


@contextlib.contextmanager
def watch(console: Console, *, quiet: bool) -> Iterator[Progress]:
    """The progress that suits ``console``; whatever it still draws is taken away at the end.

    Args:
        console: stderr.
        quiet: nothing at all.
    """
    if quiet:
        yield Silent()
        return
    drawn = console.is_terminal and not console.is_dumb_terminal
    progress = Drawn(console) if drawn else Lines(console)
    try:
        yield progress
    finally:
        progress.close()
