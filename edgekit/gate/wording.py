"""Figures of a record in words, the same on a terminal and in every export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgekit.gate.metrics import METRICS
from edgekit.gate.record import BenchRecord, Metric, Runtime, Series
from edgekit.measure.statistics import PERCENTILES
from edgekit.target import EXECUTION_PROVIDERS

DEFAULT_COMPONENT = "model"
MILLION = 1e6
# An interval of few processes on a machine that is not quiet may end anywhere: beyond a hundredfold it says nothing.
MOST_TOLD = 100.0
UNMEASURED = "not measured"


def label(metric: Metric | Series) -> str:
    """A metric's name, with its component and its device where there are several."""
    device = getattr(metric, "device", "")
    parts = [metric.name if isinstance(metric, Metric) else metric.metric]
    parts += [part for part in (metric.component if metric.component != DEFAULT_COMPONENT else "", device) if part]
    return ", ".join(parts)


def value_text(metric: Metric, value: float | None) -> str:
    """A value with its unit; a dash where there is none."""
    if value is None:
        return "-"
    if metric.unit == "ms":
        return f"{four_figures(value)} ms"
    if metric.unit == "1":
        return f"{value:.2%}"
    if metric.unit == "bytes":
        megabytes = value / MILLION
        return f"{megabytes:.{1 if megabytes >= 10 else 2 if megabytes >= 1 else 3}f} MB"
    if metric.unit == "1/s":
        return f"{four_figures(value)}/s"
    if metric.unit == "instructions":
        return f"{four_figures(value / MILLION)} million"
    return f"{four_figures(value)} {metric.unit}"


def four_figures(value: float) -> str:
    """A number to four figures, and no less than all of its whole part: ``0.02171``, ``12,346``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def change_text(metric: Metric, change: float | None) -> str:
    """A change with its sign: relative in percent, of the accuracy in percentage points."""
    if change is None:
        return "-"
    return f"{percent(change)}{' ' if METRICS[metric.name].points else ''}{_unit_of_change(metric)}"


def percent(change: float) -> str:
    """A change in percent with its sign, without the unit; one that rounds to nothing has none."""
    if change > MOST_TOLD:
        return f"over +{MOST_TOLD * 100:.0f}"
    written = f"{change * 100:+.2f}"
    return written[1:] if float(written) == 0 else written


def interval_text(metric: Metric) -> str:
    """The interval of a change, or of a value that was compared with none; empty where there is none."""
    if metric.delta_ci is not None and metric.delta_ci[0] == metric.delta_ci[1]:
        return ""  # what is counted, such as a size, has none
    if metric.delta_ci is not None:
        low, high = (change_text(metric, end) for end in metric.delta_ci)
        return f"{low} to {high}"
    if metric.delta is None and metric.ci_low is not None and metric.ci_high is not None:
        return f"{value_text(metric, metric.ci_low)} to {value_text(metric, metric.ci_high)}"
    return ""


def margin_text(metric: Metric) -> str:
    """The largest change for the worse that is allowed, as ``--gate`` writes it: ``+1%``, ``-0.5pp``; empty without."""
    if metric.margin is None:
        return ""
    sign = "-" if metric.direction == "higher" else "+"
    return f"{sign}{metric.margin * 100:g}{_unit_of_change(metric)}"


def _unit_of_change(metric: Metric) -> str:
    return "pp" if METRICS[metric.name].points else "%"


def sentence(metric: Metric) -> str:
    """A metric in one line: how it compares, or its value alone where it was compared with none."""
    value = UNMEASURED if metric.value is None else value_text(metric, metric.value)
    if metric.delta is not None:
        value = f"{value_text(metric, metric.baseline)} to {value}, {change_text(metric, metric.delta)}"
    interval = interval_text(metric)
    said = f"{label(metric)}: {value}"
    said += f" ({level_text(metric)}{interval})" if interval else ""
    said += f", {margin_text(metric)} allowed" if metric.margin is not None else ""
    return said + (f"; {metric.reason}" if metric.reason else "")


def level_text(metric: Metric) -> str:
    """``99%: ``, the level of an interval before it."""
    return f"{metric.level * 100:g}%: " if metric.level else ""


def headline(record: BenchRecord) -> str:
    """What came out, in one sentence."""
    if record.verdict is None:
        return f"{record.subject.name} was measured."
    beside = f" beside {record.baseline.name}" if record.baseline else ""
    counts: dict[str, list[str]] = {}
    for metric in record.gated:
        counts.setdefault(str(metric.verdict), []).append(label(metric))
    kinds = sorted(counts.items())
    if unmeasured := dict.fromkeys(map(label, record.unmeasured)):
        kinds.append((UNMEASURED, list(unmeasured)))
    told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds)
    return f"{record.subject.name}{beside}: {record.verdict}{f' ({told})' if told else ''}."


def where(record: BenchRecord) -> Iterator[tuple[str, str]]:
    """On what, in what and how it was measured."""
    facts = record.host.model_extra or {}
    machine = record.timed_on.device if record.timed_on else str(facts.get("processor") or "this machine")
    yield "machine", f"{machine} (fingerprint {record.machine[:12]})"
    yield "runtime", runtime_text(record.runtime)
    protocol = record.protocol
    if protocol.inferences:
        timed_in = f"{protocol.processes} processes, {protocol.rounds} rounds, " if protocol.processes else ""
        yield "protocol", f"{timed_in}{protocol.inferences} inferences a side, seed {protocol.seed}"
    yield "tool", f"{record.tool.name} {record.tool.version}"


def runtime_text(runtime: Runtime) -> str:
    """What ran a model: ``onnxruntime 1.32.0, 1 thread``, with what computed in it where that is no CPU."""
    name = " ".join(part for part in (runtime.name, runtime.version) if part)
    provider = runtime.provider if runtime.provider not in EXECUTION_PROVIDERS["cpu"] else None
    threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
    return ", ".join(part for part in (name, provider, threads) if part)


def machine_facts(record: BenchRecord) -> Mapping[str, object]:
    """What is known of the machine that was measured on, by the names that ``host`` has."""
    if record.timed_on is None:
        return record.host.model_extra or {}
    return {**record.timed_on.facts, "architecture": record.timed_on.facts.get("machine", "")}


def timed(record: BenchRecord) -> Iterator[tuple[str, Series, tuple[float, ...]]]:
    """Every series of times with its label and its samples of all processes in milliseconds.

    A percentile is left out: it is one figure of all inferences, and no series.
    """
    for series in record.samples:
        flat = tuple(one for process in series.processes for one in process)
        if series.unit == "ms" and flat and series.metric not in PERCENTILES:
            yield label(series), series, flat
