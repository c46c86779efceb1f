"""Optimize: rewrite the graph where that makes it faster on the target, and leave it where it does not.

What a rewrite saves is another share of an INT8 graph than of one in float, so each variant is timed as the recipe will
ship it: where the stage behind quantizes without data, with its products in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, Field, JsonValue

from edgekit.artifact import Artifact
from edgekit.formats.graph import tidy
from edgekit.formats.onnx import count_operators, describe_component, load_graph, load_structure, save_graph
from edgekit.measure.latency import MARGIN, subjects_of, time_all
from edgekit.measure.statistics import Interval
from edgekit.optimization import REWRITES, Rewrite
from edgekit.runtimes.measuring import Subject, Timing
from edgekit.stages.base import Job, Preview, Stage, StageSettings, finish


def _known_rewrite(name: str) -> str:
    if name not in REWRITES:
        raise ValueError(f"there is no rewrite {name!r}; allowed: {', '.join(REWRITES)}")
    return name


RewriteName = Annotated[str, AfterValidator(_known_rewrite)]


class OptimizeSettings(StageSettings):
    rewrites: tuple[RewriteName, ...] = Field(tuple(REWRITES), description=f"which to try: {', '.join(REWRITES)}")
    seconds: float = Field(6.0, gt=0, description="time for measuring whether each pays")


def run(artifact: Artifact, settings: StageSettings, job: Job) -> Artifact:
    settings = cast("OptimizeSettings", settings)
    folder = job.scratch()
    components: dict[str, object] = {}
    tables: dict[str, JsonValue] = {}
    for name, part in artifact.manifest.components.items():
        graph = artifact.file(name)
        applied = {rewrite: _apply(graph, [rewrite], None) for rewrite in settings.rewrites}
        candidates = [rewrite for rewrite in settings.rewrites if applied[rewrite]]
        job.progress.start(f"optimize: {name}", None)
        chosen, rows = _choose(artifact, name, candidates, settings, job)
        file = folder / graph.name
        _apply(graph, chosen, file)
        job.progress.finish(", ".join(chosen) or "no rewrite pays")
        components[name] = describe_component(file, part.states).model_dump()
        tables[name] = {
            "timed_as": None if job.clock is None else "float" if job.preview is None else job.preview.name,
            "rewrites": [
                {"rewrite": rewrite, "nodes": applied[rewrite], "kept": rewrite in chosen, **rows.get(rewrite, {})}
                for rewrite in settings.rewrites
            ],
            "operators_before": cast("JsonValue", count_operators(load_structure(graph))),
            "operators_after": cast("JsonValue", count_operators(load_structure(file))),
        }
    return finish(folder, artifact, OPTIMIZE, settings, changes={"components": components}, details=tables)


def _apply(graph: Path, rewrites: Sequence[str], file: Path | None, preview: Preview | None = None) -> int:
    """Apply rewrites in the table's order, and count how often they applied.

    Args:
        graph: the file that is read.
        rewrites: which.
        file: where the result is written; None to count only.
        preview: what is made of the result before it is written.
    """
    model = load_graph(graph)
    count = sum(REWRITES[name].apply(model.graph) for name in REWRITES if name in rewrites)
    if file is not None:
        tidy(model)
        if preview is not None:
            preview.change(model)
            tidy(model)
        save_graph(model, file)
    return count


def _choose(
    artifact: Artifact, name: str, candidates: list[str], settings: OptimizeSettings, job: Job
) -> tuple[list[str], dict[str, dict[str, JsonValue]]]:
    """The rewrites that pay, and for each the latency with all of them and with all but it."""
    if job.clock is None:
        return [rewrite for rewrite in candidates if REWRITES[rewrite].removes_work], {}
    if not candidates:
        return [], {}
    answer = _decide(artifact, name, candidates, settings, job)
    chosen = [rewrite for rewrite in candidates if answer[rewrite]["pays"]]
    return chosen, {rewrite: dict(row) for rewrite, row in answer.items()}


def _decide(
    artifact: Artifact, name: str, candidates: list[str], settings: OptimizeSettings, job: Job
) -> dict[str, dict[str, JsonValue]]:
    """What was measured of each candidate, in an earlier attempt or for another artifact of the run, or is now."""

    def measure() -> JsonValue:
        return cast("JsonValue", _measure(artifact, name, candidates, settings, job))

    number = 1 + sum(record.stage == OPTIMIZE.name for record in artifact.manifest.stages)
    decision = f"optimize.{name}" if number == 1 else f"optimize.{name}.{number}"
    answer = cast("dict[str, dict[str, JsonValue]]", job.decisions.decide(decision, measure))
    if any(rewrite not in answer for rewrite in candidates):  # it fell where fewer rewrites were tried, or applied
        decision = f"{decision}.{'+'.join(candidates)}"
        answer = cast("dict[str, dict[str, JsonValue]]", job.decisions.decide(decision, measure))
    return answer


def _measure(
    artifact: Artifact, name: str, candidates: list[str], settings: OptimizeSettings, job: Job
) -> dict[str, dict[str, JsonValue]]:
    assert job.clock is not None  # without one nothing is measured
    feeds = subjects_of(artifact, job.task, job.workload)[name].feeds
    folder = job.scratch()
    variants = {"all": candidates} | {
        rewrite: [other for other in candidates if other != rewrite] for rewrite in candidates
    }
    subjects = {}
    for key, rewrites in variants.items():
        file = folder / key / artifact.file(name).name
        file.parent.mkdir()
        _apply(artifact.file(name), rewrites, file, job.preview)
        subjects[key] = Subject(file, feeds)
    timings = time_all(subjects, job.clock, Timing(seconds=settings.seconds))
    rows: dict[str, dict[str, JsonValue]] = {}
    for rewrite in candidates:
        ratio, interval = timings.slowdown(rewrite, than="all")
        rows[rewrite] = {
            "with_ms": round(timings.p50("all"), 4),
            "without_ms": round(timings.p50(rewrite), 4),
            "without_over_with": round(ratio, 4),
            "pays": pays(REWRITES[rewrite], ratio, interval),
        }
    return rows


def pays(rewrite: Rewrite, without_over_with: float, interval: Interval) -> bool:
    """Whether a rewrite stays, by how many times longer an inference takes without it."""
    slower = interval.high < 1 and without_over_with < 1 - MARGIN
    return not slower if rewrite.stays_in_doubt else interval.low > 1 and without_over_with > 1 + MARGIN


OPTIMIZE = Stage(
    "optimize",
    version=3,
    accepts="graph",
    produces="graph",
    settings=OptimizeSettings,
    uses=("target", "workload", "threads", "host", "preview"),
    needs_data=lambda settings, goal: False,
    run=run,
    formats=("onnx",),
)
