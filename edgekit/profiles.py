"""Where the time of an inference goes: records of the time per operator, and of the rates that the machine reaches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from edgekit.settings import Record

# How a node that runs came to be: it is the file's, stands for several of the file's, or was put in between.
Made = Literal["file", "fused", "added", ""]


class OperatorTime(Record):
    """All nodes of one kind in one inference.

    Attributes:
        operator: its kind, as the runtime names it after its own fusions.
        provider: what computes it in the runtime.
        nodes: how many there are.
        ms: milliseconds of an inference that they take together, the median over inferences.
        share: of the time of all operators.
        product: whether it multiplies matrices, convolves or attends; all multiply-accumulates are in these.
        macs: multiply-accumulates of an inference; None where they cannot be told.
        gmacs_per_s: 10^9 multiply-accumulates a second that it reaches.
        precisions: of its kernels, where those were looked at; the most frequent first.
        fused: how many of its nodes stand for several of the file; None where that was not looked at.
    """

    operator: str
    provider: str
    nodes: int
    ms: float
    share: float
    product: bool = False
    macs: int | None = None
    gmacs_per_s: float | None = None
    precisions: tuple[str, ...] = ()
    fused: int | None = None


class KernelTime(Record):
    """One node that the runtime runs.

    Attributes:
        name: its own, or onnxruntime's number for a node without one.
        operator, provider: as for `OperatorTime`.
        precision: the narrowest type among what it reads and writes, such as ``int8``.
        shape: of its first output; None where it gave none.
        made: whether it is the file's own, fused of several, or added; empty where that cannot be told.
        replaces: kinds of the nodes of the file that a fused one stands for, where they can be told.
        ms: milliseconds of an inference, the median; in a loop the sum of all its runs.
        share: of the time of all nodes.
    """

    name: str
    operator: str
    provider: str
    precision: str
    shape: tuple[int, ...] | None
    made: Made = ""
    replaces: tuple[str, ...] = ()
    ms: float
    share: float


class Profile(Record):
    """One graph's time per operator, the longest first.

    Attributes:
        component: the part of the artifact that it is.
        operators: every kind.
        operators_ms: the sum over them; what ``profiled_ms`` has beyond it lies between operators.
        profiled_ms: median latency while the runtime notes the time of each node, which takes time itself.
        latency_ms: median latency without that, in turns with it.
        n: inferences that were profiled, and as many that were not.
        macs: multiply-accumulates of one inference; None where they cannot be told.
        macs_unknown_because: why they cannot.
        gmacs_per_s: 10^9 multiply-accumulates a second, over the whole latency.
        products_gmacs_per_s: the same over the time of the operators that multiply.
        int8_share: how much of the machine's INT8 limit ``gmacs_per_s`` is; None where either is unknown.
        fp32_share: the same of its FP32 limit.
        kernels: every node in the order in which they end, where they were looked at.
    """

    component: str
    operators: tuple[OperatorTime, ...]
    operators_ms: float
    profiled_ms: float
    latency_ms: float
    n: int
    macs: int | None = None
    macs_unknown_because: str = ""
    gmacs_per_s: float | None = None
    products_gmacs_per_s: float | None = None
    int8_share: float | None = None
    fp32_share: float | None = None
    kernels: tuple[KernelTime, ...] = ()


class Rate(Record):
    """How fast the runtime does one product on its own.

    Attributes:
        precision: ``int8`` or ``fp32``.
        operator: the kind of the only node.
        types: of the factors, ``u8s8`` or ``fp32``.
        shape: m, k, n of [m, k] x [k, n].
        gmacs_per_s: 10^9 multiply-accumulates a second, in the fastest of its runs.
    """

    precision: str
    operator: str
    types: str
    shape: tuple[int, int, int]
    gmacs_per_s: float


class Profiles(Record):
    """The original's export and the artifact by operator, beside the machine's limits, all from one interleaved run.

    Attributes:
        because: why there is nothing else here; empty where there is.
        threads: within one operator.
        runtime: name and version.
        before: of the original's export, by component.
        after: of the artifact.
        rates: of every product that was tried.
        int8: the fastest of INT8, which is the machine's INT8 limit.
        fp32: the fastest of FP32.
        warnings: what disturbed the machine meanwhile.
    """

    because: str = ""
    threads: int = 1
    runtime: str = ""
    before: tuple[Profile, ...] = ()
    after: tuple[Profile, ...] = ()
    rates: tuple[Rate, ...] = ()
    int8: Rate | None = None
    fp32: Rate | None = None
    warnings: tuple[str, ...] = ()


class KindChange(Record):
    """One kind of operator in two artifacts.

    Attributes:
        component: the part that both have.
        operator: the kind.
        before, after: nodes, milliseconds and precisions of it; None where there is none of the kind.
        delta_ms: milliseconds of an inference that it takes more than before.
    """

    component: str
    operator: str
    before: OperatorTime | None
    after: OperatorTime | None
    delta_ms: float


class ProfileRecord(Record):
    """What ``edgekit profile`` measured of one artifact, or of two in one interleaved run.

    Attributes:
        host: the machine.
        subject: what was profiled; the second of two.
        compared_with: the first of two; None where there is one.
        protocol: workload and timing.
        profiles: ``after`` is the subject, ``before`` what it is compared with.
        changes: by kind, the largest difference first.
    """

    schema_: Literal["edgekit.profile/1"] = Field("edgekit.profile/1", alias="schema")
    host: dict[str, JsonValue]
    subject: dict[str, JsonValue]
    compared_with: dict[str, JsonValue] | None = None
    protocol: dict[str, JsonValue]
    profiles: Profiles
    changes: tuple[KindChange, ...] = ()
    warnings: tuple[str, ...] = ()
