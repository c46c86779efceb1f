"""A result of ``bench`` as files that others read: one module a format, one row in the table.

Each module has one function, from a `edgekit.gate.record.BenchRecord` to text. What a format has no place for is left
out, and its module says so; ``--json`` has all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.gate.exports import (
    bencher,
    github_action_benchmark,
    google_benchmark,
    junit,
    markdown,
    pytest_benchmark,
)
from edgekit.gate.record import BenchRecord


@dataclass(frozen=True)
class Export:
    """One format.

    Attributes:
        what: what it is for, in a few words.
        write: a record as the text of a file.
    """

    what: str
    write: Callable[[BenchRecord], str]


EXPORTS: dict[str, Export] = {
    "junit": Export("test results of CI servers", junit.write),
    "markdown": Export("a comment on a pull request", markdown.write),
    "github-action-benchmark": Export("its tool customSmallerIsBetter", github_action_benchmark.write_smaller),
    "github-action-benchmark-bigger": Export("its tool customBiggerIsBetter", github_action_benchmark.write_bigger),
    "pytest-benchmark": Export("`pytest-benchmark compare`", pytest_benchmark.write),
    "google-benchmark": Export("google/benchmark's compare.py", google_benchmark.write),
    "bencher": Export("Bencher Metric Format", bencher.write),
}
