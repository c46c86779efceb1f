"""The report of a run on a terminal: the verdict, the loss ledger, before and after, what was done, where it lies."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.artifact import WHOLE
from edgekit.render import figures
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
    workload_of,
)
from edgekit.render.stages import stage_lines
from edgekit.report import ORIGINAL, LimitVerdict, Measurement, Quality, Report

LATENCY = "latency."
SIZE = "size"
MEMORY = "memory."
MAX_DROP, MAX_MS, MAX_MB, TIME = "max_drop", "max_ms", "max_mb", "time"


def report_view(report: Report, *, width: int) -> RenderableType:
    """A report as it stands at the end of ``compress``.

    Args:
        report: one that knows where its artifact lies.
        width: columns of the terminal.
    """
    parts: list[RenderableType] = [headline(report), verdict_view(report)]
    parts += [title("What each stage did"), ledger_view(report, width=width)]
    parts += [title("Before and after"), comparison_view(report)]
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
    gains.append(_size_ratio(report))
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
    return make_grid([(_verdict(limit, report), *_limit(limit, report)) for limit in report.limits])


def comparison_view(report: Report) -> RenderableType:
    """The original beside the artifact, with ratios; what could not be measured stands below, with the reason."""
    figured = (ORIGINAL, "artifact")
    table = make_table("", *figured, "change", right=figured, unbroken=("", *figured))
    for row in _comparison(report):
        table.add_row(*(Text(cell) for cell in row))
    lines = [Text(line, style=DOUBT) for line in _not_measured(report)]
    if report.quality is not None:
        lines.append(Text(_agreement(report.quality), style=FAINT))
    if report.latency_ms.p50 is not None:
        threads = f"{report.threads} thread" + ("s" if report.threads > 1 else "")
        what = f"latency of {workload_of(report.task, report.workload)}, on {threads}, in {report.runtime}"
        lines.append(Text(what, style=FAINT))
    return Group(table, *lines)


def location_view(report: Report) -> RenderableType:
    """Where the artifact lies, how big it is, how long it took."""
    artifact = report.artifact
    size, folder = figures.megabytes(artifact.size_bytes), figures.megabytes(artifact.folder_bytes)
    took = "answered from the cache" if report.cached else f"took {figures.duration(report.seconds)}"
    return Group(
        Text(str(artifact.path), style=STRONG, no_wrap=True, overflow="ignore"),
        Text(f"model files {size} MB, whole folder {folder} MB (1 MB = 10^6 bytes); {took}"),
    )


def _verdict(limit: LimitVerdict, report: Report) -> Text:
    """One word on a limit, as strict as the run."""
    if limit.met is False:
        return Text("missed", style=f"{STRONG} {BAD}")
    if limit.met is None:
        return Text("unknown", style=f"{STRONG} {DOUBT}")
    if limit.proven:
        return Text("proven", style=f"{STRONG} {GOOD}")
    if report.strict and limit.proven is False:
        return Text("not proven", style=f"{STRONG} {BAD}")
    return Text("met", style=f"{STRONG} {GOOD}")


def _limit(limit: LimitVerdict, report: Report) -> tuple[str, str]:
    """A limit's name, and what came of it beside what was allowed."""
    name = limit.limit.replace("_", " ")
    if limit.value is None:
        reason = _unmeasured(report.not_measured_because) if limit.limit == MAX_MS else "it could not be told"
        return name, f"{_in_unit(limit.limit, limit.bound, report)} allowed; {reason}"
    if limit.limit != MAX_DROP:
        found, allowed = (_in_unit(limit.limit, value, report) for value in (limit.value, limit.bound))
        return name, f"{found} of {allowed} allowed"
    bound = _in_unit(MAX_DROP, limit.bound, report)
    amount = _in_unit(MAX_DROP, abs(limit.value), report)
    what = f"{amount} gained, {bound} might be lost" if limit.value < 0 else f"{amount} of {bound} lost"
    if report.quality is None or limit.proven is None:
        return name, what
    # The upper end of the two-sided 90 % interval is the one-sided 95 % bound.
    most = figures.quality_change(report.quality.metric, report.quality.drop_high).lstrip("+")
    return name, f"{what}, at most {most} with 95% confidence"


def _in_unit(limit: str, value: float, report: Report) -> str:
    if limit == MAX_DROP:
        return figures.points(report.quality.metric if report.quality else "accuracy", value)
    if limit == MAX_MS:
        return f"{figures.milliseconds(value)} ms"
    if limit == MAX_MB:
        return f"{value:.2f} MB"
    return figures.duration(value) if limit == TIME else f"{value:g}"


def _comparison(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """Rows of (name, original, artifact, change): the metric, then every measurement that has a value."""
    quality = report.quality
    if quality is not None:
        before, after = (figures.quality(quality.metric, value) for value in (quality.before, quality.after))
        yield f"{quality.metric} (n = {quality.n})", before, after, _interval(quality)
    originals = {(one.name, one.component): one.value for one in report.before}
    for one in sorted(report.after, key=_order):
        if one.value is None or (quality is not None and one.name == quality.metric):
            continue
        old = originals.get((one.name, one.component))
        before, after = (figures.measurement(one.name, one.unit, value) for value in (old, one.value))
        yield _label(one), before, after, _change(one, old)


def _not_measured(report: Report) -> list[str]:
    """One line for each reason: ``latency and memory not measured: ...``."""
    reasons: dict[str, list[str]] = {}
    for one in report.after:
        noun, named = one.name.partition(".")[0], reasons.setdefault(one.reason or report.not_measured_because, [])
        if one.value is None and noun not in named:
            named.append(noun)
    if not report.measured and not any("latency" in named for named in reasons.values()):
        reasons.setdefault(report.not_measured_because, []).insert(0, "latency")
    return [f"{' and '.join(named)} {_unmeasured(reason)}" for reason, named in reasons.items() if named]


def _unmeasured(reason: str) -> str:
    return f"not measured: {reason}" if reason else "not measured"


def _order(one: Measurement) -> int:
    """Latency first, then memory, then size, then the rest."""
    return next((index for index, start in enumerate((LATENCY, MEMORY, SIZE)) if one.name.startswith(start)), 3)


def _label(one: Measurement) -> str:
    return one.name if one.component == WHOLE else f"{one.name}, {one.component}"


def _change(after: Measurement, before: float | None) -> str:
    if after.name.startswith(LATENCY):
        return figures.ratio(before, after.value, "faster", "slower", "as fast")
    if after.name.startswith((MEMORY, SIZE)):
        return figures.ratio(before, after.value, "smaller", "larger", "as large")
    return ""


def _size_ratio(report: Report) -> str:
    before, after = report.value(SIZE, before=True), report.value(SIZE)
    if before is None or after is None:
        before, after = report.ledger[0].size_bytes, [row for row in report.ledger if row.kept][-1].size_bytes
    return figures.ratio(before, after, "smaller", "larger", "as large")


def _interval(quality: Quality) -> str:
    """The change of the metric with its 90 % interval: the drop's, turned round."""
    low, high = (figures.quality_change(quality.metric, -end) for end in (quality.drop_high, quality.drop_low))
    low = low.removesuffix(" pp")
    return f"{figures.quality_change(quality.metric, -quality.drop)} (90%: {low} to {high})"


def _agreement(quality: Quality) -> str:
    """How alike the two answer, and on what."""
    parts = [f"cosine of the logits {quality.cosine:.4f}", f"on {quality.split}"]
    if quality.flips is not None:
        parts.insert(0, f"{quality.flips} of {quality.n} predictions changed")
    return "; ".join(parts)
