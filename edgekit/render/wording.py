"""What a report says in words, the same on a terminal, on a page and on a card: verdicts, limits, ratios, intervals."""

from __future__ import annotations

from typing import Literal

from edgekit.artifact import WHOLE
from edgekit.ledger import LedgerRow
from edgekit.render import figures
from edgekit.render.parts import workload_of
from edgekit.report import DEVICE_AGREEMENT, Count, DeviceCheck, LimitVerdict, Measurement, Quality, Report
from edgekit.target import RUNTIME_NAMES

LATENCY = "latency."
SIZE = "size"
MEMORY = "memory."
MAX_DROP, MAX_MS, MAX_MB, MAX_INSTRUCTIONS, TIME = "max_drop", "max_ms", "max_mb", "max_instructions", "time"
EMULATED = ", emulated"
INSTRUCTIONS = "million instructions an inference"

Verdict = Literal["proven", "met", "not proven", "missed", "unknown"]


def verdict(limit: LimitVerdict, report: Report) -> Verdict:
    """One word on a limit, as strict as the run."""
    if limit.met is None:
        return "unknown"
    if not limit.met:
        return "missed"
    if limit.proven:
        return "proven"
    return "not proven" if report.unproven(limit) else "met"


def limit_name(limit: LimitVerdict) -> str:
    """A limit as people say it."""
    return limit.limit.replace("_", " ")


def limit_text(limit: LimitVerdict, report: Report) -> str:
    """What came of a limit beside what was allowed."""
    if limit.value is None:
        reason = unmeasured(report.not_measured_because) if limit.limit == MAX_MS else "it could not be told"
        return f"{in_unit(limit.limit, limit.bound, report)} allowed; {reason}"
    if limit.limit == DEVICE_AGREEMENT:
        least = [check for check in report.devices if check.share == limit.value][:1]
        found = "".join(f"{check.agree} of {check.n} predictions as here on {check.device}, " for check in least)
        return f"{found}{limit.bound:.0%} needed"
    found, allowed = (in_unit(limit.limit, value, report) for value in (limit.value, limit.bound))
    if limit.met is False and found == allowed:  # what is missed by little is not told as kept
        found, allowed = (in_unit(limit.limit, value, report, finer=True) for value in (limit.value, limit.bound))
    if limit.limit != MAX_DROP:
        return f"{found} of {allowed} allowed"
    what = f"{found} gained, {allowed} might be lost" if limit.value < 0 else f"{found} of {allowed} lost"
    if report.quality is None or limit.proven is None:
        return what
    # The upper end of the two-sided 90 % interval is the one-sided 95 % bound.
    high, metric = report.quality.drop_high, report.quality.metric
    most = figures.quality_change(metric, high).lstrip("+")
    if not limit.proven and most == allowed:  # what is above by little is not told as within
        most = figures.quality_change(metric, high, finer=True).lstrip("+")
    return f"{what}, at most {most} with 95% confidence"


def in_unit(limit: str, value: float, report: Report, *, finer: bool = False) -> str:
    """A figure of a limit in the limit's unit; finer, with one digit more where it has decimals."""
    if limit == MAX_DROP:
        return figures.points(report.quality.metric if report.quality else "accuracy", value, finer=finer)
    if limit == MAX_MS:
        return f"{figures.milliseconds(value, finer=finer)} ms"
    if limit == MAX_MB:
        return f"{value:.{2 + finer}f} MB"
    if limit == MAX_INSTRUCTIONS:
        return f"{figures.millions(value)} million"
    return figures.duration(value) if limit == TIME else f"{value:g}"


def not_measured(report: Report) -> list[str]:
    """One line for each reason: ``latency and memory not measured: ...``."""
    reasons: dict[str, list[str]] = {}
    for one in report.after:
        noun, named = one.name.partition(".")[0], reasons.setdefault(one.reason or report.not_measured_because, [])
        if one.value is None and noun not in named:
            named.append(noun)
    if not report.measured and not any("latency" in named for named in reasons.values()):
        reasons.setdefault(report.not_measured_because, []).insert(0, "latency")
    return [f"{' and '.join(named)} {unmeasured(reason)}" for reason, named in reasons.items() if named]


def unmeasured(reason: str) -> str:
    """That something was not measured, and why."""
    return f"not measured: {reason}" if reason else "not measured"


def processor(device: str) -> str:
    """An emulated device without the word: ``cortex-a76``."""
    return device.removesuffix(EMULATED)


def counted(report: Report) -> list[str]:
    """One line for each emulated device: instructions of an inference before and after, and the kernels seen."""
    lines = []
    for before, after in zip(report.counts_before, report.counts_after, strict=True):
        ratio = figures.ratio(before.instructions, after.instructions, "fewer", "more", "as many")
        numbers = " -> ".join(figures.millions(count.instructions) for count in (before, after))
        lines.append(f"{after.device}: {numbers} {INSTRUCTIONS}, {ratio}{kernels_of(after)}")
    return lines


def runtime_text(text: str) -> str:
    """A runtime as records have it, with its version behind it or not, by the name that people call it."""
    name, space, version = text.partition(" ")
    return f"{RUNTIME_NAMES.get(name, name)}{space}{version}"


def runtime_name(text: str) -> str:
    """The same without a version."""
    return runtime_text(text.partition(" ")[0])


def kernels_of(count: Count) -> str:
    """The telling instructions that were seen."""
    return f"; kernels: {', '.join(sorted(count.kernels))}" if count.kernels else ""


def counted_once(count: Count) -> str:
    """Instructions of an inference on an emulated device."""
    where = f"{count.device}, {runtime_text(count.runtime)}"
    return f"{where}: {figures.millions(count.instructions)} {INSTRUCTIONS}{kernels_of(count)}"


def checked(report: Report) -> list[str]:
    """One line for each device that is not this machine: how the artifact answers there."""
    unchecked = report.devices_unchecked.items()
    because = [f"{device}: answers not compared there, because {reason}" for device, reason in unchecked]
    return [*map(check_text, report.devices), *because]


def check_text(check: DeviceCheck) -> str:
    """How an artifact answers on a device, beside its answers here."""
    same = "" if check.agree is None else f"{check.agree} of {check.n} predictions as here; "
    scores = [figures.quality(check.metric, value) for value in (check.there, check.here)]
    metric = "" if check.there is None else f"{check.metric} {scores[0]} there, {scores[1]} here; "
    apart = "outputs that are no numbers"
    if check.largest_difference is not None:
        apart = f"outputs at most {check.largest_difference:.1e} of the largest apart"
    return f"{check.device}, {runtime_text(check.runtime)}: {same}{metric}{apart}"


def order(one: Measurement) -> int:
    """Latency first, then memory, then size, then the rest."""
    return next((index for index, start in enumerate((LATENCY, MEMORY, SIZE)) if one.name.startswith(start)), 3)


def label(one: Measurement) -> str:
    """A measurement's name, with its component where there are several."""
    return one.name if one.component == WHOLE else f"{one.name}, {one.component}"


def change(after: Measurement, before: float | None) -> str:
    """A measurement against the original's, as a ratio in words."""
    if after.name.startswith(LATENCY):
        return faster(before, after.value)
    if after.name.startswith((MEMORY, SIZE)):
        return smaller(before, after.value)
    return ""


def last_kept(report: Report) -> LedgerRow:
    """The row of the ledger that the artifact is."""
    return [row for row in report.ledger if row.kept][-1]


def speed_ratio(report: Report) -> str:
    """How much faster, over all components; empty where it was not measured."""
    return faster(report.ledger[0].latency_ms, last_kept(report).latency_ms)


def size_ratio(report: Report) -> str:
    """How much smaller."""
    before, after = report.value(SIZE, before=True), report.value(SIZE)
    if before is None or after is None:
        before, after = report.ledger[0].size_bytes, last_kept(report).size_bytes
    return smaller(before, after)


def smaller(before: float | None, after: float | None) -> str:
    """A size against another: ``5.4x smaller``."""
    return figures.ratio(before, after, "smaller", "larger", "as large")


def faster(before: float | None, after: float | None) -> str:
    """A latency against another: ``7.1x faster``."""
    return figures.ratio(before, after, "faster", "slower", "as fast")


def interval(quality: Quality) -> str:
    """The change of the metric with its 90 % interval: the drop's, turned round."""
    low, high = (figures.quality_change(quality.metric, -end) for end in (quality.drop_high, quality.drop_low))
    low = low.removesuffix(" pp")
    return f"{figures.quality_change(quality.metric, -quality.drop)} (90%: {low} to {high})"


def agreement(quality: Quality) -> str:
    """How alike the two answer, and on what."""
    parts = [f"cosine of the logits {quality.cosine:.4f}", f"on {quality.split}"]
    if quality.against == "original":
        parts.append("against the original's answers, since there are no labels")
    if quality.largest_difference is not None:
        parts.insert(1, f"largest difference {quality.largest_difference:.1%} of the largest value")
    if quality.flips is not None:
        parts.insert(0, f"{quality.flips} of {quality.n} predictions changed")
    return "; ".join(parts)


def inference(report: Report) -> str:
    """What one measured inference is: ``batch 1, tokens 128, on 1 thread``."""
    return f"{workload_of(report.task, report.workload)}, on {threads_text(report.threads)}"


def timing(report: Report) -> str:
    """What the latency is of: an inference, the runtime, and the device where it is not this machine."""
    on = f", on {timed_on(report)}" if report.timed_on else ""
    return f"{inference(report)}, in {runtime_text(report.runtime)}{on}"


def timed_on(report: Report) -> str:
    """The machine that latency was measured on, as far as it told what it is."""
    if report.timed_on is None:
        return f"{report.host.processor} ({report.host.architecture})"
    named, facts = report.timed_on.device, report.timed_on.facts
    told = [facts[key] for key in ("processor", "machine") if facts.get(key) and facts[key] not in named]
    return f"{named} ({', '.join(told)})" if told else named


def threads_text(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread" + ("s" if threads > 1 else "")
