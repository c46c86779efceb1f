"""Every error by its stable id, as ``error_catalogue.toml`` has them; it is read when an error needs it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Entry(NamedTuple):
    """What is said of an id.

    Attributes:
        means: what happened, in one line.
        cause: how it usually comes about.
        remedy: what to do next.
    """

    means: str
    cause: str
    remedy: str


@cache
def load_catalogue() -> dict[str, Entry]:
    """Every entry by its id."""
    text = resources.files("edgekit").joinpath("error_catalogue.toml").read_text(encoding="utf-8")
    return {id_: Entry(**entry) for id_, entry in tomllib.loads(text).items()}


def remedy(id_: str) -> str:
    """What to do about an error of this id; empty for a kind alone."""
    entry = load_catalogue().get(id_)
    return entry.remedy if entry else ""
