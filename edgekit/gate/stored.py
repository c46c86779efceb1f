"""A result of before as the baseline: whether it may stand for one that is measured now, and how to measure like it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from pydantic import JsonValue

from edgekit.gate.protocol import Plan
from edgekit.gate.record import BenchRecord, Disturbance


def measured_like(plan: Plan, stored: BenchRecord) -> Plan:
    """The plan with processes like those of a stored result, so that what is compared was measured in one way.

    A preset that says how long a process times keeps that: a result of other processes is then none to compare with.
    """
    return replace(plan, process_s=plan.process_s or stored.protocol.process_s, copies=stored.protocol.copies)


def incomparable(candidate: BenchRecord, stored: BenchRecord, gated: Collection[str] = ()) -> str:
    """Why a stored result cannot be compared with a new one; empty where it can.

    A stored number counts only where the machine, the runtime, the work and the way of measuring were the same: else a
    difference says more of these than of the model.

    Args:
        candidate: the new one, or as much of it as is known before it is measured.
        stored: the result of before.
        gated: metrics that it has to have.
    """
    if candidate.machine != stored.machine:
        return f"the stored result is from another machine: their fingerprints differ{_in_what(candidate, stored)}"
    ours, theirs = candidate.subject.format, stored.subject.format
    if ours != theirs:
        return f"the stored result is of a file of the format {theirs}, and this one is {ours}"
    known = {one.name for one in stored.metrics if one.value is not None}
    if lacking := [name for name in gated if name not in known]:
        return f"the stored result does not have {' and '.join(lacking)}"
    for name, one, other in (
        ("runtime", candidate.runtime.name, stored.runtime.name),
        ("version of the runtime", candidate.runtime.version, stored.runtime.version),
        ("provider", candidate.runtime.provider, stored.runtime.provider),
        ("number of threads", candidate.runtime.threads, stored.runtime.threads),
        ("workload", candidate.protocol.workload, stored.protocol.workload),
        ("clock", candidate.protocol.clock, stored.protocol.clock),
        ("time of a process", candidate.protocol.process_s, stored.protocol.process_s),
        ("number of copies in a process", candidate.protocol.copies, stored.protocol.copies),
    ):
        if one is not None and one != other:
            return f"the stored result has another {name}: {other}, and this one has {one}"
    if stored.protocol.baseline == "beside":
        return "the stored result was measured beside a baseline, and this one alone"
    return ""


def _in_what(one: BenchRecord, other: BenchRecord) -> str:
    """The facts in which the machines of two results differ, as the end of a sentence; empty where none is known."""
    ours, theirs = _facts(one), _facts(other)
    differ = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    return f" in {' and '.join(differ)}" if differ else ""


def _facts(record: BenchRecord) -> dict[str, JsonValue]:
    """What is known of the machine that was measured on, as a record's file has it."""
    told = record.timed_on.facts if record.timed_on else record.host.model_dump(mode="json", exclude={"fingerprint"})
    return {**told, "device": record.timed_on.device if record.timed_on else "local"}


def unlike(disturbed: Iterable[Disturbance], stored: BenchRecord) -> str:
    """Why nothing can be told of times of two sessions: only one of them was disturbed in some way; empty otherwise."""
    now, before = set(disturbed), set(stored.protocol.disturbed)
    differ = " and ".join(sorted(now ^ before))
    return f"only one of the two sessions was disturbed by {differ}" if differ else ""
