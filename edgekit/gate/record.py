"""The record of ``edgekit bench``: what was measured, how, on what, and what follows from it.

One document holds a measurement alone and a gate, where a candidate is compared with a baseline; the fields of a
comparison are then filled in. It is what ``--json`` prints and ``--save`` keeps; ``bench.schema.json`` beside this
module is its JSON Schema.

A change (``delta``) is relative, candidate over baseline less 1, except that of ``accuracy``, which is a difference on
the metric's own scale (-0.005 is half a point). An interval is two-sided at its ``level``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from edgekit.artifact import write_text
from edgekit.bounds import MAX_REPORT_BYTES, check_lines, check_numbers, check_texts
from edgekit.errors import ArtifactError
from edgekit.report import Count, TimedOn
from edgekit.settings import Record, first_wrong, schema_said

SCHEMA = "edgekit.bench/2"
SCHEMA_FILE = "bench.schema.json"
MEASURE_AGAIN = "Measure again: `edgekit bench PATH --save FILE`."
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Verdict = Literal["pass", "regression", "improvement", "inconclusive", "invalid"]
Direction = Literal["lower", "higher"]
Side = Literal["candidate", "baseline"]
Disturbance = Literal["stolen", "load", "pressure", "heat", "throttled"]


class Tool(Record):
    """What made the record."""

    name: str = "edgekit"
    version: str


class HostRecord(BaseModel):
    """A machine: its fingerprint, and the facts that this is made of.

    Attributes:
        fingerprint: sha256 of all facts; figures of machines with different ones are not compared.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    fingerprint: str


class Subject(Record):
    """A model that was measured.

    Attributes:
        name: of its file or folder, without the path.
        sha256: of the file; of an artifact, that of its manifest, which has the hashes of all files that it needs.
        bytes: of the model's files, external data included.
        format: ``onnx`` or ``tflite``.
        target: the target that it is for, where one is known.
    """

    name: str
    sha256: str
    bytes: int
    format: str
    target: str | None = None


class Runtime(Record):
    """What ran the model.

    Attributes:
        name: in the table of runtimes.
        version: of its package.
        provider: what computes in onnxruntime, by onnxruntime's name; None in other runtimes.
        threads: within one operator.
    """

    name: str
    version: str | None = None
    provider: str | None = None
    threads: int = 1


class Protocol(Record):
    """How it was measured.

    Attributes:
        workload: what one inference is.
        preset: name of the preset; None without one.
        budget_s: most time for latency, which the fewest processes may exceed.
        spent_s: what it took.
        seed: of the order of the blocks and of the bootstrap.
        processes: fresh processes in which every side was timed.
        rounds: blocks of each side, over all processes, without those that were warming up.
        trimmed: rounds that were left out since they were warming up.
        inferences: of each side in those rounds; under emulation, those counted.
        clock: what measured.
        overhead_us: what the clock itself adds to each inference.
        process_s: how long each process timed.
        copies: how often each process loaded every subject.
        disturbed: what was not quiet meanwhile, as ``warnings`` tell it in words.
        baseline: where its figures are from: measured ``beside`` the candidate, or ``stored``; None without one.
        stopped: why no more was measured: the intervals were ``clear`` of the margins, the ``budget`` was spent, or
            all was ``done``.
        looks: how often the intervals were looked at while it was measured.
    """

    workload: dict[str, JsonValue] = {}
    preset: str | None = None
    budget_s: float | None = None
    spent_s: float | None = None
    seed: int = 0
    processes: int = 0
    rounds: int = 0
    trimmed: int = 0
    inferences: int = 0
    clock: str | None = None
    overhead_us: float | None = None
    process_s: float | None = None
    copies: int | None = None
    disturbed: tuple[Disturbance, ...] = ()
    baseline: Literal["beside", "stored"] | None = None
    stopped: Literal["clear", "budget", "done"] = "done"
    looks: int = 0


class Metric(Record):
    """One figure of the candidate, and how it compares with the baseline's.

    Attributes:
        name: ``latency.p50``, ``latency.p90``, ``latency.p99``, ``throughput``, ``cold_start``, ``load``,
            ``memory.peak``, ``size``, ``instructions``, ``energy`` or ``accuracy``.
        unit: ``ms``, ``1/s``, ``bytes``, ``instructions``, ``uJ`` or ``1`` (a share).
        direction: which is better.
        value: None where it could not be measured; ``reason`` says why.
        ci_low, ci_high: interval of the value, where it has one.
        level: of the intervals, as 0.99.
        n: size of the sample behind the value.
        baseline: the baseline's value.
        delta: the change, positive where the candidate's value is larger.
        delta_ci: its interval.
        margin: the largest change for the worse that is allowed, not negative; None where the metric is not gated.
        verdict: None where it is not gated, or cannot be measured there; ``reason`` then says why.
        component: the part of the artifact that was measured.
        device: which of several devices; empty where there is one.
        reason: why there is no value, or what keeps a verdict from being clear.
    """

    name: str
    unit: str
    direction: Direction = "lower"
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    level: float | None = None
    n: int = 0
    baseline: float | None = None
    delta: float | None = None
    delta_ci: tuple[float, float] | None = None
    margin: float | None = None
    verdict: Verdict | None = None
    component: str = "model"
    device: str = ""
    reason: str = ""


class Accuracy(Record):
    """The quality of both sides on the same samples.

    Attributes:
        metric: what is scored, on its own scale.
        candidate, baseline: its values.
        delta: candidate less baseline.
        delta_ci: its interval: Tango's where a sample is right or wrong, else a paired bootstrap's.
        level: of the interval.
        n: samples.
        split: which samples.
        lost, gained: samples that only the baseline, and only the candidate answers right; None where a sample is not
            right or wrong.
        p_value: of McNemar's exact test that both are as likely, two-sided.
        identical: whether both gave the same numbers for every sample, so that nothing tells them apart.
    """

    metric: str
    candidate: float
    baseline: float | None = None
    delta: float | None = None
    delta_ci: tuple[float, float] | None = None
    level: float | None = None
    n: int
    split: str = ""
    lost: int | None = None
    gained: int | None = None
    p_value: float | None = None
    identical: bool = False


class Series(Record):
    """The sample that a metric's value and interval are made of.

    Attributes:
        metric: its name.
        component: as in the metric.
        side: whose.
        unit: as in the metric.
        processes: for each fresh process one list: of the latency's median, the throughput and the energy one value a
            block, in the order taken; of its percentiles the inferences, the fastest first, at most 400 that are evenly
            spread; of all others one value.
    """

    metric: str
    component: str = "model"
    side: Side = "candidate"
    unit: str
    processes: tuple[tuple[float, ...], ...]


class BenchRecord(Record):
    """What ``edgekit bench`` found.

    Attributes:
        tool: what made it.
        created: when, in UTC, as ISO 8601.
        host: the machine that ran the command, and that measured unless ``timed_on`` names another.
        timed_on: the machine that was measured on, where it is another one.
        subject: the candidate.
        baseline: what it was compared with; None where it was measured alone.
        runtime: what ran both.
        protocol: how.
        metrics: every figure; those that are gated have a margin and a verdict.
        accuracy: None without data.
        samples: what the figures are made of.
        counts: under emulation, the instructions of the candidate by kernel.
        warnings: what casts doubt on the figures, one sentence each.
        verdict: of all gated metrics; None where it was measured alone.
    """

    schema_: Literal["edgekit.bench/2"] = Field("edgekit.bench/2", alias="schema")
    tool: Tool
    created: str
    host: HostRecord
    timed_on: TimedOn | None = None
    subject: Subject
    baseline: Subject | None = None
    runtime: Runtime
    protocol: Protocol = Protocol()
    metrics: tuple[Metric, ...]
    accuracy: Accuracy | None = None
    samples: tuple[Series, ...] = ()
    counts: tuple[Count, ...] = ()
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None

    @property
    def machine(self) -> str:
        """Fingerprint of the machine that was measured on."""
        return self.timed_on.fingerprint if self.timed_on else self.host.fingerprint

    @property
    def gated(self) -> tuple[Metric, ...]:
        """The metrics that have a verdict."""
        return tuple(one for one in self.metrics if one.verdict is not None)

    @property
    def unmeasured(self) -> tuple[Metric, ...]:
        """The metrics that were to be gated, and cannot be measured there."""
        return tuple(one for one in self.metrics if one.margin is not None and one.verdict is None)

    def series(self, metric: str, component: str, side: Side) -> Series | None:
        """The sample of one metric; None where it has none."""
        key = (metric, component, side)
        return next((one for one in self.samples if (one.metric, one.component, one.side) == key), None)

    def metric(self, name: str, component: str | None = None) -> Metric | None:
        """A metric by its name, of the first component unless one is named; None where it was not looked for."""
        found = (one for one in self.metrics if one.name == name and component in (None, one.component))
        return next(found, None)

    def save(self, file: str | Path) -> None:
        """Write the record as JSON, into a folder that is made where it is missing."""
        path = Path(file).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.model_dump_json(by_alias=True, indent=1) + "\n")


def load_record(file: str | Path) -> BenchRecord:
    """Read a record that ``save`` or ``--json`` wrote.

    Raises:
        ArtifactError: there is none, it is of another version, its texts steer a terminal, its numbers are none, or
            what it measured is not above nothing.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise ArtifactError(f"there is no result {str(file)!r}", id="artifact.missing", hint="Check the path.")
    if path.stat().st_size > MAX_REPORT_BYTES:
        why = f"it has {path.stat().st_size} bytes; allowed: {MAX_REPORT_BYTES}"
        raise _no_result(str(file), why)
    content = path.read_bytes()
    try:
        record = BenchRecord.model_validate_json(content)
        values = record.model_dump()
        check_texts(values)
        check_lines([values["subject"], values["baseline"]])
        check_numbers(values)
        _check_measured(record)
    except ValueError as error:  # pydantic's is one
        raise _invalid(str(file), content, error) from error
    return record


def _check_measured(record: BenchRecord) -> None:
    """Refuse what cannot have been measured, and what a change would be divided by.

    Raises:
        ValueError: a size, a sample or a count of instructions is not above nothing, or a list of them is empty.
    """
    series = (*(one.processes for one in record.samples), *(one.samples for one in record.counts))
    figures: list[Sequence[float]] = [(record.subject.bytes,), *((one.instructions,) for one in record.counts)]
    figures += [each for one in series for each in one or ((),)]
    if not all(each and min(each) > 0 for each in figures):
        raise ValueError("a size, a sample or a count of instructions is missing, or not above nothing")


def _invalid(file: str, content: bytes, error: ValueError) -> ArtifactError:
    """What is wrong with a record: its version, where that is another one, else its first wrong key."""
    version = schema_said(content)
    if version not in (None, SCHEMA):
        return ArtifactError(
            f"{file!r} has the schema {version!r}",
            id="artifact.other-version",
            why=f"this edgekit reads {SCHEMA!r}",
            hint=MEASURE_AGAIN,
        )
    return _no_result(file, first_wrong(error))


def _no_result(file: str, why: str) -> ArtifactError:
    """The error of a file that is none, and why."""
    return ArtifactError(f"{file!r} is no result of bench", id="artifact.invalid-file", why=why, hint=MEASURE_AGAIN)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the record as this code writes it."""
    schema = BenchRecord.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": SCHEMA_DIALECT, "$id": SCHEMA, **schema}


def published_schema() -> dict[str, Any]:
    """The JSON Schema that ships with the package."""
    text = resources.files("edgekit.gate").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")
    published: dict[str, Any] = json.loads(text)
    return published
