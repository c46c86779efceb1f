"""How long work tells the outside how far it is: a stage calls these three, the command line draws them."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One task at a time: ``start``, any number of ``advance``, ``finish``."""

    def start(self, label: str, total: int | None = None) -> None:
        """Begin something of ``total`` steps (None: unknown)."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Some steps are done; ``note`` is a short figure to show beside the bar."""

    def finish(self, note: str = "") -> None:
        """It is done; ``note`` sums it up in a line."""


class Silent:
    """Progress that nobody watches."""

    def start(self, label: str, total: int | None = None) -> None:
        del label, total

    def advance(self, steps: int = 1, note: str = "") -> None:
        del steps, note

    def finish(self, note: str = "") -> None:
        del note
