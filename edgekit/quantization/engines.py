"""What a quantizer made, and which of two serves better: within the tolerance, then faster, smaller, closer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from pydantic import JsonValue

from edgekit.artifact import Artifact
from edgekit.formats.graphs import count_operators
from edgekit.measure.latency import MARGIN, Timings
from edgekit.measure.quality import exceeds
from edgekit.measure.statistics import Interval
from edgekit.quantization.litert import LiteRTScheme
from edgekit.quantization.schemes import Scheme
from edgekit.report import MEGABYTE

EngineName = Literal["onnxruntime", "neural-compressor", "both"]


@dataclass(frozen=True)
class Standing:
    """What is known of one quantizer's result.

    Attributes:
        engine: its name.
        size_bytes: of the graphs.
        drop: loss of the metric on the selection split; None where it cannot be known.
    """

    engine: str
    size_bytes: int
    drop: float | None


@dataclass(frozen=True)
class Candidate:
    """What one quantizer made.

    Attributes:
        engine: its name.
        artifact: what it made.
        scheme: how.
        layers: how many could be quantized.
        fallbacks: those that stayed in float.
        check: what was seen on the selection split; None where there is none.
        width: how wide weights are and why; None where nothing depends on it.
        notes: what the report says beside the rest.
    """

    engine: str
    artifact: Artifact
    scheme: Scheme | LiteRTScheme
    layers: int
    fallbacks: list[str]
    check: dict[str, JsonValue] | None
    width: dict[str, JsonValue] | None
    notes: dict[str, JsonValue]

    def details(self) -> dict[str, JsonValue]:
        """What the report says of it."""
        operators = {name: count_operators(self.artifact.file(name)) for name in self.artifact.manifest.components}
        return {
            "engine": self.engine,
            "scheme": self.scheme.model_dump(mode="json"),
            "layers": self.layers,
            "fallback_layers": cast("JsonValue", self.fallbacks),
            "selection_check": self.check,
            "weights": self.width,
            "operators": cast("JsonValue", operators),
            **self.notes,
        }

    def standing(self) -> Standing:
        """What the choice between two goes by."""
        found = (self.check or {}).get("drop_with_fallback" if self.fallbacks else "drop")
        return Standing(self.engine, self.artifact.size_bytes, cast("float | None", found))


class Choice(NamedTuple):
    """The quantizer whose result stays, and the sentence that says why."""

    engine: str
    reason: str


def choose_engine(
    first: Standing, second: Standing, slowdown: tuple[float, Interval] | None, tolerance: float
) -> Choice:
    """The better of two; the first where nothing tells them apart.

    Args:
        first: the one that is the default.
        second: the other.
        slowdown: latency of the second over the first's, with a 99 % interval; None where it cannot be timed.
        tolerance: drop on the selection split that is accepted.
    """
    pair = {standing: standing.drop is None or not exceeds(standing.drop, tolerance) for standing in (first, second)}
    if pair[first] != pair[second]:
        inside, outside = (first, second) if pair[first] else (second, first)
        assert outside.drop is not None  # what is not known is not outside
        lost = f"{outside.drop * 100:.2f} points on the selection split, allowed {tolerance * 100:.2f}"
        return Choice(inside.engine, f"{outside.engine} loses {lost}")
    if slowdown is not None:
        ratio, interval = slowdown
        if interval.high < 1 and ratio < 1 - MARGIN:
            return Choice(second.engine, f"{1 / ratio:.2f}x as fast as {first.engine}")
        if interval.low > 1 and ratio > 1 + MARGIN:
            return Choice(first.engine, f"{ratio:.2f}x as fast as {second.engine}")
    equal = "as fast" if slowdown is not None else "not timed"
    small, large = sorted((first, second), key=lambda standing: standing.size_bytes)
    if small.size_bytes < large.size_bytes * (1 - MARGIN):
        sizes = f"{small.size_bytes / MEGABYTE:.1f} against {large.size_bytes / MEGABYTE:.1f} MB"
        return Choice(small.engine, f"smaller, {sizes}; {equal}")
    if first.drop is not None and second.drop is not None and second.drop < first.drop:
        points = f"{(first.drop - second.drop) * 100:.2f} points less"
        return Choice(second.engine, f"loses {points} on the selection split than {first.engine}; {equal}, as small")
    return Choice(first.engine, f"{second.engine} is no better; {equal}, as small")


def compare_candidates(made: Sequence[Candidate], timings: Timings | None, tolerance: float) -> JsonValue:
    """Which of one or two candidates stays, why, and the figures of each.

    Args:
        made: in the order in which they are preferred.
        timings: of both by engine, in one interleaved run; None where they were not timed.
        tolerance: drop on the selection split that is accepted.
    """
    names = [candidate.engine for candidate in made]
    rows: list[dict[str, JsonValue]] = [
        {
            "engine": candidate.engine,
            "size_bytes": candidate.artifact.size_bytes,
            "drop": candidate.standing().drop,
            "fallback_layers": len(candidate.fallbacks),
        }
        for candidate in made
    ]
    if len(made) == 1:
        return {"engine": names[0], "reason": "the only one that takes this model", "engines": cast("JsonValue", rows)}
    slowdown = None
    if timings is not None:
        slowdown = timings.slowdown(names[1], than=names[0])
        for row, name in zip(rows, names, strict=True):
            row["p50_ms"], row["samples"] = round(timings.p50(name), 4), len(timings.samples(name))
        ratio, interval = slowdown
        rows[1]["slowdown"] = [round(value, 4) for value in (ratio, interval.low, interval.high)]
    choice = choose_engine(made[0].standing(), made[1].standing(), slowdown, tolerance)
    return {"engine": choice.engine, "reason": choice.reason, "engines": cast("JsonValue", rows)}
