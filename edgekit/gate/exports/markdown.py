"""A comment on a pull request, and the summary of a step: GitHub's Markdown, which GitLab reads as well.

The first line is a comment that is not shown; it names the model and where it was measured, for a script to find an
earlier comment by. Names
and reasons are text: what would be markup, a mention or a link in them is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord, Metric

# Of a name, what an HTML comment may hold.
_UNMARKED = re.compile(r"[^A-Za-z0-9._ ]+")
MOST_WARNINGS = 20
LONGEST = 300
# A comment of GitHub has at most 65536 characters, of which action.yml takes a line to find it by.
MOST_CHARACTERS = 65_536 - 100
_MARKUP = re.compile(r"([\\`*_{}\[\]|#!~])")
# Behind which a space of no width keeps what follows from becoming a mention, the number of an issue or an emoji, which
# GitHub looks for after the Markdown, where an escaped sign is as good as any (github/cmark-gfm, issue 181).
_LINKED = re.compile(r"@|\bGH-(?=\d)|(?<=\\)#(?=\d)|:(?=[a-z0-9_+-]*[a-z+-][a-z0-9_+-]*:)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def write(record: BenchRecord) -> str:
    """The comment."""
    text = "\n".join(_lines(record)) + "\n"
    end = "\n\nCut short: the whole of it is in the JSON document.\n"
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - len(end)].rpartition("\n")[0] + end


def _lines(record: BenchRecord) -> Iterator[str]:
    yield marker(record)
    verdict = f": {record.verdict}" if record.verdict else ""
    yield f"### edgekit bench{verdict}"
    yield ""
    subject = f"**{plain(record.subject.name)}**"
    yield f"{subject} beside **{plain(record.baseline.name)}**" if record.baseline else subject
    yield ""
    if record.verdict is None:
        yield from _values(record.metrics)
    else:
        yield from _changes((*record.gated, *record.unmeasured))
    if record.accuracy is not None and record.accuracy.lost is not None and record.accuracy.p_value is not None:
        found = record.accuracy
        yield ""
        yield (
            f"{plain(found.metric)} on {found.n} samples: {found.lost} answered right only by the baseline,"
            f" {found.gained} only by the candidate (McNemar, p = {found.p_value:.3g})."
        )
    if record.warnings:
        yield ""
        yield "**Warnings**"
        yield ""
        yield from (f"- {plain(warning)}" for warning in record.warnings[:MOST_WARNINGS])
        rest = len(record.warnings) - MOST_WARNINGS
        if rest > 0:
            yield f"- and {rest} more"
    others = [metric for metric in record.metrics if metric.margin is None] if record.verdict is not None else []
    yield ""
    yield "<details><summary>How it was measured</summary>"
    yield ""
    if others:
        yield from _others(others)
        yield ""
    yield from (f"- {name}: {plain(value)}" for name, value in wording.where(record))
    yield ""
    yield "</details>"


def _changes(metrics: Sequence[Metric]) -> Iterator[str]:
    """Gated metrics, what failed first."""
    order = ("regression", "invalid", "inconclusive", wording.UNMEASURED, "pass", "improvement")
    yield "| metric | baseline | candidate | change | interval | allowed | verdict |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    told = [(metric.verdict or wording.UNMEASURED, metric) for metric in metrics]
    for verdict, metric in sorted(told, key=lambda one: order.index(one[0])):
        shown = f"**{verdict}**" if verdict in order[:2] else verdict
        cells = (
            plain(wording.label(metric)),
            wording.value_text(metric, metric.baseline),
            wording.value_text(metric, metric.value),
            wording.change_text(metric, metric.delta),
            wording.interval_text(metric) or "-",
            wording.margin_text(metric),
            f"{shown}: {plain(metric.reason)}" if metric.reason else shown,
        )
        yield f"| {' | '.join(cells)} |"


def _others(metrics: Sequence[Metric]) -> Iterator[str]:
    """What was measured of both and not gated."""
    yield "| not gated | baseline | candidate | change | interval |"
    yield "|---|---:|---:|---:|---:|"
    for metric in metrics:
        cells = (
            plain(wording.label(metric)),
            wording.value_text(metric, metric.baseline),
            _value(metric),
            wording.change_text(metric, metric.delta),
            wording.interval_text(metric) or "-",
        )
        yield f"| {' | '.join(cells)} |"


def _values(metrics: Sequence[Metric]) -> Iterator[str]:
    """What was measured of one model alone."""
    yield "| metric | value | interval |"
    yield "|---|---:|---:|"
    for metric in metrics:
        yield f"| {plain(wording.label(metric))} | {_value(metric)} | {wording.interval_text(metric) or '-'} |"


def _value(metric: Metric) -> str:
    """A value, or why there is none."""
    reason = f" ({plain(metric.reason)})" if metric.value is None and metric.reason else ""
    return wording.value_text(metric, metric.value) + reason


def marker(record: BenchRecord) -> str:
    """The line that is not shown."""
    device = record.timed_on.device if record.timed_on else next((count.device for count in record.counts), None)
    parts = [part for part in (record.subject.name, record.subject.target, device) if part]
    return f"<!-- edgekit bench: {', '.join(_UNMARKED.sub('-', part)[:LONGEST] for part in parts)} -->"


def plain(text: str) -> str:
    """Text that stays text: on one line, shortened, nothing in it markup, a mention or a link."""
    one = _CONTROL.sub(" ", text)
    short = one if len(one) <= LONGEST else one[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    safe = _MARKUP.sub(r"\\\1", html.escape(short, quote=False))
    return _LINKED.sub("\\g<0>\u200b", safe.replace("://", "&#58;//").replace("www.", "www&#46;"))
