"""Where the time of an inference goes: records of the time per operator, and of the rates that the machine reaches."""

from __future__ import annotations

from edgekit.settings import Record


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
    """

    operator: str
    provider: str
    nodes: int
    ms: float
    share: float
    product: bool = False
    macs: int | None = None
    gmacs_per_s: float | None = None


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
