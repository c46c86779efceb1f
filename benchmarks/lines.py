"""Lines of results: what they hold of a compression, how they are kept, and which of them stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import edgekit
from edgekit.environment import code_digest, host, numeric_level, versions

# Of a search, what a line does not hold of each trial: its whole recipe, and what a chart is drawn of.
LEFT_OF_TRIALS = {"stages", "reach"}


def origin(name: str, report: edgekit.Report) -> dict[str, Any]:
    """What a line begins with: the case, of which model and data, and what made it."""
    return {
        "case": name,
        "source": report.source,
        "data": report.data,
        "code": code_digest(),
        "created": report.created,
        "host": report.host.processor,
        "level": numeric_level(),
        "versions": report.versions,
    }


def macs(report: edgekit.Report) -> tuple[int | None, int | None]:
    """Multiply-accumulates before and after all pruning, as it counted them; None where nothing was pruned."""
    details: list[Any] = [stage.details for stage in report.stages if stage.stage == "prune"]
    kept = {row.stage for row in report.ledger if row.kept}
    return (details[0]["macs_before"], details[-1]["macs_after"]) if details and "prune" in kept else (None, None)


def measured(name: str, report: edgekit.Report) -> dict[str, Any]:
    """What a line says of any compression: quality, latency, size, memory, work, and which limits it keeps."""
    quality, (before, after) = report.quality, macs(report)
    assert quality is not None  # all data here has labels
    return {
        **origin(name, report),
        "metric": quality.metric,
        "split": quality.split,
        "n": quality.n,
        "before": quality.before,
        "after": quality.after,
        "drop_low": quality.drop_low,
        "drop_high": quality.drop_high,
        "kept": quality.after / quality.before,
        "before_ms": report.original_latency_ms.p50,
        "after_ms": report.latency_ms.p50,
        "speedup": report.speedup,
        "before_bytes": report.value("size", before=True),
        "after_bytes": report.value("size"),
        "before_memory_bytes": report.value("memory.peak", before=True),
        "after_memory_bytes": report.value("memory.peak"),
        "macs_before": before,
        "macs_after": after,
        "stages": report.recipe["stages"],
        "limits": [limit.model_dump() for limit in report.limits],
        "passed": report.passed,
        "seconds": report.seconds,
        "ledger": [row.model_dump(include={"stage", "kept", "reason"}) for row in report.ledger],
    }


def searched(report: edgekit.Report) -> dict[str, Any] | None:
    """A search as a line holds it: every trial with its figures; None where a recipe was given."""
    if report.search is None:
        return None
    return report.search.model_dump(exclude={"trials": {"__all__": LEFT_OF_TRIALS}})


def read(results: Path) -> list[dict[str, Any]]:
    """Every line of a file of results; none where there is no such file."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


def append(results: Path, line: dict[str, Any]) -> None:
    """Add a line to a file of results."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def latest(results: Path, key: str = "case") -> dict[str, dict[str, Any]]:
    """The last line of each case, or of whatever tells lines apart."""
    return {row[key]: row for row in read(results)}


def complete(
    wanted: Sequence[str],
    results: Path,
    run: Callable[[str], dict[str, Any]],
    *,
    left: Callable[[str], bool] = lambda _: True,
    then: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """The line of each case: the one that stands, else a new one, which is appended.

    Args:
        wanted: cases.
        results: their file.
        run: gives a case's line.
        left: whether what a case leaves beside its line is here.
        then: told of a case whose line was written.
    """
    done = {row["case"]: row for row in read(results) if stands(row) and left(row["case"])}
    for name in wanted:
        if name not in done:
            done[name] = run(name)
            append(results, done[name])
            then(name)
        yield done[name]


def made_by(rows: Sequence[Mapping[str, Any]]) -> str:
    """The processors that lines are of; and where they are of several states of the code, that they are."""
    processors = " and ".join(dict.fromkeys(row["host"] for row in rows))
    return processors + (", by several states of the code" if len({row["code"] for row in rows}) > 1 else "")


def here() -> dict[str, Any]:
    """What a line has to have been made by to stand: this code, these packages, and this kind of processor.

    Hypervisors call several generations of processors by one name; their vectors tell some of these apart.
    """
    return {"code": code_digest(), "host": host().processor, "level": numeric_level(), "versions": versions()}


def stands(row: Mapping[str, Any]) -> bool:
    """Whether a line is of this code, these packages and this kind of processor: others say nothing of here."""
    return all(row.get(name) == value for name, value in here().items())
