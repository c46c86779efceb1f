"""The result of a run: the ledger measured in one interleaved run, the report, and the sealed directory."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from edgekit.artifact import CARD, PAGE, Artifact, copy_files, open_artifact, walk, write_text
from edgekit.cache import OBJECT, Cache, copy_object, folder_beside
from edgekit.costing import GRAPH_SETTINGS, MILLION
from edgekit.environment import host, version_of, versions
from edgekit.errors import HostError, ModelError
from edgekit.feasibility import provider_for
from edgekit.formats.tflite import batch_notes
from edgekit.ledger import LedgerRow, build_ledger
from edgekit.locks import lock_text
from edgekit.measure.graphs import describe_graphs
from edgekit.measure.latency import Timings, measure_memory, subject_name, subjects_of, time_artifacts, untimed
from edgekit.measure.profile import profile_sides
from edgekit.pipeline import Trail, leave_out
from edgekit.places import FASTER_HERE
from edgekit.placing import publish
from edgekit.profiles import Profiles
from edgekit.quantization.saturating import Saturated, arithmetic_on
from edgekit.recipe import LOCK_FILE
from edgekit.render.card import model_card
from edgekit.render.html.report import report_page
from edgekit.report import (
    DEVICE_AGREEMENT,
    MEGABYTE,
    DeviceCheck,
    LimitVerdict,
    Measurement,
    Quality,
    Report,
    StageReport,
)
from edgekit.request import Request
from edgekit.runtimes import tflite_runtime
from edgekit.runtimes.measuring import WALL_CLOCK, Timing
from edgekit.sealing import seal
from edgekit.stages.base import DETAILS, read_details
from edgekit.stages.quantize.makers import RANGES
from edgekit.target import PACKAGES
from edgekit.trials import SearchRecord
from edgekit.verdicts import Found, verdicts
from edgekit.workshop import Workshop

FINAL = Timing(seconds=20.0, rounds=30)
INTERIM = Timing(seconds=2.0, rounds=10)
# Of a search whose time is up.
HURRIED = Timing(seconds=8.0, rounds=20)
IN_A_HURRY = "the time was up: latency was measured more briefly, and how far INT8 moves each layer was left out"
# The least share of predictions that a device has to have in common with this machine. INT8 differs between processors
# by less than its own rounding, which now and then tips a sample whose best classes are as good as equal.
SAME_ANSWERS = 0.99
QUANTIZE = "quantize"
# What the user says by a file of his own, of which the name alone is told.
FILES = ("weights", "preprocess")
# What a metric says where the data has no labels, by its name.
_NO_LABELS = "the data has no labels, so the answers were compared with the original's"
AGAINST_ORIGINAL = {
    "agreement": [f"{_NO_LABELS}: agreement is the share of samples whose best class is the same"],
    "closeness": [
        f"{_NO_LABELS}: closeness is 1 less the mean relative error, |result - original| / |original| of each sample"
    ],
}


@dataclass(frozen=True)
class Measured:
    """What the one interleaved run gave; None where this machine cannot measure the target."""

    timings: Timings | None
    memory: dict[str, list[Measurement]]


def assemble(
    workshop: Workshop,
    trail: Trail,
    folder: Path,
    *,
    complete: bool,
    began: float,
    search: SearchRecord | None = None,
    hurried: bool = False,
) -> dict[str, str]:
    """Measure, and write the sealed result into an empty folder.

    Args:
        workshop: of the run.
        trail: what it has come to.
        folder: empty.
        complete: False for a result that is only the best so far.
        began: ``time.monotonic()`` at the run's start.
        search: that chose the recipe, where one did.
        hurried: whether a complete one is to take less time than usual.

    Returns:
        sha256 of each file by its name.
    """
    measured = _measure(workshop, trail, INTERIM if not complete else HURRIED if hurried else FINAL)
    _copy_artifact(trail.finished.artifact, folder)
    if workshop.request.keep_stages and complete:
        _keep_stages(trail, folder)
    write_text(folder / LOCK_FILE, lock_text(workshop))
    report = _report(workshop, trail, measured, complete=complete, began=began, hurried=hurried)
    if search is not None:
        spent = max(search.spent, report.seconds)
        report = report.model_copy(update={"search": search.model_copy(update={"spent": spent})})
    report.save(folder)
    _write_pages(report, folder)
    return seal(folder)


def _write_pages(report: Report, folder: Path) -> None:
    """What people read: the report as a page, and the model card."""
    located = report.located(open_artifact(folder))
    write_text(folder / PAGE, report_page(located))
    write_text(folder / CARD, model_card(located))


def hand_over(folder: Path, out: Path, cache: Cache) -> None:
    """Copy a finished directory beside ``out`` and exchange the two."""
    out = out.resolve()
    with folder_beside(out, cache) as staged:
        copy_object(folder, staged)
        publish(staged, out)


def _copy_artifact(artifact: Artifact, folder: Path) -> None:
    for path in walk(artifact.path):
        if path.name in (OBJECT, DETAILS):
            continue
        destination = folder / path.relative_to(artifact.path)
        copy_files([path], destination.parent)


def _keep_stages(trail: Trail, folder: Path) -> None:
    for number, entry in enumerate(trail.entries[1:], 1):
        copy_object(entry.scored.artifact.path, folder / "stages" / f"{number}-{entry.stage}")


def _measure(workshop: Workshop, trail: Trail, timing: Timing) -> Measured:
    request = workshop.request
    if request.clock is None:
        return Measured(None, {})
    rows = {entry.timed.key: entry.timed.artifact for entry in trail.entries}
    workshop.progress.start(f"measure: {len(rows)} artifacts, interleaved", None)
    timings = time_artifacts(rows, workshop.task_of, request.workload, request.clock, timing)
    memory: dict[str, list[Measurement]] = {}
    for made in (trail.entries[0].timed, trail.best):
        parts = subjects_of(made.artifact, workshop.task_of(made.artifact), request.workload)
        memory[made.key] = [measure_memory(subject, request.clock, name) for name, subject in parts.items()]
    workshop.progress.finish()
    return Measured(timings, memory)


def _profile(workshop: Workshop, trail: Trail) -> Profiles:
    """Where the time goes in the original's export and in the artifact; a run does not fail for want of it."""
    request = workshop.request
    if request.clock is None:
        return Profiles(because=request.not_measured_because, threads=request.threads)
    workshop.progress.start("profile: operators, and what this machine can do", None)
    artifacts = {"before": trail.entries[0].timed.artifact, "after": trail.best.artifact}
    sides = {
        side: subjects_of(artifact, workshop.task_of(artifact), request.workload)
        for side, artifact in artifacts.items()
    }
    try:
        found = profile_sides(sides, request.clock, request.target.int8)
    except (HostError, ModelError) as error:
        found = Profiles(because=f"{error.what}: {error.why}" if error.why else error.what, threads=request.threads)
    workshop.progress.finish()
    return found


def _report(
    workshop: Workshop, trail: Trail, measured: Measured, *, complete: bool, began: float, hurried: bool
) -> Report:
    request = workshop.request
    checks, unchecked = workshop.checks(trail.best.artifact) if complete else ((), {})
    notes = _notes(workshop, trail, measured, complete=complete, hurried=hurried)
    return Report(
        edgekit=version_of("edgekit") or "unknown",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        status="complete" if complete else "in progress",
        source=request.source.record,
        source_size_bytes=request.source.size_bytes,
        task=request.task,
        target=request.target.name,
        runtime=_runtime(request, measured.timings),
        provider=provider_for(request.target, request.format),
        measured=request.timed,
        not_measured_because=request.not_measured_because,
        workload=request.workload.model_dump(),
        threads=request.threads,
        jobs=request.jobs,
        seed=request.seed,
        host=host(),
        timed_on=None if measured.timings is None else measured.timings.timed_on,
        versions=versions(),
        recipe=request.recipe.as_dict(),
        options=_options(request),
        data=workshop.data.record if workshop.data else {},
        ledger=build_ledger(_rows(workshop, trail, measured, complete=complete)),
        before=_measurements(workshop, trail, measured, before=True),
        after=_measurements(workshop, trail, measured, before=False),
        counts_before=workshop.counts(trail.entries[0].timed.artifact),
        counts_after=workshop.counts(trail.best.artifact),
        devices=checks,
        devices_unchecked=unchecked,
        saturation=workshop.saturation(trail.best.artifact).layers,
        graphs_before=describe_graphs(trail.entries[0].timed.artifact),
        graphs_after=describe_graphs(trail.finished.artifact),
        profile=_profile(workshop, trail) if complete else None,
        quality=_quality(trail),
        limits=(*_limits(workshop, trail, measured, time.monotonic() - began), *device_limits(checks)),
        strict=request.strict,
        stages=_stage_reports(workshop, trail, complete=complete and not hurried),
        notes=notes,
        warnings=measured.timings.warnings if measured.timings else (),
        seconds=round(time.monotonic() - began, 1),
    )


def _notes(workshop: Workshop, trail: Trail, measured: Measured, *, complete: bool, hurried: bool) -> tuple[str, ...]:
    """What else is to be known of a result: what was left out, and how its figures came about."""
    request, quality = workshop.request, _quality(trail)
    _, notes = leave_out(request)
    saturated = workshop.saturation(trail.best.artifact)
    notes += prediction_notes(workshop, trail, measured) if complete else []
    notes += [IN_A_HURRY] if hurried else []
    notes += saturation_notes(request, trail, saturated)
    notes += AGAINST_ORIGINAL[quality.metric] if quality is not None and quality.against == "original" else []
    if request.replaced_because:
        notes.append(f"answers are LiteRT's in place of {request.runtime}'s: {request.replaced_because}")
    if request.format == "tflite":
        notes += batch_notes(trail.best.artifact.manifest.components, request.workload.batch)
    if measured.timings is not None and measured.timings.clock != WALL_CLOCK:
        notes.append(f"latency is by {measured.timings.clock}, with inputs and outputs in the GPU's memory")
    if request.target.stand_in and any(not place.device.timed for place in request.places):
        notes.append(request.target.stand_in)
    return tuple(notes)


def _runtime(request: Request, timings: Timings | None) -> str:
    """Name and version of what was measured, or ran the artifact, and what computes in it where that is no processor.

    Where another machine was measured it is the version there, and none where that is not known.
    """
    own = request.runtime == tflite_runtime.NAME  # in an environment of its own
    here = tflite_runtime.VERSION if own else version_of(PACKAGES[request.runtime]) or ""
    version = here if timings is None or timings.timed_on is None else timings.runtime_version
    providers = {place.provider for place in request.places} - {"cpu"}
    return ", ".join([f"{request.runtime} {version}".strip(), *providers])


def prediction_notes(workshop: Workshop, trail: Trail, measured: Measured) -> list[str]:
    """Where costs were measured ones: what the result was predicted to cost, beside what it does."""
    pruned = [entry.scored.artifact for entry in trail.entries if entry.kept and entry.stage == "prune"]
    told = read_details(pruned[-1]).get("predicted") if pruned else None
    if not isinstance(told, dict):
        return []
    unit, predicted = str(told["unit"]), float(cast("float", told["after"]))
    if unit == "ms":
        found = _p50(measured.timings, trail.best.key, trail.best.artifact)
    else:
        found = next((count.instructions / MILLION for count in workshop.counts(trail.best.artifact)), None)
    if found is None:
        return [f"an inference was predicted to cost {predicted:.4g} {unit}, which was not measured"]
    undone = [entry.stage for entry in trail.entries if not entry.kept and entry.stage in GRAPH_SETTINGS]
    without = f"; predicted with {' and '.join(undone)}, since undone" if undone else ""
    return [
        f"an inference was predicted to cost {predicted:.4g} {unit} and costs {found:.4g} {unit}: "
        f"{predicted / found - 1:+.1%}{without}"
    ]


def saturation_notes(request: Request, trail: Trail, saturated: Saturated) -> list[str]:
    """Why weights are as wide as they are, and what this machine cannot tell of a target that sums otherwise."""
    parts = trail.best.artifact.manifest.components.values()
    arithmetic = arithmetic_on(request.target, request.format)
    if arithmetic == "here" or all(part.precision != "int8" for part in parts):
        return []
    target, notes = request.target.name, list[str]()
    if arithmetic == "exact":
        if request.data is not None:
            notes.append(f"answers are exact, as on {target}; this machine's own INT8 sums saturate and were not used")
        if saturated.unknown:
            notes.append(f"may saturate here, and not on {target}: {', '.join(saturated.unknown)}")
        return notes
    quantized = [entry.scored.artifact for entry in trail.entries if entry.kept and entry.stage == "quantize"]
    for artifact in quantized:
        weights = read_details(artifact).get("weights")
        notes += [f"weights: {weights['reason']}"] if isinstance(weights, dict) else []
    if saturated.layers:
        worst, count = saturated.layers[0], len(saturated.layers)
        layers = "1 layer saturate" if count == 1 else f"{count} layers saturate"
        notes.append(f"sums of {layers} on {target}, most in {worst.layer} ({worst.share:.1%})")
    if saturated.unknown:
        notes.append(f"may saturate on {target}, and was judged as if not: {', '.join(saturated.unknown)}")
    if request.stands_in and request.data is not None:
        devices = ", ".join(place.device.label for place in request.confirming)
        setup = f"`edgekit targets setup {target}` makes an emulator to confirm it"
        how = f"also run on {devices}" if devices else setup
        notes.append(f"answers are those of a processor without VNNI, simulated; {how}")
    if request.stands_in:
        notes.append(FASTER_HERE.format(target))
    return notes


def device_limits(checks: Sequence[DeviceCheck]) -> tuple[LimitVerdict, ...]:
    """That the artifact answers on every device as here: the verdict on the one that answers least alike.

    It holds whatever limits were set, since the quality that a report tells was measured here. Nobody can prove it with
    as few samples as a device is given. Numbers (regression) have no predictions to compare.
    """
    shares = [check.share for check in checks if check.share is not None]
    if not shares:
        return ()
    met = min(shares) >= SAME_ANSWERS
    return (LimitVerdict(limit=DEVICE_AGREEMENT, bound=SAME_ANSWERS, value=min(shares), met=met, proven=None),)


def _options(request: Request) -> dict[str, JsonValue]:
    """What the user said of the task and the models beside the recipe, so that the report's command says it again."""
    said: dict[str, JsonValue] = request.options.model_dump(mode="json", exclude_defaults=True)
    for name, value in request.feeding.items():
        if isinstance(value, tuple):
            said[name] = list(value)
        elif value is not None:
            said[name] = Path(str(value)).name if name in FILES else str(value)
    return said if request.student is None else said | {"student": request.student.source.record["name"]}


def _rows(workshop: Workshop, trail: Trail, measured: Measured, *, complete: bool) -> list[LedgerRow]:
    rows = []
    ends = (trail.entries[0].scored.key, trail.best.key)  # all that is scored of a trial, while its search goes on
    for entry in trail.entries:
        scored = workshop.data is not None and (complete or not workshop.request.is_trial or entry.scored.key in ends)
        score = workshop.outputs(entry.scored.artifact).score(workshop.task) if scored else None
        latency = _p50(measured.timings, entry.timed.key, entry.timed.artifact)
        rows.append(
            LedgerRow(
                stage=entry.stage,
                kept=entry.kept,
                reason=entry.reason,
                metric=score,
                size_bytes=entry.scored.artifact.size_bytes,
                latency_ms=latency,
                instructions={count.device: count.instructions for count in workshop.counts(entry.timed.artifact)},
            )
        )
    return rows


def _p50(timings: Timings | None, key: str, artifact: Artifact) -> float | None:
    """Median latency; of several components, the sum of one call each."""
    if timings is None:
        return None
    return sum(timings.p50(subject) for subject in _subject_names(key, artifact))


def _subject_names(key: str, artifact: Artifact) -> list[str]:
    return [subject_name(key, artifact, name) for name in artifact.manifest.components]


def _measurements(workshop: Workshop, trail: Trail, measured: Measured, *, before: bool) -> tuple[Measurement, ...]:
    entry = trail.entries[0]
    made = entry.timed if before else trail.best
    size = workshop.original.artifact.size_bytes if before else trail.finished.artifact.size_bytes
    found = [Measurement(name="size", unit="bytes", value=float(size), n=1)]
    if measured.timings is None:
        return (*found, *untimed(workshop.request.not_measured_because))
    for subject, component in zip(
        _subject_names(made.key, made.artifact), made.artifact.manifest.components, strict=True
    ):
        found += measured.timings.measurements(subject, component)
    return (*found, *measured.memory[made.key])


def _quality(trail: Trail) -> Quality | None:
    found = read_details(trail.finished.artifact).get("quality")
    return None if found is None else Quality.model_validate(cast("dict[str, object]", found) | {"looks": trail.looks})


def _limits(workshop: Workshop, trail: Trail, measured: Measured, seconds: float) -> tuple[LimitVerdict, ...]:
    best, timings = trail.best, measured.timings
    names = _subject_names(best.key, best.artifact)
    counts = [count.instructions for count in workshop.counts(best.artifact)]
    found = Found(
        quality=_quality(trail),
        p50_ms=_p50(timings, best.key, best.artifact),
        p50_bound_ms=timings.p50_bound(names[0]) if timings is not None and len(names) == 1 else None,
        megabytes=trail.finished.artifact.size_bytes / MEGABYTE,
        instructions=max(counts, default=None),
        seconds=round(seconds, 1),
    )
    return verdicts(workshop.request.limits, found)


def _stage_reports(workshop: Workshop, trail: Trail, *, complete: bool) -> tuple[StageReport, ...]:
    """What each stage said of its work, and what only those who read a finished report want to know of it."""
    reports, parent = [], trail.entries[0].timed
    for entry in (*trail.entries[1:], None):
        made = trail.finished if entry is None else entry.scored
        record = made.artifact.manifest.stages[-1] if made.artifact.manifest.stages else None
        if record is not None:
            details = read_details(made.artifact)
            details.pop("quality", None)  # the report's own
            details.pop(RANGES, None)  # what the layers' errors are computed with
            if complete and entry is not None and entry.stage == record.stage == QUANTIZE:
                moved = workshop.layer_errors(parent, made)
                details |= {"layer_errors": [list(one) for one in moved]} if moved else {}
            reports.append(StageReport(stage=record.stage, settings=record.settings, details=details))
        if entry is not None and entry.kept:
            parent = entry.timed
    return tuple(reports)


def load_finished(cache: Cache, key: str) -> Path | None:
    """A finished run's directory in the cache, checked; None when the run was never finished."""
    found = cache.get(key)
    return found if found is not None and (found / "report.json").is_file() else None
