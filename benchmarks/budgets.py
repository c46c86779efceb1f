"""Whether a budget of milliseconds is met, and what accuracy is left under it, beside plain magnitude pruning.

    python benchmarks/budgets.py                            MiniLM on SST-2, at 50, 25 and 12 % of its FP32 latency
    python benchmarks/budgets.py --shares 0.25 --time 900   one budget, with less time for its search

For each budget the FP32 export is timed first, and the search is asked for `max_ms`, a share of that, with no limit on
the loss. A budget counts as met when the artifact's p50 lies between 90 and 100 % of the same share of the FP32 latency
of its own run, where both were timed in turns: the machine's pace changes with time. What it is of the milliseconds
that were asked for is told, too. Then the recipe that was found is run once more with `prune.importance = "weights"`,
plain magnitude, no reconstruction, and the shares of multiply-accumulates that its own pruning left, all else the same
(the same distillation, too); those of both are told.

A line of `results/budgets.jsonl` is one budget; one that is there for the same `--time`, code, packages and kind of
processor is not run again. A search that was killed goes on by itself, as its time box is kept in its cache, if the
budget is the same: so that it is, the FP32 latency that was measured is kept beside that in the artifacts' folder until
its line is written, and measured anew by other code, with other packages, or on another kind of processor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
from lines import complete, here, macs, measured, searched, stands
from run import ARTIFACTS, CASES, FP32_RECIPE, HERE, Case, compress, forget_cache

import edgekit

RESULTS = HERE / "results" / "budgets.jsonl"
CASE = CASES["sst2-vnni"]
SHARES = (0.5, 0.25, 0.12)
LEAST = 0.9  # of a budget that is to be used
NOT_PRUNED = f"{'not pruned':>12}   {'':9}   {'':10}"


def fp32_ms(case: Case, folder: Path) -> float:
    """The p50 of the FP32 export, exported if it is not there yet, and timed now."""
    compress(replace(case, recipe=FP32_RECIPE), folder)
    workload = edgekit.Workload(image=case.image) if case.image else None
    found = edgekit.bench(folder, workload=workload, target=case.target)
    p50 = next(metric.value for metric in found.metrics if metric.name == "latency.p50")
    if p50 is None:
        raise SystemExit(f"{case.model} is not timed here")
    return p50


def kept_fp32_ms(case: Case, file: Path) -> float:
    """What ``fp32_ms`` gave for a budget that is not finished, from its file, else what it gives now."""
    if file.is_file() and stands(known := json.loads(file.read_text(encoding="utf-8"))):
        return float(known["fp32_ms"])
    found = fp32_ms(case, file.with_name("budget-fp32"))
    file.write_text(json.dumps({"fp32_ms": found, **here()}), encoding="utf-8")
    return found


def name_of(key: str) -> str:
    """What the artifact of a budget is called; its FP32 latency and its cache begin so, too."""
    return f"budget-{key.replace('/', '-')}"


def forget(key: str, folder: Path) -> None:
    """Remove what a budget that has its line would go on from."""
    (folder / f"{name_of(key)}.json").unlink()
    forget_cache(folder / name_of(key))


def by_magnitude(report: edgekit.Report) -> dict[str, Any] | None:
    """The recipe of a report with its pruning by plain magnitude, to the same multiply-accumulates; None without any.

    A floor that was set for measured costs could keep more than that, so there is none.
    """
    shares = [
        1 - stage.details["macs_after"] / stage.details["macs_before"]  # type: ignore[operator]  # both are counts
        for stage in report.stages
        if stage.stage == "prune"
    ]
    if not shares or macs(report)[0] is None:
        return None
    left, stages = iter(shares), []
    for table in report.recipe["stages"]:  # type: ignore[union-attr]  # a list of tables
        assert isinstance(table, dict)
        own = {name: value for name, value in table.items() if value is not None}
        if table["stage"] == "prune":
            own |= {"ratio": round(next(left), 4), "importance": "weights", "reconstruct": False, "floor": 0.0}
            own = {name: value for name, value in own.items() if name not in ("cost", "budget")}
        stages.append(own)
    return {"schema": "edgekit.recipe/1", "name": "by-magnitude", "stages": stages}


def budget(key: str, case: Case, seconds: float | None, folder: Path) -> dict[str, Any]:
    """One line, by the case, the share, and the seconds where they were given: ``sst2/0.25``, ``sst2/0.25/900``.

    Args:
        key: of the line.
        case: model, data and target.
        seconds: for the search; None is its own default.
        folder: for artifacts.
    """
    share = float(key.split("/")[1])
    name = name_of(key)
    before = kept_fp32_ms(case, folder / f"{name}.json")
    limits: dict[str, Any] = {"max_ms": share * before} | ({} if seconds is None else {"time": seconds})
    report = compress(replace(case, recipe=None, max_drop=1.0, options=case.options | limits), folder / name)
    row = measured(key, report)
    used, of_fp32 = row["after_ms"] / (share * before), row["after_ms"] / row["before_ms"]
    recipe, rival = by_magnitude(report), None
    if recipe is not None:
        file = folder / f"{name}-magnitude.toml"
        file.write_text(tomli_w.dumps(recipe), encoding="utf-8")
        found = compress(replace(case, recipe=file, max_drop=1.0), folder / f"{name}-magnitude")
        rival = measured(f"{key}/magnitude", found)
    return {
        "schema": "edgekit.budgets/1",
        **row,
        "share": share,
        "fp32_ms": before,
        "budget_ms": share * before,
        "used": used,
        "of_fp32": of_fp32,
        "used_in_its_run": of_fp32 / share,
        "met": LEAST <= of_fp32 / share <= 1,
        "search": searched(report),
        "search_seconds": seconds,
        "magnitude": rival,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Budgets with what was used of them, and the accuracies and multiply-accumulates of both ways to prune."""
    lines = [
        "share   p50, ms   of FP32   of its budget   of that asked for   accuracy   MACs left   "
        "by magnitude   MACs left   at p50, ms   met"
    ]
    for row in rows:
        rival = row["magnitude"]
        other = f"{rival['after']:12.4f}   {left(rival):>9}   {rival['after_ms']:10.3f}" if rival else NOT_PRUNED
        lines.append(
            f"{row['share']:5.0%}   {row['after_ms']:7.3f}   {row['of_fp32']:7.1%}   {row['used_in_its_run']:13.1%}   "
            f"{row['used']:17.1%}   {row['after']:8.4f}   {left(row):>9}   {other}   {'yes' if row['met'] else 'no'}"
        )
    return "\n".join(lines)


def left(row: Mapping[str, Any]) -> str:
    """The share of the multiply-accumulates that pruning left."""
    return f"{row['macs_after'] / row['macs_before']:.1%}" if row["macs_before"] else "all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), help="of the FP32 latency")
    parser.add_argument("--time", type=float, help="seconds for each search")
    asked = parser.parse_args()
    keys = [f"sst2/{share:g}" + (f"/{asked.time:g}" if asked.time else "") for share in asked.shares]

    def run(key: str) -> dict[str, Any]:
        return budget(key, CASE, asked.time, ARTIFACTS)

    rows = list(complete(keys, RESULTS, run, then=lambda key: forget(key, ARTIFACTS)))
    print(table(rows))
    if missed := [row["case"] for row in rows if not row["met"]]:
        raise SystemExit(f"not between {LEAST:.0%} and 100 % of the budget in its own run: {', '.join(missed)}")


if __name__ == "__main__":
    main()
