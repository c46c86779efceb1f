"""What is looked at in data before ``datasets`` reads it: what is packed, what a card names, how deep JSON is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from edgekit.bounds import MAX_CARD_BYTES, MAX_NESTING, MIB, check_yaml, inside
from edgekit.errors import DataError
from edgekit.source import CARD

# What datasets would unpack by itself.
PACKED = (".7z", ".bz2", ".gz", ".lz4", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst")
# Where datasets looks for settings: the header of a card, and a file that is nothing else.
SETTINGS = ".huggingface.yaml"
# Why what lies elsewhere is refused: its change would not show in the digest either.
ELSEWHERE = "nothing but what lies in the folder and is not hidden is read"
JSON = (".json", ".jsonl", ".ndjson", ".geojson")
# So much is read at once, to the end of its last line.
BLOCK = 16 * MIB
# What stands between quotes: brackets in there nest nothing.
_TEXT = re.compile(rb'"(?:[^"\\\n]++|\\[^\n])*+"?')
_ALL_BUT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))


def check_folder(folder: Path, files: Sequence[Path]) -> None:
    """Refuse what ``datasets`` would unpack, expand or fetch before anybody has looked at it.

    Raises:
        DataError: a packed file, a card that grows when it is read or that names data elsewhere, or JSON too deep.
    """
    packed = next((file for file in files if file.suffix.lower() in PACKED), None)
    if packed is not None:
        raise DataError(
            f"the data folder {str(folder)!r} holds the packed file {packed.name!r}",
            id="data.unreadable",
            why="what a packed file becomes is not known before it is unpacked",
            hint="Unpack it yourself, and remove it.",
        )
    for name in (CARD, SETTINGS):
        if (folder / name).exists():
            _check_card(folder, name)
    for file in files:
        check_file(file)


def check_file(file: Path) -> None:
    """Refuse JSON that is deeper than data is: Arrow's reader follows lists in lists until its stack ends.

    Raises:
        DataError: it is.
    """
    if file.suffix.lower() in JSON and _is_deep(file):
        raise DataError(
            f"the data in {file.name!r} cannot be read",
            id="data.unreadable",
            why=f"it is nested deeper than {MAX_NESTING}",
        )


def _is_deep(file: Path) -> bool:
    """Whether more lists and tables are open in each other somewhere than may be."""
    opened = b""
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            opened += _TEXT.sub(b"", block + stream.readline()).translate(None, _ALL_BUT_BRACKETS)
            for _ in range(MAX_NESTING):  # each turn closes the innermost
                opened = opened.replace(b"[]", b"").replace(b"{}", b"")
                if not opened:
                    break
            still_open = opened.count(b"[") + opened.count(b"{")
            if b"[]" in opened or b"{}" in opened or still_open > MAX_NESTING:
                return True
            opened = opened.replace(b"]", b"").replace(b"}", b"")  # what closes more than there is is no JSON
    return False


def _check_card(folder: Path, name: str) -> None:
    """Look at the settings that a data folder has for ``datasets``.

    Raises:
        DataError: they are no plain file of a card's size, grow when they are read, or name data elsewhere or hidden.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK  # by which datasets finds the header

    card = folder / name
    try:
        if not card.is_file():
            raise ValueError("it is no plain file")
        if card.stat().st_size > MAX_CARD_BYTES:
            raise ValueError(f"it has {card.stat().st_size} bytes; allowed: {MAX_CARD_BYTES}")
        text = card.read_bytes().decode("utf-8")
        if name == CARD:
            found = REGEX_YAML_BLOCK.search(text)
            text = found[2] if found else ""
        check_yaml(text)
    except ValueError as error:
        raise DataError(
            f"the card {name} of the data folder {str(folder)!r} is not read", id="data.unreadable", why=str(error)
        ) from error
    away = next((place for place in _places(text) if _is_away(place)), None)
    if away is not None:
        raise DataError(
            f"the card {name} of the data folder {str(folder)!r} names data elsewhere: {away!r}",
            id="data.elsewhere",
            why=ELSEWHERE,
        )


def _is_away(place: str) -> bool:
    """Whether a card names what is not in the folder, or is hidden there: ``datasets`` reads that where it is named."""
    return not inside(place.removeprefix("./")) or "::" in place or is_hidden(place)


def is_hidden(name: str) -> bool:
    """Whether a file below a folder is hidden there, or a folder above it is."""
    return any(part.startswith(".") for part in PurePath(name).parts)


def _places(text: str) -> Iterator[str]:
    """The files and folders that a card's settings name, for each configuration of the data."""
    import yaml

    settings = yaml.safe_load(text)
    configurations = settings.get("configs") if isinstance(settings, dict) else None
    for one in configurations if isinstance(configurations, list) else ():
        if isinstance(one, dict):
            for key in ("data_files", "data_dir"):
                yield from _texts(one.get(key))


def _texts(values: Any) -> Iterator[str]:
    """The texts in lists and tables, but for the names of splits."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, list):
        for one in values:
            yield from _texts(one)
    elif isinstance(values, dict):
        for key, one in values.items():
            if key != "split":
                yield from _texts(one)
