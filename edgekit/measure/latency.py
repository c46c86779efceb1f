"""Latency of artifacts in the unit that users see: milliseconds of one inference of the workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from edgekit.artifact import Artifact, Component
from edgekit.measure.machine import disturbances
from edgekit.measure.statistics import Interval, median_bound, percentile, ratio_of_medians
from edgekit.report import Measurement, TimedOn
from edgekit.runtimes.measuring import (
    WALL_CLOCK,
    Place,
    Subject,
    Timing,
    latency_run,
    peak_memory,
    run_processes,
    time_subjects,
)
from edgekit.tasks.base import Batch, Task, Workload

UNTIMED = (("latency.p50", "ms"), ("latency.p90", "ms"), ("memory.peak", "bytes"))
LEVEL = 0.99
# Two sessions of one model differ by about half a percent: a smaller change is none.
MARGIN = 0.01


@dataclass(frozen=True)
class Timings:
    """What one interleaved run measured.

    Attributes:
        blocks_ms: for each subject, rounds of blocks of single inferences.
        warnings: what disturbed the machine that was measured on meanwhile.
        clock: what measured.
        runtime_version: of the runtime that was measured; empty where it was not told.
        timed_on: the machine that was measured on, where it is not this one.
        energy_uj: for each subject, microjoules of one inference in each round, where counters could be read; None
            where one stood still or began anew.
    """

    blocks_ms: dict[str, list[list[float]]]
    warnings: tuple[str, ...]
    clock: str = WALL_CLOCK
    runtime_version: str = ""
    timed_on: TimedOn | None = None
    energy_uj: dict[str, list[float | None]] = field(default_factory=dict)

    def samples(self, name: str) -> list[float]:
        """Every inference of a subject, in the order taken."""
        return [sample for block in self.blocks_ms[name] for sample in block]

    def p50(self, name: str) -> float:
        """Median latency of a subject in milliseconds."""
        value = percentile(self.samples(name), 50)
        assert value is not None  # any sample has a median
        return value

    def p50_bound(self, name: str) -> float | None:
        """One-sided 95 % bound of a subject's median latency, by the medians of its blocks."""
        return median_bound([sorted(block)[len(block) // 2] for block in self.blocks_ms[name]])

    def slowdown(self, name: str, than: str) -> tuple[float, Interval]:
        """How many times slower one subject is than another, with a 99 % interval."""
        return ratio_of_medians(self.blocks_ms[name], self.blocks_ms[than], level=LEVEL)

    def energy(self, name: str) -> float | None:
        """Mean microjoules of one inference of a subject; None where no round tells it."""
        known = [one for one in self.energy_uj.get(name, ()) if one is not None]
        return fmean(known) if known else None

    def dearness(self, name: str, than: str) -> float | None:
        """How many times the energy of another subject one takes, by the rounds in which that of both is known."""
        rounds = zip(self.energy_uj.get(name, ()), self.energy_uj.get(than, ()), strict=True)
        pairs = [(mine, other) for mine, other in rounds if mine is not None and other is not None]
        return sum(mine for mine, _ in pairs) / sum(other for _, other in pairs) if pairs else None

    def measurements(self, name: str, component: str) -> list[Measurement]:
        """p50 and p90 as a report holds them."""
        samples = self.samples(name)
        found = []
        for rank in (50, 90):
            value = percentile(samples, rank)
            found.append(
                Measurement(
                    name=f"latency.p{rank}",
                    unit="ms",
                    value=value,
                    n=len(samples),
                    component=component,
                    reason="" if value is not None else f"{len(samples)} samples are too few for p{rank}",
                    samples=tuple(round(sample, 4) for sample in samples) if rank == 50 else (),
                )
            )
        return found


def subject_at(folder: Path, part: Component, feeds: Batch) -> Subject:
    """A component whose files lie in a folder, with its inputs."""
    graph, *beside = (folder / file for file in part.files)
    return Subject(graph, feeds, tuple(beside), part if graph.suffix == ".tflite" else None)


def subjects_of(artifact: Artifact, task: Task, workload: Workload) -> dict[str, Subject]:
    """Each component of an exported artifact with inputs of the workload's size."""
    feeds = task.workload_feeds(workload)
    return {name: subject_at(artifact.path, part, feeds[name]) for name, part in artifact.manifest.components.items()}


def named_subjects(
    artifacts: Mapping[str, Artifact], task_of: Callable[[Artifact], Task], workload: Workload
) -> dict[str, Subject]:
    """The components of several artifacts: ``NAME`` where there is one, else ``NAME/COMPONENT``."""
    subjects = {}
    for name, artifact in artifacts.items():
        for component, subject in subjects_of(artifact, task_of(artifact), workload).items():
            subjects[subject_name(name, artifact, component)] = subject
    return subjects


def subject_name(name: str, artifact: Artifact, component: str) -> str:
    """What a component of an artifact is called among the subjects of a run."""
    return name if len(artifact.manifest.components) == 1 else f"{name}/{component}"


def time_all(subjects: Mapping[str, Subject], place: Place, timing: Timing) -> Timings:
    """Measure subjects interleaved in one fresh process."""
    answer = time_subjects(subjects, place, timing)
    warnings = disturbances(*answer.cpu_times) if len(answer.cpu_times) == 2 else []
    timed_on = None if place.local else TimedOn(device=place.device.label, facts=answer.host)
    return Timings(answer.blocks_ms, tuple(warnings), answer.clock, answer.runtime_version, timed_on)


def time_artifacts(
    artifacts: Mapping[str, Artifact],
    task_of: Callable[[Artifact], Task],
    workload: Workload,
    place: Place,
    timing: Timing,
) -> Timings:
    """Measure artifacts, each fed by its own task, interleaved in one fresh process."""
    return time_all(named_subjects(artifacts, task_of, workload), place, timing)


def time_in_processes(subjects: Mapping[str, Subject], place: Place, timing: Timing, processes: int) -> Timings:
    """Measure subjects interleaved in several fresh processes, one after the other, their rounds put together.

    Where a process lays out a graph's memory moves its latency by a few percent for as long as it runs: a ratio of one
    process is as sure as its rounds make it look only for that process.

    Args:
        subjects: all are in each process.
        place: where.
        timing: of each process.
        processes: how many.
    """
    runs = [latency_run([*subjects], {**vars(timing), "seed": seed}) for seed in range(processes)]
    answers = run_processes(subjects, place, runs, seconds=timing.seconds * processes, fewest=processes)
    blocks = {name: [block for answer in answers for block in answer.blocks_ms[name]] for name in subjects}
    energy = {name: [one for answer in answers for one in answer.energy_uj.get(name, ())] for name in subjects}
    return Timings(blocks, (), answers[0].clock, answers[0].runtime_version, energy_uj=energy)


def untimed(reason: str) -> list[Measurement]:
    """What a clock would have measured, and why there was none."""
    return [Measurement(name=name, unit=unit, value=None, reason=reason) for name, unit in UNTIMED]


def measure_memory(subject: Subject, place: Place, component: str) -> Measurement:
    """``memory.peak``: of a fresh process that loads and runs one component, interpreter and runtime included."""
    answer = peak_memory(subject, place)
    return Measurement(
        name="memory.peak", unit="bytes", value=float(answer.peak_memory_bytes), n=1, component=component
    )
