"""Where the time of an inference goes, by operator: the table of README.md, from the lines of `results/suite.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from page import put

NOTHING = "Not measured yet.\n"


def write_operators(rows: Sequence[Mapping[str, Any]], readme: Path) -> None:
    """Put the tables of some lines into the page; of a line that was not profiled there is none."""
    parts = [table(row) for row in rows if row.get("profile") and row["profile"]["after"]]
    put(readme, "operators", "\n".join(parts) if parts else NOTHING)


def table(row: Mapping[str, Any]) -> str:
    """The operators of a case before and after, and how far both are from what the machine can do."""
    found = row["profile"]
    lines = [
        f"### {row['case']}\n",
        "| operator | nodes before | ms | share | nodes after | ms | share |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    sides = [{one["operator"]: one for one in found[side][0]["operators"]} for side in ("before", "after")]
    longest = sorted({**sides[0], **sides[1]}, key=lambda kind: -sum(ms(side, kind) for side in reversed(sides)))
    lines += [f"| {kind} | {' | '.join(cells(side.get(kind)) for side in sides)} |" for kind in longest]
    return "\n".join([*lines, "", *limits(found), "", f"{row['host']}, measured {row['created'][:10]}.\n"])


def ms(side: Mapping[str, Any], kind: str) -> float:
    """Milliseconds of an inference in operators of a kind."""
    return float(side[kind]["ms"]) if kind in side else 0.0


def cells(one: Mapping[str, Any] | None) -> str:
    """Nodes, milliseconds and share of a kind of operator; nothing where there is none of it."""
    return " | | " if one is None else f"{one['nodes']} | {one['ms']:.3f} | {100 * one['share']:.1f} %"


def limits(found: Mapping[str, Any]) -> Iterator[str]:
    """Multiply-accumulates a second of both sides as shares of the INT8 limit, and how that was measured."""
    limit = found["int8"]
    for side, name in (("before", "The FP32 export"), ("after", "The artifact")):
        one = found[side][0]
        rate, share = one["gmacs_per_s"], one["int8_share"]
        if rate is None:
            yield f"{name}: {one['latency_ms']:.2f} ms; {one['macs_unknown_because']}."
        else:
            of_limit = "" if share is None else f", {100 * share:.1f} % of the INT8 limit"
            yield f"{name}: {one['latency_ms']:.2f} ms, {rate:.0f} GMAC/s{of_limit}."
    if limit is None:
        return
    yield (
        f"The INT8 limit is {limit['gmacs_per_s']:.0f} GMAC/s: {product(limit)}, the fastest of the products that were "
        f"run alone in the same runtime, on {found['threads']} thread"
        f"{'' if found['threads'] == 1 else 's'}, in the same interleaved run as the profile."
    )
    others = best_by_operator(found["rates"], limit)
    if others:
        told = [f"{rate['gmacs_per_s']:.0f} GMAC/s, {product(rate)}" for rate in others]
        yield f"Others reach at most: {'; '.join(told)}."


def product(rate: Mapping[str, Any]) -> str:
    """An operator with the types and the shape of its product."""
    m, k, n = rate["shape"]
    return f"{rate['operator']} {rate['types']} [{m}, {k}] x [{k}, {n}]"


def best_by_operator(rates: Sequence[Mapping[str, Any]], limit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The fastest product of each other operator and type, the fastest first."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for rate in sorted(rates, key=lambda one: -one["gmacs_per_s"]):
        best.setdefault((rate["operator"], rate["types"]), rate)
    return [rate for key, rate in best.items() if key != (limit["operator"], limit["types"])]
