"""The retention curve: the share of the original's accuracy that is kept by artifacts several times faster.

    python benchmarks/retention.py                          MiniLM on SST-2, every point
    python benchmarks/retention.py --points default,8       two of them
    python benchmarks/retention.py --case fashion           the ViT on Fashion-MNIST; --case cifar: ResNet-20
    python benchmarks/retention.py --draw                   the page and the picture, from what was measured

A curve has two fixed points, quantization alone and the default recipe. The others are aims, how many times faster than
the FP32 export an artifact is to be, or shares of the multiply-accumulates that are to be left. What to prune for an
aim follows from the points that were measured before it, see `settings_to`; an aim that no pruning leads to, since
quantization alone is as fast or nothing would be left, is told and left out. All are trained alike, nothing is undone
for what it loses, and no point was chosen for its accuracy. A line of `results/retention.jsonl` is one point; one that
is there for the same code, packages and kind of processor is not run again, so that a curve may span several sittings.
The tables of all cases go into README.md, and the curve of SST-2 into `results/retention-sst2.svg`, beside the
published points of `published.toml`. The exit code is 1 where that one has fewer than five points.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lines import complete, latest, made_by, measured
from page import put
from retention_plot import Curve, draw
from run import ARTIFACTS, CASES, HERE, Case, compress

RESULTS = HERE / "results" / "retention.jsonl"
README, PUBLISHED = HERE / "README.md", HERE / "published.toml"
PICTURE, PICTURED = HERE / "results" / "retention-sst2.svg", "sst2"
# An encoder loses layers where more than these shares of its products go; among layers that are left, widths shrink.
LAYERS = ((0.35, 0.84), (0.8, 0.67), (1.0, 0.5))
FLOOR, NARROWEST = 0.2, 0.6  # the default of prune.floor; how far below the mean width a layer may go
MOST = 0.97  # of the multiply-accumulates: beyond that nothing sensible is left
FEWEST = 5  # points of the curve that is pictured


# Points without an aim, by the recipe that makes them: what the shares of the others are reckoned from.
FIXED = ("quantize", "default")


class OutOfReach(Exception):
    """No pruning leads to an aim; its text says of what that was told."""


@dataclass(frozen=True)
class Plan:
    """A curve.

    Attributes:
        case: model, data and target.
        aims: how many times faster the points after the fixed ones are to be; for encoders.
        shares: in their place, how much of the multiply-accumulates is to be left.
        note: what belongs under its table.
    """

    case: Case
    aims: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its points in order."""
        return (*FIXED, *map(str, self.aims or self.shares))


PLANS = {
    "sst2": Plan(CASES["sst2-vnni"], (4, 6, 8, 12, 16)),
    "fashion": Plan(CASES["fashion-vnni"], (4, 8, 12)),
    "cifar": Plan(
        replace(CASES["cifar-tflite"], format=None),
        shares=(0.9, 0.8, 0.7),
        note="The original saw these photographs in its training: the accuracies are no measure of unseen ones. Only "
        "channels inside of its blocks can go, and at least 16 of each layer stay.",
    ),
}


def settings_for(plan: Plan, which: str, known: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """What is to be pruned for a point, as settings of the default recipe; None where that is not known.

    Args:
        plan: the case.
        which: the aim or the share.
        known: points that were measured, at least two of them where it is an aim.
    """
    return settings_to(float(which), known) if plan.aims else {"prune.ratio": f"{1 - float(which):.4f}"}


def settings_to(aim: float, known: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """What is to be pruned of an encoder for an aim.

    Latency is taken as linear in the multiply-accumulates that are left, between the two measured points that are
    nearest to the aim: an encoder's time is in its products, whose number it is, and in what does not shrink with them.

    Args:
        aim: times faster than the FP32 export.
        known: points that were measured, at least two of them.
    """
    wanted = 1 / aim
    nearest = sorted(known, key=lambda row: abs(1 / row["speedup"] - wanted))[:2]
    (left, time), (other_left, other_time) = [(macs_left(row), 1 / row["speedup"]) for row in nearest]
    if left == other_left or time == other_time:
        return None
    ratio = 1 - (left + (wanted - time) * (other_left - left) / (other_time - time))
    if not 0 < ratio <= MOST:
        return None
    layers = next(share for most, share in LAYERS if ratio <= most)
    width = (1 - ratio) / layers
    settings = {"prune.ratio": f"{ratio:.4f}", "prune.layers": str(layers)}
    return settings | ({"prune.floor": f"{NARROWEST * width:.4f}"} if NARROWEST * width < FLOOR else {})


def macs_left(row: Mapping[str, Any]) -> float:
    """The share of the multiply-accumulates that pruning left."""
    return row["macs_after"] / row["macs_before"] if row["macs_before"] else 1.0


def point(key: str, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One line, by the case and the point: ``sst2/8``.

    Raises:
        OutOfReach: it is an aim that no pruning leads to.
    """
    name, _, which = key.partition("/")
    plan = PLANS[name]
    case = replace(plan.case, recipe=which if which in FIXED else "default", max_drop=1.0)
    if which not in FIXED:
        settings = settings_for(plan, which, known)
        if settings is None:
            raise OutOfReach(f"{key}: left out, since no share to prune leads there; measured: {told(known)}")
        case = replace(case, settings=case.settings | settings)
    report = compress(case, ARTIFACTS / f"retention-{name}-{which}")
    if report.speedup is None:
        raise SystemExit(f"{key}: {case.target} is not timed here: {report.not_measured_because}")
    return measured(key, report) | {"settings": case.settings}


def told(known: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['case']} {row['speedup']:.2f}x with {macs_left(row):.0%} left" for row in known) or "none"


def points(name: str, wanted: Sequence[str], results: Path) -> Iterator[dict[str, Any]]:
    """Points of a case in the order of its plan, each from the results or run now; an aim needs the fixed ones."""
    known: list[dict[str, Any]] = []
    needed = {*wanted, *FIXED} if set(wanted) & set(map(str, PLANS[name].aims)) else set(wanted)
    keys = [f"{name}/{which}" for which in PLANS[name].names if which in needed]
    for key in keys:
        try:
            (row,) = complete([key], results, lambda key: point(key, known))
        except OutOfReach as error:
            print(error, file=sys.stderr)
            continue
        known.append(row)
        yield row


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A case's points in the order of their speed, under the original."""
    rows = sorted(rows, key=lambda row: row["speedup"])
    work = next((row["macs_before"] for row in rows if row["macs_before"]), None)
    first = rows[0]
    lines = [
        f"### {name}\n",
        f"| point | x FP32 | p50, ms | MACs, million | MACs left | size, MB | {first['metric']} | kept "
        "| made in, minutes |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        f"| FP32 | 1 | {first['before_ms']:.2f} | {million(work)} | 100 % | {first['before_bytes'] / 1e6:.1f} "
        f"| {100 * first['before']:.2f} % | 100 % | |",
    ]
    for row in rows:
        count = row["macs_after"] or work
        lines.append(
            f"| {row['case'].partition('/')[2]} | {row['speedup']:.2f} | {row['after_ms']:.2f} | {million(count)} "
            f"| {100 * macs_left(row):.0f} % | {row['after_bytes'] / 1e6:.1f} | {100 * row['after']:.2f} % "
            f"| {100 * row['kept']:.1f} % | {row['seconds'] / 60:.0f} |"
        )
    plan, last = PLANS[name], rows[-1]
    return "\n".join(
        [
            *lines,
            "",
            f"{plan.case.model} for {plan.case.target}, {first['n']} samples of {first['split']}; measured "
            f"{min(row['created'] for row in rows)[:10]} on {made_by(rows)}, ONNX Runtime "
            f"{last['versions']['onnxruntime']}. Each row is a run of its own, with its own FP32 beside it."
            + (f" {plan.note}" if plan.note else "")
            + "\n",
        ]
    )


def million(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def by_case(results: Path) -> dict[str, list[dict[str, Any]]]:
    """The last line of each point, by case."""
    last = latest(results)
    return {name: [row for key, row in last.items() if key.startswith(f"{name}/")] for name in PLANS}


def published() -> list[dict[str, Any]]:
    """The curves of others that can be drawn, from ``published.toml``: those whose original's score is known."""
    curves: list[dict[str, Any]] = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["curves"]
    return curves


def sources() -> str:
    """Where the published points come from, and their figures."""
    lines = ["| published | x faster | score | original | where |", "|---|--:|--:|--:|---|"]
    for curve in published():
        for one in curve["points"]:
            lines.append(
                f"| {curve['name']} | {one['faster']:.1f} | {one['score']:.1f} | {curve.get('original', 'not given')} "
                f"| [{curve['where']}]({curve['source']}); {curve['device']} |"
            )
    return "\n".join(lines) + "\n"


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """What is drawn: edgekit's points, then those of others, as shares of their originals."""
    mine = Curve("edgekit, MiniLM, SST-2", tuple(sorted((row["speedup"], row["kept"]) for row in rows)), own=True)
    others = [
        Curve(curve["name"], tuple((one["faster"], one["score"] / curve["original"]) for one in curve["points"]))
        for curve in published()
        if "original" in curve
    ]
    return [mine, *others]


def write(results: Path, readme: Path, picture: Path) -> None:
    """The tables in the page, and the picture, as far as there are points."""
    found = by_case(results)
    parts = [table(name, rows) for name, rows in found.items() if rows]
    if found[PICTURED]:
        picture.write_text(draw(curves(found[PICTURED])), encoding="utf-8")
        parts.insert(0, f"![Accuracy kept by times faster](results/{picture.name})\n")
    put(readme, "retention", "\n".join([*(parts or ["Not measured yet.\n"]), sources()]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(PLANS), default="sst2")
    parser.add_argument("--points", help="separated by commas: quantize, default, 4 ...; all of the case by default")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    known = PLANS[asked.case].names
    wanted = asked.points.split(",") if asked.points else list(known)
    if unknown := [which for which in wanted if which not in known]:
        parser.error(f"no point {', '.join(unknown)} of {asked.case}; allowed: {', '.join(known)}")
    if asked.draw:
        write(RESULTS, README, PICTURE)
        return 0
    rows = []
    for row in points(asked.case, wanted, RESULTS):
        rows.append(row)
        print(
            f"{row['case']:10} {row['speedup']:6.2f}x  {row['before']:.4f} -> {row['after']:.4f} (n {row['n']}), "
            f"{row['kept']:.1%} kept, {macs_left(row):.0%} of the MACs",
            flush=True,
        )
        write(RESULTS, README, PICTURE)
    if asked.case == PICTURED and not asked.points and len(rows) < FEWEST:
        print(f"missed: {asked.case} has {len(rows)} points, and {FEWEST} are the least of a curve", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
