"""Latency of artifacts in the unit that users see: milliseconds of one inference of the workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.artifact import Artifact
from edgekit.measure.machine import disturbances, read_cpu_times
from edgekit.measure.statistics import Interval, percentile, ratio_of_medians
from edgekit.report import Measurement
from edgekit.runtimes.local import Subject, Timing, peak_memory, time_subjects
from edgekit.tasks.base import Task, Workload

LEVEL = 0.99
# Two sessions of one model differ by about half a percent: a smaller change is none.
MARGIN = 0.01


@dataclass(frozen=True)
class Timings:
    """What one interleaved run measured.

    Attributes:
        blocks_ms: for each subject, rounds of blocks of single inferences.
        warnings: what disturbed the machine meanwhile.
    """

    blocks_ms: dict[str, list[list[float]]]
    warnings: tuple[str, ...]

    def samples(self, name: str) -> list[float]:
        """Every inference of a subject, in the order taken."""
        return [sample for block in self.blocks_ms[name] for sample in block]

    def p50(self, name: str) -> float:
        """Median latency of a subject in milliseconds."""
        value = percentile(self.samples(name), 50)
        assert value is not None  # any sample has a median
        return value

    def slowdown(self, name: str, than: str) -> tuple[float, Interval]:
        """How many times slower one subject is than another, with a 99 % interval."""
        return ratio_of_medians(self.blocks_ms[name], self.blocks_ms[than], level=LEVEL)

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


def subjects_of(artifact: Artifact, task: Task, workload: Workload) -> dict[str, Subject]:
    """Each component of an ONNX artifact with inputs of the workload's size."""
    feeds = task.workload_feeds(workload)
    return {
        name: Subject((artifact.path / part.files[0]).resolve(), feeds[name])
        for name, part in artifact.manifest.components.items()
    }


def time_all(subjects: Mapping[str, Subject], threads: int, timing: Timing) -> Timings:
    """Measure subjects interleaved in one fresh process."""
    before = read_cpu_times()
    answer = time_subjects(subjects, threads, timing)
    return Timings(answer.blocks_ms, tuple(disturbances(before, read_cpu_times())))


def time_artifacts(
    artifacts: Mapping[str, Artifact], task: Task, workload: Workload, threads: int, timing: Timing
) -> Timings:
    """Measure artifacts of one component each, interleaved in one fresh process."""
    subjects = {}
    for name, artifact in artifacts.items():
        parts = subjects_of(artifact, task, workload)
        for component, subject in parts.items():
            subjects[name if len(parts) == 1 else f"{name}/{component}"] = subject
    return time_all(subjects, threads, timing)


def measure_memory(subject: Subject, threads: int, component: str) -> Measurement:
    """``memory.peak``: of a fresh process that loads and runs one component, interpreter and runtime included."""
    answer = peak_memory(subject, threads)
    return Measurement(
        name="memory.peak", unit="bytes", value=float(answer.peak_memory_bytes), n=1, component=component
    )
