"""``bench``: what an exported model costs, alone or beside a baseline that it must not be worse than."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from edgekit.answering import Asked as AskedModel
from edgekit.answering import Questions, answer, ask
from edgekit.answering import unlike as unlike_answers
from edgekit.artifact import Format, is_artifact
from edgekit.description import Feeding
from edgekit.environment import host, version_of
from edgekit.errors import HostError, UnknownNameError, UsageError
from edgekit.gate.accuracy import accuracy_metric, compare_accuracy
from edgekit.gate.figures import BASELINE, CANDIDATE, Comparison
from edgekit.gate.margins import Margins, default_margins, parse_margins
from edgekit.gate.measurable import find_counter, find_lacking
from edgekit.gate.metrics import METRICS, STARTED
from edgekit.gate.protocol import find_plan
from edgekit.gate.record import Accuracy, BenchRecord, HostRecord, Metric, Protocol, Runtime, Subject, Tool, load_record
from edgekit.gate.session import Asked, Found, Sides, measure_counted, measure_timed
from edgekit.gate.stored import incomparable, measured_like
from edgekit.gate.verdict import overall
from edgekit.measure.subjects import describe, format_at, parts_at, size_at, subjects_at, try_subjects
from edgekit.places import Exported, find_target
from edgekit.progress import Progress, Silent
from edgekit.runtimes import LITERT
from edgekit.runtimes.measuring import Place, here
from edgekit.target import EXECUTION_PROVIDERS, Provider, RuntimeSpec, Target, missing_gpu
from edgekit.tasks.base import Workload

ONNXRUNTIME = "onnxruntime"
SIDES = (CANDIDATE, BASELINE)


def bench(
    path: str | Path,
    *,
    baseline: str | Path | None = None,
    gate: str | None = None,
    data: str | Path | None = None,
    budget_s: float | None = None,
    preset: str | None = None,
    threads: int = 1,
    workload: Workload | None = None,
    provider: str | None = None,
    device: str | None = None,
    target: str | Path | Target | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **feeding: Unpack[Feeding],
) -> BenchRecord:
    """What an artifact, an ``.onnx`` or a ``.tflite`` file costs; and whether it is worse than a baseline.

    Args:
        path: an artifact, or an ONNX or TFLite graph of any origin, whose free dimensions follow the workload.
        baseline: another one, which is measured beside it; or a result that ``BenchRecord.save`` wrote, which counts on
            the same machine only.
        gate: how much worse each metric may be, as ``latency.p50=1%,size=1%,accuracy=-0.5pp``; by default the latency
            and the size by 1 %, or the instructions where there is no clock, and with data the accuracy by half a
            point; the latency by 3 % of a stored result's.
        data: labelled samples that both answer; a file, a folder or a hub id.
        budget_s: most seconds for the times; 10 alone, and 60 beside a baseline.
        preset: ``quick``, ``mlperf-mobile`` or ``tiny``.
        threads: of the inference.
        workload: what one inference is.
        provider: what computes in onnxruntime: ``cpu``, ``cuda`` or ``tensorrt``; by default the processor here, and
            on a device what the target names.
        device: where, as for ``compress``: ``local``, ``emulated``, ``ssh://user@host`` ... By default this machine,
            and the record's warnings say so where it is not the target.
        target: what it is for; by default what an artifact was made for, and for another file this machine.
        seed: of the order of the blocks and of the bootstrap.
        progress: told how far it is.
        **feeding: with data, for a graph's file, as for ``compress``.

    Returns:
        The record; ``record.verdict`` is that of the gate, None without a baseline.

    Raises:
        UnknownNameError: there is no such metric, preset, provider, target or way to a device.
        UsageError: the gate cannot be read or asks for what was not given, a number is none to measure with, or
            baseline and candidate have different parts or formats.
        DataError: the data is none for the models, or has no labels.
        HostError: the device cannot be had; or there is no GPU that the provider computes on.
    """
    _check_numbers(budget_s, threads, seed)
    margins = _margins(gate, baseline, data)
    plan = find_plan(preset, budget_s, compared=baseline is not None, seed=seed)
    work, told = workload or Workload(), progress or Silent()
    format_ = format_at(path)
    computes = _provider(provider, format_, device)
    sides, stored = _sides(path, baseline, work, format_)
    if stored is not None:
        plan = measured_like(plan, stored)
        _check_stored(stored, data)
    made_for, parts = parts_at(path)
    model = Exported(format_, parts, made_for, find_target(made_for, target, device))
    places = _places(model, device, threads, told, computes)
    timed = places[0].device.timed
    if margins is None:
        wanted = {"timed": timed, "data": data is not None, "stored": stored is not None}
        margins = default_margins(**wanted) if baseline is not None else Margins({})
    counter, no_counter = find_counter(places[0]) if timed and "instructions" in margins else (None, "")
    lacking = find_lacking(margins, places[0], no_counter)
    comparison = Comparison(margins, None if baseline is None else stored is None, seed, lacking)
    started = baseline is None or any(name in margins for name in STARTED)
    asked = Asked(plan, comparison, started, work.batch, stored, counter)
    run = _Run(path, baseline, work, model, places[0], asked, tuple(_fed_otherwise(sides)))
    questions = None if data is None else Questions(data, threads, feeding)
    models = () if questions is None else tuple(ask(one, questions) for one in run.beside)
    early = run.record(Found((), protocol={"process_s": round(plan.seconds, 4)} if timed else {}), (), None)
    if why := _incomparable(run, early, models):
        return run.refused(early, why)
    return _measured(run, sides, places, models, told)


def _places(
    model: Exported, device: str | None, threads: int, progress: Progress, provider: Provider | None
) -> tuple[Place, ...]:
    """Where it is measured: at each device that was named, else here."""
    if device is not None:
        return model.reach(device, threads, progress, provider)
    return (here(threads, LITERT if model.format == "tflite" else ONNXRUNTIME, provider or "cpu"),)


def _measured(
    run: _Run, sides: Sides, places: Sequence[Place], models: Sequence[AskedModel], told: Progress
) -> BenchRecord:
    """The record of what is measured at places, and of what models answer."""
    place, asked = run.place, run.asked
    if place.local and place.provider == "cpu":
        for tried, subjects in zip(run.beside, sides.values(), strict=True):
            try_subjects(tried, subjects, place.threads)
    told.start(f"measure: {', '.join(one.label for one in places)}", None)
    timed = place.device.timed
    found = measure_timed(sides, place, asked) if timed else measure_counted(sides, places, asked)
    told.finish()
    accuracy = _accuracy(models, told)
    record = run.record(found, _exact(run, accuracy), accuracy)
    why = incomparable(record, asked.stored) if asked.stored is not None else ""
    return run.refused(record, why) if why else record


def _check_numbers(budget_s: float | None, threads: int, seed: int) -> None:
    """Check what the command line checks by itself.

    Raises:
        UsageError: one is none that can be measured with.
    """
    for name, value, allowed, right in (
        ("budget_s", budget_s, "seconds above 0", budget_s is None or 0 < budget_s < math.inf),
        ("threads", threads, "1 or more", threads >= 1),
        ("seed", seed, "0 or more", seed >= 0),
    ):
        if not right:
            raise UsageError(f"{name} is {value}", id="usage.bad-value", why=f"allowed: {allowed}")


def _margins(gate: str | None, baseline: str | Path | None, data: str | Path | None) -> Margins | None:
    """The margins that were asked for; None where nothing was said.

    Raises:
        UsageError: there is nothing that they could be compared with.
    """
    if gate is None:
        return None
    if baseline is None:
        raise UsageError(
            "a gate was given without a baseline",
            id="usage.options-conflict",
            hint="Name what the model must not be worse than: --baseline OLD.",
        )
    margins = parse_margins(gate)
    if "accuracy" in margins and data is None:
        raise UsageError(
            "the accuracy is gated, and there is no data to answer",
            id="usage.options-conflict",
            hint="Give labelled samples: --data DATA.",
        )
    return margins


def _check_stored(stored: BenchRecord, data: str | Path | None) -> None:
    """That nothing is asked of a stored result which it cannot have.

    Raises:
        UsageError: answers.
    """
    if data is not None:
        raise UsageError(
            f"data was given, and the baseline is a stored result, of {stored.subject.name}",
            id="usage.options-conflict",
            why="a stored result does not hold the answers",
            hint="Give the model itself as the baseline, or leave out --data.",
        )


def _incomparable(run: _Run, early: BenchRecord, models: Sequence[AskedModel]) -> str:
    """Why nothing has to be measured to know that nothing can be compared; empty where that is not so."""
    comparison, stored = run.asked.comparison, run.asked.stored
    gated = comparison.margins.of
    if gated and all(name in comparison.lacking for name in gated):
        return "; ".join(f"{name}: {why}" for name, why in comparison.lacking.items())
    if stored is not None:
        wanted = [name for name in gated if name != "size" and name not in comparison.lacking]
        return incomparable(early, stored, wanted) if run.place.local else ""
    return unlike_answers(*models) if len(models) == len(SIDES) else ""


@dataclass(frozen=True)
class _Run:
    """What the record says of a run whatever comes of it.

    Attributes:
        doubts: what was seen of the models before anything was measured, one sentence each.
    """

    path: str | Path
    baseline: str | Path | None
    work: Workload
    model: Exported
    place: Place
    asked: Asked
    doubts: tuple[str, ...] = ()

    @property
    def beside(self) -> tuple[str | Path, ...]:
        """What is measured and answers: the candidate, and the baseline that is no stored result."""
        return (self.path,) if self.baseline is None or self.asked.stored else (self.path, self.baseline)

    def record(self, found: Found, further: tuple[Metric, ...], accuracy: Accuracy | None) -> BenchRecord:
        """The record of what was found."""
        asked, place, stored = self.asked, self.place, self.asked.stored
        metrics = (*further, *found.metrics)
        unmeasured = {one.name: one for one in metrics if one.margin is not None and one.verdict is None}.values()
        beside = self.beside[1] if len(self.beside) == len(SIDES) else None
        side = "stored" if stored else ("beside" if self.baseline else None)
        return BenchRecord(
            tool=Tool(version=version_of("edgekit") or "unknown"),
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            host=HostRecord.model_validate(host().record),
            timed_on=found.timed_on,
            subject=Subject.model_validate(describe(self.path) | self.model.record),
            baseline=stored.subject if stored else (Subject.model_validate(describe(beside)) if beside else None),
            runtime=Runtime(
                name=place.runtime,
                version=found.version or None,
                provider=EXECUTION_PROVIDERS[place.provider][0] if place.runtime == ONNXRUNTIME else None,
                threads=place.threads,
            ),
            protocol=Protocol.model_validate({"workload": self.work.model_dump(), "baseline": side, **found.protocol}),
            metrics=metrics,
            accuracy=accuracy,
            samples=found.samples,
            counts=found.counts,
            warnings=(
                *(self.model.doubts_of_times(place.provider) if place.local else ()),
                *self.doubts,
                *asked.comparison.margins.doubts(stored=stored is not None),
                *(f"{one.name} is not gated: {one.reason}" for one in unmeasured),
                *found.warnings,
            ),
            verdict=None if asked.comparison.paired is None else overall(metrics),
        )

    def refused(self, record: BenchRecord, why: str) -> BenchRecord:
        """The same record where the stored baseline is none: every gated metric is invalid."""
        gated = self.asked.comparison.margins.of
        kept = [one.model_copy(update=NOT_COMPARED) for one in record.metrics if one.name not in gated]
        refused = []
        for name in gated:
            known = [one for one in record.metrics if one.name == name]
            metrics = known or [self.asked.comparison.unknown(name, why)]
            reason = self.asked.comparison.lacking.get(name, why)
            update = {**NOT_COMPARED, "margin": gated[name], "verdict": "invalid", "reason": reason}
            refused += [one.model_copy(update=update) for one in metrics]
        return record.model_copy(
            update={
                "metrics": (*refused, *kept),
                "warnings": (f"not compared: {why}", *record.warnings),
                "verdict": "invalid",
            }
        )


NOT_COMPARED: dict[str, Any] = {"baseline": None, "delta": None, "delta_ci": None}


def _sides(
    path: str | Path, baseline: str | Path | None, work: Workload, format_: Format
) -> tuple[Sides, BenchRecord | None]:
    """The subjects of each side, and a stored result in place of the baseline's.

    Raises:
        UsageError: the two have different formats or components.
    """
    ours = subjects_at(path, work)
    if baseline is None:
        return {CANDIDATE: ours}, None
    if Path(baseline).suffix == ".json" and not is_artifact(baseline):
        return {CANDIDATE: ours}, load_record(baseline)
    theirs, other = subjects_at(baseline, work), format_at(baseline)
    if other != format_ or set(ours) != set(theirs):
        mine, its = (f"{kind}: {', '.join(sorted(parts))}" for kind, parts in ((format_, ours), (other, theirs)))
        raise UsageError(
            "the model and its baseline cannot be measured beside each other",
            id="usage.not-comparable",
            why=f"the model is {mine}, and the baseline {its}",
        )
    return {CANDIDATE: ours, BASELINE: theirs}, None


def _fed_otherwise(sides: Sides) -> Iterator[str]:
    """Inputs of one name that both sides have in other sizes, whatever the layout: then the work differs, too."""
    for part, theirs in sides.get(BASELINE, {}).items():
        ours = sides[CANDIDATE][part].feeds
        for name in sorted(theirs.feeds.keys() & ours.keys()):
            before, now = theirs.feeds[name].shape, ours[name].shape
            if sorted(before) != sorted(now):
                sizes = " and ".join(str(list(shape)) for shape in (before, now))
                yield f"the two do not do the same work: the input {name!r} of the baseline and the model is {sizes}"


def _exact(run: _Run, accuracy: Accuracy | None) -> tuple[Metric, ...]:
    """The size, and the accuracy where there is data."""
    asked = run.asked
    size = Metric(name="size", unit=METRICS["size"].unit, value=float(size_at(run.path)), n=1)
    if asked.stored is not None:
        size = asked.comparison.exact(size, float(asked.stored.subject.bytes))
    elif run.baseline is not None:
        size = asked.comparison.exact(size, float(size_at(run.baseline)))
    return (size,) if accuracy is None else (size, accuracy_metric(accuracy, asked.comparison.margins))


def _accuracy(models: Sequence[AskedModel], progress: Progress) -> Accuracy | None:
    """The answers of one or both sides to the same samples; None without data."""
    if not models:
        return None
    ours, *theirs = (answer(model, progress) for model in models)
    return compare_accuracy(ours, theirs[0] if theirs else None, models[0].task, models[0].split)


def _provider(name: str | None, format_: Format, device: str | None) -> Provider | None:
    """A provider by its name, checked; on a device, whether it computes is seen when that is reached."""
    if name is None:
        return None
    if name not in EXECUTION_PROVIDERS:
        raise UnknownNameError("provider", name, EXECUTION_PROVIDERS, id="unknown-name.provider")
    provider = name
    if provider == "cpu":
        return provider
    if format_ == "tflite":
        raise UsageError(
            f"the provider {provider} was asked for, and the file is a .tflite file",
            id="usage.options-conflict",
            why="providers are onnxruntime's, which runs .onnx files",
        )
    lacking = missing_gpu(RuntimeSpec(version="", provider=provider), host())
    if device is None and lacking is not None:
        raise HostError(
            f"this machine cannot compute with the provider {provider}",
            id="environment.no-gpu",
            why=lacking,
        )
    return provider
