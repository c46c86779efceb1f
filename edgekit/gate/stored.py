"""A result of before as the baseline: whether it may stand for one that is measured now."""

from __future__ import annotations

from edgekit.gate.record import BenchRecord


def incomparable(candidate: BenchRecord, stored: BenchRecord) -> str:
    """Why a stored result cannot be compared with a new one; empty where it can.

    A stored number counts only where the machine, the runtime and the work were the same: else a difference says more
    of these than of the model.
    """
    if candidate.machine != stored.machine:
        return "the stored result is from another machine: their fingerprints differ"
    ours, theirs = candidate.subject.format, stored.subject.format
    if ours != theirs:
        return f"the stored result is of a file of the format {theirs}, and this one is {ours}"
    for name, one, other in (
        ("runtime", candidate.runtime.name, stored.runtime.name),
        ("version of the runtime", candidate.runtime.version, stored.runtime.version),
        ("provider", candidate.runtime.provider, stored.runtime.provider),
        ("number of threads", candidate.runtime.threads, stored.runtime.threads),
        ("workload", candidate.protocol.workload, stored.protocol.workload),
        ("clock", candidate.protocol.clock, stored.protocol.clock),
    ):
        if one is not None and one != other:
            return f"the stored result has another {name}: {other}, and this one has {one}"
    return ""
