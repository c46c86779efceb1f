"""JUnit's XML as CI servers read it: each gated metric is a test case.

A regression and an invalid comparison are failures, whose ``type`` is the verdict; what is inconclusive is skipped, and
what cannot be measured there. Of a model that was measured alone each metric is a case. There is no one schema;
elements and attributes are those that the schema of Jenkins' xUnit plugin (junit-10.xsd) and GitLab's parser share.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from edgekit.gate import wording
from edgekit.gate.record import BenchRecord, Metric

SUITE = "edgekit bench"
# What XML 1.0 allows in no form.
CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
FAILURES = ("regression", "invalid")


def write(record: BenchRecord) -> str:
    """The document."""
    metrics = (*record.gated, *record.unmeasured) if record.verdict is not None else record.metrics
    cases = [_case(metric, record) for metric in metrics]
    alone = record.verdict == "invalid" and not any(metric.verdict == "invalid" for metric in metrics)
    if alone:  # the comparison as a whole, such as with a result of another machine
        reason = "; ".join(record.warnings) or "the comparison is invalid"
        cases.append(_element("testcase", _failure("invalid", reason, reason), name="comparison", classname=SUITE))
    failures = sum(metric.verdict in FAILURES for metric in metrics) + alone
    skipped = sum(_skipped(metric) for metric in metrics)
    seconds = f"{record.protocol.spent_s or 0.0:.3f}"
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    properties = [_element("property", name=name, value=value) for name, value in wording.where(record)]
    suite = _element(
        "testsuite",
        _element("properties", *properties),
        *cases,
        name=SUITE,
        **counts,
        skipped=str(skipped),
        time=seconds,
        timestamp=record.created[:19],
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{_element("testsuites", suite, name=SUITE, **counts, time=seconds)}\n'
    )


def _skipped(metric: Metric) -> bool:
    return metric.verdict == "inconclusive" or (metric.verdict is None and metric.value is None)


def _case(metric: Metric, record: BenchRecord) -> str:
    said = wording.sentence(metric)
    inside: list[str] = []
    if metric.verdict in FAILURES:
        inside.append(_failure(str(metric.verdict), said, said))
    elif _skipped(metric):
        inside.append(_element("skipped", message=said))
    inside.append(f"<system-out>{_text(said)}</system-out>")
    return _element("testcase", *inside, name=wording.label(metric), classname=record.subject.name)


def _failure(verdict: str, message: str, text: str) -> str:
    return f"<failure type={quoteattr(verdict)} message={quoteattr(_clean(message))}>{_text(text)}</failure>"


def _element(tag: str, /, *children: str, **attributes: str) -> str:
    written = "".join(f" {key}={quoteattr(_clean(value))}" for key, value in attributes.items())
    if not children:
        return f"<{tag}{written}/>"
    inside = "\n".join(children)
    return f"<{tag}{written}>\n{inside}\n</{tag}>"


def _text(value: str) -> str:
    return escape(_clean(value))


def _clean(value: str) -> str:
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
