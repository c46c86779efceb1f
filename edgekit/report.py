"""The report of a run: measurements with units and raw samples, the loss ledger, and the verdict on every limit.

Metric names are dotted: ``latency.p50``, ``latency.p90``, ``memory.peak``, ``size``, ``accuracy``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, PrivateAttr

from edgekit.artifact import Artifact, open_artifact, read_kept, write_text
from edgekit.bounds import MAX_REPORT_BYTES, check_numbers, check_texts
from edgekit.environment import Host
from edgekit.errors import ArtifactError
from edgekit.ledger import LedgerRow
from edgekit.profiles import Profiles
from edgekit.settings import Record, first_wrong, schema_said
from edgekit.target import Provider
from edgekit.trials import SearchRecord

FILE = "report.json"
SCHEMA = "edgekit.report/1"
MEGABYTE = 1e6
# Name of the limit on a device's answers: a least, where all others are a most.
DEVICE_AGREEMENT = "agreement_on_the_device"


class Measurement(Record):
    """One metric of one subject.

    Attributes:
        name: dotted name.
        unit: ``ms``, ``bytes`` or ``1`` (a share).
        value: None where it could not be measured; ``reason`` says why.
        n: size of the sample behind the value.
        component: the part of the artifact that was measured.
        samples: raw samples in ``unit``, in the order taken.
    """

    name: str
    unit: str
    value: float | None
    n: int = 0
    component: str = "model"
    reason: str = ""
    ci_low: float | None = None
    ci_high: float | None = None
    level: float | None = None
    samples: tuple[float, ...] = ()


class Count(Record):
    """Instructions of one inference on an emulated processor: never a latency.

    Attributes:
        device: the processor.
        instructions: of one inference, the median of those counted; of several components, the sum.
        samples: for each component, of each inference.
        kernels: instructions of all counted inferences by the class of kernel that they tell of, such as ``sdot``.
        runtime: name and version of the runtime there.
    """

    device: str
    instructions: int
    samples: tuple[tuple[int, ...], ...] = ()
    kernels: dict[str, int] = {}
    runtime: str = ""


class DeviceCheck(Record):
    """The artifact on the device beside the same artifact here, on the same samples.

    Attributes:
        device: where.
        runtime: name and version of the runtime there.
        n: samples.
        agree: how many have the same prediction; None for regression.
        largest_difference: of the outputs, in units of the largest; None where one is no number.
        metric: name of the metric.
        here, there: its value on these samples; None without labels.
    """

    device: str
    runtime: str
    n: int
    agree: int | None
    largest_difference: float | None
    metric: str
    here: float | None
    there: float | None

    @property
    def share(self) -> float | None:
        """Of the samples, how many have the same prediction; None for regression."""
        return None if self.agree is None else self.agree / self.n


class TimedOn(Record):
    """A machine other than ``host`` on which latency and memory were measured.

    Attributes:
        device: as reports name it.
        facts: what it told of itself: ``processor``, ``machine``, ``cores``, ``system``, ``python``.
    """

    device: str
    facts: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """sha256 of all of it: latencies of two machines with different fingerprints are never compared."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Latency(Record):
    """A latency distribution in milliseconds; None where the sample is too small for the percentile."""

    p50: float | None
    p90: float | None
    n: int


class ClassChange(Record):
    """What changed among the samples of one class.

    Attributes:
        index: the class, in the order of the model's labels.
        n: samples whose label it is.
        right_before, right_after: how many of them the original and the artifact answer right.
        flips: how many of them have another prediction than before.
    """

    index: int
    n: int
    right_before: int
    right_after: int
    flips: int


class Classes(Record):
    """Quality class by class, where each sample has one label.

    Attributes:
        count: classes of the model.
        changes: one row a class; of many classes (``measure/quality.py`` has the bound), those with the most flips.
        confusion_before, confusion_after: samples by label and prediction, [classes, classes]; empty for many classes.
    """

    count: int
    changes: tuple[ClassChange, ...]
    confusion_before: tuple[tuple[int, ...], ...] = ()
    confusion_after: tuple[tuple[int, ...], ...] = ()


class Quality(Record):
    """The final artifact beside the original on the same samples.

    Attributes:
        metric: name of the metric.
        before, after: of the original (in torch) and of the artifact (in the target's runtime).
        drop: before - after.
        drop_low, drop_high: 90 % paired bootstrap interval of the drop; each end is a one-sided 95 % bound.
        n: samples.
        flips: samples whose prediction changed; None for regression.
        cosine: mean cosine similarity of the logits.
        split: which samples, and how they were chosen.
        looks: how often the evaluation split was used to decide.
        classes: class by class; None where a sample has no one label.
        no_classes_because: why there are none.
        against: what the metric compares with: the data's labels, or where there are none the original's answers.
        largest_difference: between the logits of both, in units of the original's largest value; None where one is no
            number.
    """

    metric: str
    before: float
    after: float
    drop: float
    drop_low: float
    drop_high: float
    n: int
    flips: int | None
    cosine: float
    split: str
    looks: int
    classes: Classes | None = None
    no_classes_because: str = ""
    against: Literal["labels", "original"] = "labels"
    largest_difference: float | None = None


class Saturation(Record):
    """How often the sums of one layer saturated, on a target that adds products in a saturating 16-bit integer.

    Attributes:
        layer: component and node, as ``model/node_MatMul_25``.
        saturated: sums in which at least one pair of products did.
        sums: all of them.
    """

    layer: str
    saturated: int = 0
    sums: int = 0

    @property
    def share(self) -> float:
        return self.saturated / self.sums if self.sums else 0.0


class LimitVerdict(Record):
    """One limit: ``met`` by the point estimate, ``proven`` by the one-sided 95 % bound; None where unknown.

    ``bound`` is the most that ``value`` may be; for ``agreement_on_the_device`` it is the least.
    """

    limit: str
    bound: float
    value: float | None
    met: bool | None
    proven: bool | None


class StageReport(Record):
    """What a stage says of its own work: its settings, figures and tables."""

    stage: str
    settings: dict[str, JsonValue]
    details: dict[str, JsonValue] = {}


class Graph(Record):
    """What one exported graph is made of.

    Attributes:
        component: the part of the artifact that it is.
        operators: how many nodes of each kind.
        weight_bytes: bytes of weights by type, as numpy names it.
    """

    component: str
    operators: dict[str, int]
    weight_bytes: dict[str, int]


class Report(Record):
    """The result of ``compress``.

    ``host`` made the artifact and judged its quality. It also measured, unless ``timed_on`` names another machine; the
    version in ``runtime`` is the one there then. ``provider`` is what computes in it on the target, measured or not.

    ``counts_before`` and ``counts_after`` are instructions on emulated devices, of the original's export and of the
    artifact; ``devices`` how it answers there, ``devices_unchecked`` why that cannot be told. ``saturation`` names the
    artifact's layers whose sums saturated on the evaluation split, worst first. ``options`` are what the
    user said of the task and the run that neither recipe nor lock hold; ``graphs_before`` are those of the original's
    export, ``graphs_after`` the artifact's. ``profile`` is where their time goes; None in a run that goes on.
    """

    schema_: Literal["edgekit.report/1"] = Field("edgekit.report/1", alias="schema")
    edgekit: str
    created: str
    status: Literal["complete", "in progress"] = "complete"
    source: dict[str, str | None]
    source_size_bytes: int
    task: str
    target: str
    runtime: str
    provider: Provider = "cpu"
    measured: bool
    not_measured_because: str = ""
    workload: dict[str, int | None]
    threads: int
    jobs: int
    seed: int
    host: Host
    timed_on: TimedOn | None = None
    versions: dict[str, str]
    recipe: dict[str, JsonValue]
    options: dict[str, JsonValue] = {}
    data: dict[str, JsonValue] = {}
    ledger: tuple[LedgerRow, ...]
    before: tuple[Measurement, ...]
    after: tuple[Measurement, ...]
    counts_before: tuple[Count, ...] = ()
    counts_after: tuple[Count, ...] = ()
    devices: tuple[DeviceCheck, ...] = ()
    devices_unchecked: dict[str, str] = {}
    saturation: tuple[Saturation, ...] = ()
    graphs_before: tuple[Graph, ...] = ()
    graphs_after: tuple[Graph, ...] = ()
    profile: Profiles | None = None
    quality: Quality | None = None
    limits: tuple[LimitVerdict, ...] = ()
    strict: bool = False
    stages: tuple[StageReport, ...] = ()
    search: SearchRecord | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    _artifact: Artifact | None = PrivateAttr(None)
    _cached: bool = PrivateAttr(False)

    @property
    def artifact(self) -> Artifact:
        """The artifact that this report lies in.

        Raises:
            ArtifactError: the report was not read from an artifact's directory.
        """
        if self._artifact is None:
            raise ArtifactError("this report was not read from an artifact's directory", id="artifact.missing")
        return self._artifact

    @property
    def cached(self) -> bool:
        """Whether the run was answered from the cache, nothing computed."""
        return self._cached

    @property
    def metric(self) -> float | None:
        """The artifact's metric on the evaluation split."""
        return self.quality.after if self.quality else None

    @property
    def latency_ms(self) -> Latency:
        """The artifact's latency."""
        return _latency(self.after)

    @property
    def original_latency_ms(self) -> Latency:
        """The original's latency, as FP32 in the target's runtime, from the same run."""
        return _latency(self.before)

    @property
    def speedup(self) -> float | None:
        """Original p50 over artifact p50."""
        before, after = self.original_latency_ms.p50, self.latency_ms.p50
        return before / after if before and after else None

    @property
    def passed(self) -> bool:
        """Whether every limit on the artifact is met (``strict``: and proven); that on the time is on the run."""
        checked = [limit for limit in self.limits if limit.limit != "time"]
        return not any(limit.met is False or self.unproven(limit) for limit in checked)

    def unproven(self, limit: LimitVerdict) -> bool:
        """Whether a limit is only met where proof was asked for, which of a device's agreement it never is."""
        return self.strict and limit.met is True and limit.proven is not True and limit.limit != DEVICE_AGREEMENT

    def value(self, name: str, *, before: bool = False) -> float | None:
        """A measurement by its dotted name."""
        return next((m.value for m in (self.before if before else self.after) if m.name == name), None)

    def located(self, artifact: Artifact, *, cached: bool = False) -> Report:
        """The same report, knowing where its artifact lies."""
        copy = self.model_copy()
        copy._artifact = artifact
        copy._cached = cached
        return copy

    def save(self, folder: Path) -> None:
        """Write ``report.json``."""
        write_text(folder / FILE, self.model_dump_json(by_alias=True, indent=1) + "\n")


def load_report(folder: str | Path, *, cached: bool = False) -> Report:
    """The report in an artifact's directory.

    Raises:
        ArtifactError: there is none, or it is of another version.
    """
    file = Path(folder).expanduser() / FILE
    content = read_kept(file, MAX_REPORT_BYTES)
    try:
        report = Report.model_validate_json(content)
        values = report.model_dump()
        check_texts(values)
        check_numbers(values)
    except ValueError as error:  # pydantic's is one
        raise _invalid(file, content, error) from error
    return report.located(open_artifact(folder), cached=cached)


def _invalid(file: Path, content: bytes, error: ValueError) -> ArtifactError:
    """What is wrong with a report: its version, where that is another one, else its first wrong key."""
    schema = schema_said(content)
    if schema not in (None, SCHEMA):
        return ArtifactError(
            f"{str(file)!r} has the schema {schema!r}",
            id="artifact.other-version",
            why=f"this edgekit reads {SCHEMA!r}",
            hint="Read it with the edgekit that wrote it, or run compress again.",
        )
    return ArtifactError(f"{str(file)!r} is no valid report", id="artifact.invalid-file", why=first_wrong(error))


class EvalRecord(Record):
    """What ``edgekit eval`` found: answers of ``runtime`` on ``host``, and beside them those of each of ``devices``."""

    schema_: Literal["edgekit.eval/1"] = Field("edgekit.eval/1", alias="schema")
    subject: dict[str, JsonValue]
    runtime: dict[str, JsonValue]
    data: dict[str, JsonValue]
    metrics: tuple[Measurement, ...]
    host: dict[str, JsonValue] = {}
    devices: tuple[DeviceCheck, ...] = ()
    warnings: tuple[str, ...] = ()


def _latency(measurements: tuple[Measurement, ...]) -> Latency:
    found = {m.name: m for m in measurements if m.component == "model"}
    p50, p90 = found.get("latency.p50"), found.get("latency.p90")
    return Latency(p50=p50.value if p50 else None, p90=p90.value if p90 else None, n=p50.n if p50 else 0)
