"""Figures as text, each with its unit: one way to write a share, a change, a size, a time, a ratio."""

from __future__ import annotations

import math

from edgekit.report import MEGABYTE

# Metrics that are shares of samples, or means of shares, read as percentages; others (correlations) as they are.
SHARES = ("accuracy", "f1", "exact_match", "agreement", "closeness")
SAME_RATIO = 0.005
MINUTE, HOUR = 60, 3600


def is_share(metric: str) -> bool:
    """Whether a metric reads as a percentage."""
    return metric.startswith(SHARES)


def quality(metric: str, value: float | None) -> str:
    """A metric's value: ``91.3%``, or ``0.913`` where it is no share."""
    if value is None:
        return "-"
    return f"{value * 100:.1f}%" if is_share(metric) else f"{value:.3f}"


def quality_change(metric: str, change: float | None, *, finer: bool = False) -> str:
    """A metric's change: ``-0.2 pp``, or ``-0.002`` where it is no share; finer, with one digit more."""
    if change is None:
        return ""
    return f"{signed(change * 100, 1 + finer)} pp" if is_share(metric) else signed(change, 3 + finer)


def points(metric: str, amount: float, *, finer: bool = False) -> str:
    """An amount of a metric, without a sign: ``0.2 pp``."""
    return quality_change(metric, abs(amount), finer=finer).lstrip("+")


def signed(value: float, digits: int) -> str:
    """A change with its sign; one that rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def size_digits(size_bytes: float) -> int:
    """Decimals that show megabytes of about this size to three figures."""
    megabytes = abs(size_bytes) / MEGABYTE
    return 1 if megabytes >= 10 else 2 if megabytes >= 1 else 3


def megabytes(size_bytes: float, digits: int | None = None) -> str:
    """A size in units of 10^6 bytes, without the unit."""
    return f"{size_bytes / MEGABYTE:.{size_digits(size_bytes) if digits is None else digits}f}"


def megabytes_change(change: float | None, digits: int) -> str:
    """A change of a size in units of 10^6 bytes; empty where there is none."""
    return "" if change is None else signed(change / MEGABYTE, digits)


def millions(value: float | None) -> str:
    """A number of instructions in units of 10^6."""
    return "-" if value is None else f"{value / 1e6:.1f}"


def millions_change(change: float | None) -> str:
    """A change of a number of instructions in units of 10^6; empty where there is none."""
    return "" if change is None else signed(change / 1e6, 1)


def milliseconds_change(change: float | None) -> str:
    """A change of a latency; empty where there is none."""
    return "" if change is None else signed(change, 2)


def milliseconds(value: float | None, *, finer: bool = False) -> str:
    """A latency without the unit."""
    return "-" if value is None else f"{value:.{2 + finer}f}"


def ratio(before: float | None, after: float | None, less: str, more: str, same: str) -> str:
    """How many times: ``6.1x faster``, in words for less and for more; empty where it cannot be told."""
    times = before / after if before and after else 0.0
    if not 0 < times < math.inf:
        return ""
    if abs(math.log(times)) < SAME_RATIO:
        return same
    return f"{times:.1f}x {less}" if times > 1 else f"{1 / times:.1f}x {more}"


def duration(seconds: float) -> str:
    """A time as people say it: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``1 h 12 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"


def roughly(seconds: float) -> str:
    """An estimated time: whole minutes from two minutes on."""
    return (
        duration(seconds) if seconds < 2 * MINUTE else duration(round(seconds / MINUTE) * MINUTE).replace(" 00 s", "")
    )


def storage(size_bytes: float) -> str:
    """Room on a disk: whole MB, from 1000 on GB."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{megabytes(size_bytes, 0)} MB"


def measurement(name: str, unit: str, value: float | None) -> str:
    """Any measurement with its unit."""
    if value is None:
        return "-"
    if unit == "bytes":
        return f"{megabytes(value)} MB"
    if unit == "ms":
        return f"{milliseconds(value)} ms"
    return quality(name, value) if unit == "1" else f"{value:g} {unit}"
