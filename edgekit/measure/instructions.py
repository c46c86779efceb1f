"""Instructions of one inference under emulation: exact where latency cannot be had, and never called latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.artifact import Artifact
from edgekit.measure.latency import named_subjects
from edgekit.report import Count
from edgekit.runtimes.measuring import Place, Subject, count_instructions
from edgekit.tasks.base import Task, Workload

# Counts of one inference repeat to a few thousandths of a percent: the middle of three is enough.
INFERENCES = 3


def count_artifact(artifact: Artifact, task: Task, workload: Workload, place: Place) -> Count:
    """Count the instructions of one inference of an artifact on an emulated device; of several components, the sum."""
    return count_subjects(named_subjects({"model": artifact}, lambda _: task, workload), place)


def count_subjects(subjects: Mapping[str, Subject], place: Place, count: int = INFERENCES, warmup: int = 1) -> Count:
    """Count the instructions of one inference of each subject on an emulated device; their sum.

    Args:
        subjects: by their names.
        place: the device.
        count: inferences of each that are counted.
        warmup: inferences before these.
    """
    answer = count_instructions(subjects, place, count, warmup)
    kernels: dict[str, int] = {}
    for classes in answer.kernels.values():
        for name, number in classes.items():
            kernels[name] = kernels.get(name, 0) + number
    return Count(
        device=place.device.label,
        instructions=sum(map(middle, answer.instructions.values())),
        samples=tuple(tuple(numbers) for numbers in answer.instructions.values()),
        kernels=kernels,
        runtime=f"{place.runtime} {answer.runtime_version}",
    )


def middle(numbers: Sequence[int]) -> int:
    """The middle one of the counts of one subject, the higher of two."""
    return sorted(numbers)[len(numbers) // 2]
