"""The top of the page: did it pass, how much faster and smaller, what did it cost."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.render import figures, wording
from edgekit.render.html.markup import Child, Html, element, minus, section, table, text
from edgekit.report import LimitVerdict, Report

SIGNS: dict[wording.Verdict, str] = {
    "proven": "\N{CHECK MARK}",
    "met": "\N{CHECK MARK}",
    "not proven": "\N{BALLOT X}",
    "missed": "\N{BALLOT X}",
    "unknown": "?",
}
CLASSES: dict[wording.Verdict, str] = {
    "proven": "good",
    "met": "good",
    "not proven": "bad",
    "missed": "bad",
    "unknown": "doubt",
}
ARROW = " \N{RIGHTWARDS ARROW} "


def head(report: Report) -> Html:
    """Name, verdict in a sentence, and the three figures that everyone asks for."""
    name = report.source.get("name") or "the model"
    return element(
        "header",
        element("p", f"edgekit report, {when(report.created)}", class_="eyebrow"),
        element("h1", text(name), " for ", report.target),
        element("p", *_verdict_sentence(report), class_="verdict"),
        _interim(report),
        element("div", *_figures(report), class_="heroes"),
    )


def limits(report: Report) -> Html:
    """The verdict on every limit."""
    if not report.limits:
        return section("limits", "Limits", element("p", "No limit was set for this run, so none can be missed."))
    rows = [_limit(limit, report) for limit in report.limits]
    return section(
        "limits",
        "Limits",
        table(("limit", "verdict", "found"), rows, kinds="ttt", caption="verdict on each limit"),
        lead=(
            "A limit is met by the figure that was found. It is proven when the one-sided 95% bound lies within it too."
            + (" This run is strict: a limit that is only met counts as missed." if report.strict else "")
        ),
    )


def badge(word: wording.Verdict, written: str = "") -> Html:
    """A verdict as sign and word, or as what is written instead of the word."""
    sign = element("span", SIGNS[word], aria_hidden="true")
    return element("span", sign, " ", written or word, class_=f"badge {CLASSES[word]}")


def when(created: str) -> str:
    """A time as people write it."""
    return created.replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC")


def _verdict_sentence(report: Report) -> tuple[Child, ...]:
    verdicts = [wording.verdict(limit, report) for limit in report.limits]
    if not verdicts:
        return badge("unknown", "No verdict:"), " no limit was set."
    wrong = [
        wording.limit_name(limit)
        for limit, word in zip(report.limits, verdicts, strict=True)
        if word in ("missed", "not proven")
    ]
    if wrong:
        return badge("missed", "Missed:"), f" the result does not keep {' and '.join(wrong)}."
    if "unknown" in verdicts:
        open_ = [
            wording.limit_name(limit) for limit, word in zip(report.limits, verdicts, strict=True) if word == "unknown"
        ]
        return badge("unknown", "Open:"), f" no limit is missed, but {' and '.join(open_)} could not be told."
    every = "the limit is" if len(verdicts) == 1 else "every limit is"
    if all(word == "proven" for word in verdicts):
        return badge("proven", "Passed:"), f" {every} met, and proven at 95%."
    unproven = "it is not proven" if len(verdicts) == 1 else "not every one is proven"
    return badge("met", "Passed:"), f" {every} met; {unproven} at 95%."


def _interim(report: Report) -> Html | None:
    if report.status == "complete":
        return None
    what = "The run goes on: this is the best so far. The finished run replaces it."
    return element("p", what, class_="warning")


def _limit(limit: LimitVerdict, report: Report) -> tuple[Child, Child, Child]:
    return wording.limit_name(limit), badge(wording.verdict(limit, report)), minus(wording.limit_text(limit, report))


def _figures(report: Report) -> Iterator[Html]:
    first, last = report.ledger[0], wording.last_kept(report)
    if last.latency_ms is None or first.latency_ms is None:
        reason = wording.unmeasured(report.not_measured_because)
        yield _hero("Latency", "not measured", "", reason.removeprefix("not measured").removeprefix(": "))
    else:
        before, after = (figures.milliseconds(value) for value in (first.latency_ms, last.latency_ms))
        ratio = wording.speed_ratio(report)
        yield _hero("Latency, p50", f"{before}{ARROW}{after} ms", ratio, wording.inference(report))
    sizes = report.value(wording.SIZE, before=True), report.value(wording.SIZE)
    old, new = (one if one is not None else row.size_bytes for one, row in zip(sizes, (first, last), strict=True))
    shown = f"{figures.megabytes(old)}{ARROW}{figures.megabytes(new)} MB"
    yield _hero("Size", shown, wording.size_ratio(report), "weights before, model files after")
    quality = report.quality
    if quality is None:
        yield _hero("Quality", "not measured", "", "there was no labelled data")
        return
    values = [figures.quality(quality.metric, value) for value in (quality.before, quality.after)]
    shown = f"{values[0].removesuffix('%')}{ARROW}{values[1]}" if values[0].endswith("%") else ARROW.join(values)
    change, _, interval = wording.interval(quality).partition(" (")
    yield _hero(
        quality.metric.replace("_", " ").capitalize(),
        minus(shown),
        minus(change),
        minus(f"{interval.removesuffix(')').replace('90%:', '90% interval:')}, {quality.n} samples"),
    )


def _hero(name: str, value: str, change: str, small: str) -> Html:
    return element(
        "div",
        element("p", name, class_="name"),
        element("p", value, class_="value"),
        element("p", change, class_="change") if change else None,
        element("p", small, class_="small"),
        class_="hero",
    )
