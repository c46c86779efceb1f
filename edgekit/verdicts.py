"""The verdict on each limit: met by the figure that was found, proven by its one-sided 95 % bound."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.measure.quality import exceeds
from edgekit.recipe import Limits
from edgekit.report import LimitVerdict, Quality


@dataclass(frozen=True)
class Found:
    """What limits are held against.

    Attributes:
        quality: beside the original; None without data.
        p50_ms: of the workload; None where it was not timed.
        p50_bound_ms: one-sided 95 % bound of it; None where it cannot be told.
        megabytes: of the model files.
        instructions: of one inference on the dearest emulated device; None where none were counted.
        seconds: that the run took.
    """

    quality: Quality | None
    p50_ms: float | None
    p50_bound_ms: float | None
    megabytes: float
    instructions: int | None
    seconds: float


def verdicts(limits: Limits, found: Found) -> tuple[LimitVerdict, ...]:
    """The verdict on every limit that was set."""
    quality = found.quality
    drops = (None, None) if quality is None else (quality.drop, quality.drop_high)
    told = {
        "max_drop": (limits.max_drop, *drops),
        "max_ms": (limits.max_ms, found.p50_ms, found.p50_bound_ms),
        "max_mb": (limits.max_mb, found.megabytes, found.megabytes),
        "max_instructions": (limits.max_instructions, found.instructions, found.instructions),
        "time": (limits.time, found.seconds, found.seconds),
    }
    return tuple(_verdict(name, bound, value, high) for name, (bound, value, high) in told.items() if bound is not None)


def _verdict(name: str, bound: float, value: float | None, high: float | None) -> LimitVerdict:
    if value is None:
        return LimitVerdict(limit=name, bound=bound, value=None, met=None, proven=None)
    met = not exceeds(value, bound)
    proven = met and not exceeds(high, bound) if high is not None else None if met else False
    return LimitVerdict(limit=name, bound=bound, value=value, met=met, proven=proven)
