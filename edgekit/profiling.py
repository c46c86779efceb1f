"""``profile``: where the time of an artifact goes, operator by operator, alone or beside another one."""

from __future__ import annotations

from pathlib import Path

from edgekit.environment import host
from edgekit.errors import UsageError
from edgekit.measure.profile import ONNXRUNTIME, PROFILING, find_changes, profile_sides
from edgekit.measure.subjects import describe, format_at, parts_at, subjects_at
from edgekit.places import find_target
from edgekit.profiles import ProfileRecord
from edgekit.progress import Progress, Silent
from edgekit.render.html.operators import profile_page
from edgekit.reporting import check_page, write_page
from edgekit.runtimes import LITERT
from edgekit.runtimes.measuring import here
from edgekit.target import HOST, Target, load_target
from edgekit.tasks.base import Workload


def profile(
    path: str | Path,
    other: str | Path | None = None,
    *,
    threads: int = 1,
    workload: Workload | None = None,
    target: str | Path | Target | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> ProfileRecord:
    """Time per operator of an artifact or an ``.onnx`` file on this machine, or of two of them in one interleaved run.

    Args:
        path: an artifact, or an ONNX graph of any origin, whose free dimensions follow the workload.
        other: a second one; what changed is told from ``path`` to it.
        threads: of the inference.
        workload: what one inference is.
        target: whose types of INT8 the machine's limit is of; by default what the artifact was made for, else this
            machine.
        output: where a page of it is written; None writes none.
        progress: told how far it is.

    Raises:
        UnknownNameError: there is no such target.
        UsageError: what is given runs where no time per operator is told, or the output may not be written.
        HostError: the measuring process failed.
    """
    work, told = workload or Workload(), progress or Silent()
    page = check_page(output) if output is not None else None
    given = [path] if other is None else [path, other]
    for one in given:
        _check(one)
    subjects = [subjects_at(one, work) for one in given]
    made_for, _ = parts_at(given[-1])
    scheme = (find_target(made_for, target, None) or load_target(HOST)).int8
    told.start("profile: operators, and what this machine can do", None)
    sides = dict(zip(("after",) if other is None else ("before", "after"), subjects, strict=True))
    found = profile_sides(sides, here(threads), scheme, PROFILING, kernels=True)
    told.finish()
    record = ProfileRecord(
        host=host().record,
        subject=describe(given[-1]),
        compared_with=None if other is None else describe(path),
        protocol={"workload": work.model_dump(), **vars(PROFILING)},
        profiles=found,
        changes=find_changes(found.before, found.after),
        warnings=found.warnings,
    )
    if page is not None:
        write_page(page, profile_page(record))
    return record


def _check(path: str | Path) -> None:
    """Refuse what runs in a runtime that tells no time per operator.

    Raises:
        UsageError: a TFLite graph.
    """
    if format_at(path) == "tflite":
        raise UsageError(
            f"{str(path)!r} cannot be profiled",
            id="usage.no-profile",
            why=f"the Python interface of {LITERT} tells no time per operator; {ONNXRUNTIME} does",
        )
