"""Sizes as people write them: ``10GB``, ``500 MB``, ``2GiB``."""

from __future__ import annotations

import re

from edgekit.errors import UsageError

# Sizes go by powers of 1000, as everywhere in edgekit; the binary ones by their own names.
BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_FIGURE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?) ?([A-Za-z]*)")


def read_size(text: str, option: str) -> int:
    """A size in bytes: ``10GB`` is 10^10; ``10GiB`` is 10 * 2^30.

    Raises:
        UsageError: none.
    """
    number, unit = read_figure(text)
    if number is not None and unit in BYTES:
        return round(number * BYTES[unit])
    alike = [name for name in BYTES if name.lower() == unit.lower() or name[:1].lower() == unit.lower() != "b"]
    guess = f"Did you mean '{number:.15g}{alike[0]}'?" if number is not None and alike else ""
    raise UsageError(
        f"{option} {text!r} is no size",
        id="usage.bad-value",
        why=f"allowed: a number with {', '.join(BYTES)}, such as 10GB or 500MB",
        hint=guess,
    )


def read_figure(text: str) -> tuple[float | None, str]:
    """A number of at most 15 digits, which a float holds, and the unit behind it; None where there is none."""
    match = _FIGURE.fullmatch(text.strip())
    return (float(match[1]), match[2]) if match else (None, "")
