"""The report of a run on a terminal: the verdict, the loss ledger, before and after, what was done, where it lies."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.ledger import ORIGINAL
from edgekit.render import figures, wording
from edgekit.render.ledger import ledger_view
from edgekit.render.parts import (
    BAD,
    DOUBT,
    FAINT,
    GOOD,
    STRONG,
    items,
    make_grid,
    make_table,
    title,
    whole_line,
)
from edgekit.render.profile import profile_lines
from edgekit.render.search import search_view
from edgekit.render.stages import stage_lines
from edgekit.report import LimitVerdict, Report


def report_view(report: Report, *, width: int) -> RenderableType:
    """A report as it stands at the end of ``compress``.

    Args:
        report: one that knows where its artifact lies.
        width: columns of the terminal.
    """
    parts: list[RenderableType] = [headline(report), verdict_view(report)]
    parts += [title("What each stage did"), ledger_view(report, width=width)]
    parts += [title("Before and after"), comparison_view(report)]
    if report.search is not None:
        parts += [title("What was tried"), search_view(report.search)]
    said = list(stage_lines(report))
    if said:
        parts += [title("Inside the artifact"), make_grid(said)]
    if report.notes:
        parts += [title("Notes"), items(report.notes)]
    if report.warnings:
        parts += [title("Warnings"), items(report.warnings, DOUBT)]
    parts += [title("Artifact"), location_view(report)]
    return Group(*parts)


def headline(report: Report) -> Text:
    """The whole result in one sentence."""
    gains = []
    if report.speedup is not None:
        before, after = report.original_latency_ms.p50, report.latency_ms.p50
        gains.append(figures.ratio(before, after, "faster", "slower", "as fast"))
    gains.append(wording.size_ratio(report))
    quality = report.quality
    if quality is not None:
        before_, after_ = (figures.quality(quality.metric, value) for value in (quality.before, quality.after))
        gains.append(f"{quality.metric} {before_} -> {after_}")
    name = report.source.get("name") or "the model"
    return Text(f"{name} for {report.target}: {', '.join(gain for gain in gains if gain)}", style=STRONG)


def verdict_view(report: Report) -> RenderableType:
    """One line a limit."""
    if not report.limits:
        return Text("no limit was set", style=FAINT)
    return make_grid(
        [
            (_verdict(limit, report), wording.limit_name(limit), wording.limit_text(limit, report))
            for limit in report.limits
        ]
    )


def comparison_view(report: Report) -> RenderableType:
    """The original beside the artifact, with ratios; what could not be measured stands below, with the reason."""
    figured = (ORIGINAL, "artifact")
    table = make_table("", *figured, "change", right=figured, unbroken=("", *figured))
    for row in _comparison(report):
        table.add_row(*(Text(cell) for cell in row))
    lines = [Text(line, style=DOUBT) for line in wording.not_measured(report)]
    if report.quality is not None:
        lines.append(Text(wording.agreement(report.quality), style=FAINT))
    lines += [Text(line) for line in (*wording.counted(report), *wording.checked(report))]
    if report.latency_ms.p50 is not None:
        lines.append(Text(f"latency of {wording.timing(report)}", style=FAINT))
    lines += [Text(line) for line in profile_lines(report.profile)]
    return Group(table, *lines)


def location_view(report: Report) -> RenderableType:
    """Where the artifact lies, how big it is, how long it took."""
    artifact = report.artifact
    size, folder = figures.megabytes(artifact.size_bytes), figures.megabytes(artifact.folder_bytes)
    took = "answered from the cache" if report.cached else f"took {figures.duration(report.seconds)}"
    return Group(
        whole_line((str(artifact.path), STRONG)),
        Text(f"model files {size} MB, whole folder {folder} MB (1 MB = 10^6 bytes); {took}"),
    )


def _verdict(limit: LimitVerdict, report: Report) -> Text:
    word = wording.verdict(limit, report)
    return Text(word, style=f"{STRONG} {_STYLES[word]}")


_STYLES: dict[wording.Verdict, str] = {
    "proven": GOOD,
    "met": GOOD,
    "not proven": BAD,
    "missed": BAD,
    "unknown": DOUBT,
}


def _comparison(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """Rows of (name, original, artifact, change): the metric, then every measurement that has a value."""
    quality = report.quality
    if quality is not None:
        before, after = (figures.quality(quality.metric, value) for value in (quality.before, quality.after))
        yield f"{quality.metric} (n = {quality.n})", before, after, wording.interval(quality)
    originals = {(one.name, one.component): one.value for one in report.before}
    for one in sorted(report.after, key=wording.order):
        if one.value is None or (quality is not None and one.name == quality.metric):
            continue
        old = originals.get((one.name, one.component))
        before, after = (figures.measurement(one.name, one.unit, value) for value in (old, one.value))
        yield wording.label(one), before, after, wording.change(one, old)
