"""Reports made again as pages, and runs compared: read from sealed artifacts, written outside them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from edgekit.artifact import MANIFEST, PAGE, SUMS, write_text
from edgekit.errors import ArtifactError, HostError, UsageError
from edgekit.render.comparison import Comparison, compare_reports
from edgekit.render.html.comparison import comparison_page
from edgekit.render.html.document import OPENING
from edgekit.render.html.report import report_page
from edgekit.report import FILE, Report, load_report

COMPARISON_PAGE = "comparison.html"
FEWEST = 2


def render_report(run: str | Path, output: str | Path | None = None) -> Path:
    """Write the page of a run, as it lies in the run's artifact, to a file of its own.

    Args:
        run: an artifact with a report, or its ``report.json``.
        output: the file; ``NAME-report.html`` in the current directory by default.

    Returns:
        Where it was written.

    Raises:
        ArtifactError: no report there, or one that cannot be read.
        UsageError: the output may not be written.
    """
    report = find_report(run)
    file = check_page(output if output is not None else f"{report.artifact.path.resolve().name}-{PAGE}")
    write_page(file, report_page(report))
    return file


def compare(runs: Sequence[str | Path], output: str | Path | None = None) -> Comparison:
    """Put runs side by side.

    Args:
        runs: at least two artifacts with reports.
        output: where a page of it is written; None writes none.

    Raises:
        ArtifactError: no report there, or one that cannot be read.
        UsageError: fewer than two runs, one of them twice, or an output that may not be written.
    """
    if len(runs) < FEWEST:
        raise UsageError(
            f"{len(runs)} runs were given to compare", id="usage.runs-to-compare", why=f"needed: at least {FEWEST}"
        )
    reports = [find_report(run) for run in runs]
    places = [report.artifact.path.resolve() for report in reports]
    twice = next((str(run) for run, place in zip(runs, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice!r} was given twice", id="usage.runs-to-compare", hint="Name each run once.")
    file = check_page(output) if output is not None else None
    found = compare_reports(reports)
    if file is not None:
        write_page(file, comparison_page(found))
    return found


def find_report(run: str | Path) -> Report:
    """The report of a run; where there is none, what lies near it.

    Raises:
        ArtifactError: no such folder, no report in it, or none that can be read.
    """
    folder = Path(run).expanduser()
    if folder.name == FILE and folder.is_file():
        folder = folder.parent
    if not folder.exists():
        raise ArtifactError(f"there is no run {str(run)!r}", id="artifact.missing", hint=_near(folder))
    if not folder.is_dir():
        raise ArtifactError(
            f"{str(run)!r} is a file, not a run",
            id="artifact.not-an-artifact",
            why=f"allowed: the output folder of compress, or its {FILE}",
        )
    if not (folder / FILE).is_file():
        why = f"it has no {FILE}"
        if (folder / MANIFEST).is_file():
            why += "; it is the artifact of a stage, and the report lies in the run's output"
        raise ArtifactError(f"{str(run)!r} is not a run", id="artifact.not-an-artifact", why=why, hint=_inside(folder))
    return load_report(folder)


def check_page(output: str | Path) -> Path:
    """Where a page may be written.

    Raises:
        UsageError: a directory, a file that edgekit did not write, or a place inside a sealed artifact.
    """
    file = check_place(output, PAGE)
    if file.exists() and not _is_ours(file):
        raise UsageError(
            f"{str(output)!r} exists and is no page of edgekit",
            id="usage.output-taken",
            why="allowed: a new file, or an earlier page, which is replaced",
            hint="Choose another file with -o.",
        )
    return file


def check_place(output: str | Path, example: str) -> Path:
    """Where a file may be written: outside artifacts, in a folder that is there or can be made.

    Args:
        output: the file.
        example: what a file in a directory might be called.

    Raises:
        UsageError: a directory, a device, a place below a file, or one inside a sealed artifact.
        HostError: nothing may be written there.
    """
    file = Path(output).expanduser()
    if file.is_dir():
        raise UsageError(
            f"{str(output)!r} is a directory",
            id="usage.output-taken",
            hint=f"Name a file: {Path(str(output)) / example}",
        )
    beside = file.absolute().parent.resolve()
    if beside == Path("/dev") or beside.is_relative_to("/proc") or (file.exists() and not file.is_file()):
        raise UsageError(
            f"{str(output)!r} is no file",
            id="usage.output-taken",
            why="a file is written whole and put in its place, and a device would be replaced by it",
            hint=f"Name a file in a folder, such as {example}.",
        )
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(
            f"{str(output)!r} cannot be made",
            id="usage.output-taken",
            why=f"{folder.name!r} is a file",
            hint=f"Name a file in a folder, such as {example}.",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise HostError(
            f"no permission for {str(output)!r}",
            id="environment.no-permission",
            why=f"nothing may be written into {str(folder)!r}",
        )
    sealed = next((parent for parent in file.resolve().parents if _is_sealed(parent)), None)
    if sealed is not None:
        raise UsageError(
            f"{str(output)!r} lies inside the artifact {sealed.name!r}",
            id="usage.output-sealed",
            why=f"{SUMS} covers every file there, so a new one would break it",
            hint="Write it elsewhere.",
        )
    return file


def write_page(file: Path, page: str) -> None:
    """Write a page whole or not at all, making the folder that it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)


def _is_sealed(folder: Path) -> bool:
    return (folder / SUMS).is_file() or (folder / MANIFEST).is_file()


def _is_ours(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(OPENING)) == OPENING.encode()


def _near(folder: Path) -> str:
    """The runs whose names are like one that is not there."""
    if not folder.parent.is_dir():
        return "Give the output folder of compress."
    names = difflib.get_close_matches(folder.name, _runs_in(folder.parent), n=3, cutoff=0.5)
    near = [repr(str(folder.parent / name)) for name in names]
    return f"Did you mean {' or '.join(near)}?" if near else "Give the output folder of compress."


def _inside(folder: Path) -> str:
    """The runs in a folder that is none."""
    found = [str(folder / name) for name in _runs_in(folder)[:5]]
    return f"It holds runs: {', '.join(found)}." if found else "Give the output folder of compress."


def _runs_in(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
