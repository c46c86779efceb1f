"""``bench``: latency, size and memory of what is exported, here or on a device; instructions where it is emulated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import Format
from edgekit.environment import host
from edgekit.errors import HostError, UnknownNameError, UsageError
from edgekit.measure.instructions import INFERENCES, count_subjects
from edgekit.measure.latency import Timings, measure_memory, time_all, untimed
from edgekit.measure.profile import profile_sides
from edgekit.measure.subjects import describe, format_at, parts_at, size_at, subjects_at, try_subjects
from edgekit.places import NO_CLOCK, Exported, find_target
from edgekit.profile import Profiles
from edgekit.progress import Progress, Silent
from edgekit.report import BenchRecord, Measurement
from edgekit.runtimes import LITERT
from edgekit.runtimes.measuring import Place, Subject, Timing, here
from edgekit.target import EXECUTION_PROVIDERS, HOST, Provider, RuntimeSpec, Target, load_target, missing_gpu
from edgekit.tasks.base import Workload

ONNXRUNTIME = "onnxruntime"
TIMING = Timing()


def bench(
    path: str | Path,
    *,
    threads: int = 1,
    workload: Workload | None = None,
    provider: str | None = None,
    device: str | None = None,
    target: str | Path | Target | None = None,
    profile: bool = False,
    progress: Progress | None = None,
) -> BenchRecord:
    """Latency, size and memory of an artifact, an ``.onnx`` or a ``.tflite`` file.

    Args:
        path: an artifact, or an ONNX or TFLite graph of any origin, whose free dimensions follow the workload.
        threads: of the inference.
        workload: what one inference is.
        provider: what computes in onnxruntime: ``cpu``, ``cuda`` or ``tensorrt``; by default the processor here, and
            on a device what the target names.
        device: where, as for ``compress``: ``local``, ``emulated``, ``ssh://user@host`` ... By default this machine,
            and the record's warnings say so where it is not the target.
        target: what it is for; by default what an artifact was made for, and for another file this machine.
        profile: also the time of each kind of operator, and how fast this machine multiplies at most.
        progress: told how far it is.

    Raises:
        UnknownNameError: there is no such provider, target or way to a device.
        HostError: the device cannot be had; or there is no GPU that the provider computes on.
    """
    work, told = workload or Workload(), progress or Silent()
    format_ = format_at(path)
    computes = _provider(provider, format_, device)
    subjects = subjects_at(path, work)
    made_for, parts = parts_at(path)
    model = Exported(format_, parts, made_for, find_target(made_for, target, device))
    places: tuple[Place, ...]
    if device is None:
        places = (here(threads, LITERT if format_ == "tflite" else ONNXRUNTIME, computes or "cpu"),)
    else:
        places = model.reach(device, threads, told, computes)
    place = places[0]
    if place.local and place.provider == "cpu":
        try_subjects(path, subjects, threads)
    told.start(f"measure: {', '.join(one.label for one in places)}", None)
    size = Measurement(name="size", unit="bytes", value=float(size_at(path)), n=1)
    timings = time_all(subjects, place, TIMING) if place.device.timed else None
    counts = () if timings else tuple(count_subjects(subjects, one) for one in places)
    metrics = (size, *(_timed(subjects, place, timings) if timings else untimed(NO_CLOCK)))
    profiles = _profiled(subjects, place, model.target) if profile else None
    told.finish()
    version = timings.runtime_version if timings else counts[0].runtime.partition(" ")[2]
    computing = {"provider": EXECUTION_PROVIDERS[place.provider][0]} if place.runtime == ONNXRUNTIME else {}
    return BenchRecord(
        host=host().record,
        timed_on=timings.timed_on if timings else None,
        subject=describe(path) | model.record,
        runtime={"name": place.runtime, "version": version or None, **computing, "threads": threads},
        protocol={"workload": work.model_dump(), **(_protocol(timings) if timings else {"inferences": INFERENCES})},
        metrics=metrics,
        counts=counts,
        profile=profiles,
        warnings=(
            *(model.doubts_of_times(place.provider) if place.local else ()),
            *(timings.warnings if timings else ()),
        ),
    )


def _timed(subjects: Mapping[str, Subject], place: Place, timings: Timings) -> list[Measurement]:
    """Latency and peak memory of every component."""
    found = []
    for component, subject in subjects.items():
        found += [*timings.measurements(component, component), measure_memory(subject, place, component)]
    return found


def _profiled(subjects: Mapping[str, Subject], place: Place, target: Target | None) -> Profiles:
    """Where the time goes; the limits are those of INT8 as the target has it."""
    return profile_sides({"after": subjects}, place, (target or load_target(HOST)).int8)


def _protocol(timings: Timings) -> dict[str, JsonValue]:
    return {**vars(TIMING), "clock": timings.clock}


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
