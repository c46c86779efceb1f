"""Where the time of an inference goes, operator by operator, and how near that is to what the machine can do.

onnxruntime notes the time of each node of a session that is asked to. That takes time itself, so such a session only
tells how the time is divided; beside it the same graph is timed without, and products on their own that show how fast
the machine multiplies at most (``limits.py``). All of them are timed in turns in one fresh process, with the workload
and the threads of the measurement of latency; what warms up is left out, and each figure is a median over inferences.

The fraction of a limit is the time that the multiply-accumulates of one inference would take at the limit, over the
time that the inference takes: ``macs / limit / latency``. What keeps it below 1 are products slower than the limit, and
whatever is no product. Times are noted in whole microseconds, so kernels that are shorter look like less, or nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from edgekit.cache import temporary
from edgekit.measure.kernels import describe_kernels
from edgekit.measure.limits import FP32, INT8, best_rate, probes_of, read_rates, write_probe
from edgekit.measure.machine import disturbances
from edgekit.measure.macs import PRODUCTS, Macs, count_macs
from edgekit.profiles import KernelTime, KindChange, OperatorTime, Profile, Profiles, Rate
from edgekit.runtimes.measuring import Answer, Place, Subject, Timing, Trace, time_subjects
from edgekit.target import IntegerScheme

ONNXRUNTIME = "onnxruntime"
# A few seconds: a share of a percent or a limit of two digits needs no more, and nothing is decided by it.
PROFILING = Timing(seconds=2.0, rounds=9, most_rounds=40, fewest_rounds=3, enough_seconds=10.0, block=2, warmup=2)
PROFILED = "profiled/"

Subjects = Mapping[str, Subject]


def unprofiled_because(place: Place) -> str:
    """Why there is no profile at a place; empty where there is one."""
    if place.runtime != ONNXRUNTIME:
        return f"the Python interface of {place.runtime} tells no time per operator"
    if not place.device.timed:
        return f"{place.device.label} counts instructions and has no clock"
    if place.provider != "cpu":
        return f"kernels of {place.provider} run on after the call that onnxruntime takes the time of"
    if not place.local:
        return "operators are profiled on this machine only"
    return ""


def profile_sides(
    sides: Mapping[str, Subjects],
    place: Place,
    scheme: IntegerScheme,
    timing: Timing = PROFILING,
    *,
    kernels: bool = False,
) -> Profiles:
    """Time per operator of two artifacts and the machine's limits, interleaved in one fresh process.

    Args:
        sides: ``after`` and perhaps ``before``, each with its components.
        place: where.
        scheme: types of the factors of INT8 products as the target has them.
        timing: how long.
        kernels: also every node, with its precision and what it was fused of; each graph is loaded once more for it.

    Raises:
        HostError: the measuring process failed.
    """
    because = unprofiled_because(place)
    if because:
        return Profiles(because=because, threads=place.threads)
    plain = {f"{side}/{part}": subject for side, parts in sides.items() for part, subject in parts.items()}
    profiled = {f"{PROFILED}{name}": replace(subject, profiled=True) for name, subject in plain.items()}
    probes = probes_of(scheme)
    with temporary() as folder:
        alone = {probe.name: write_probe(probe, folder) for probe in probes}
        answer = time_subjects({**plain, **profiled, **alone}, place, timing)
    rates = read_rates(probes, answer.blocks_ms)
    limits = {precision: best_rate(rates, precision) for precision in (INT8, FP32)}
    made = {
        side: tuple(
            _with_kernels(one, subject, answer.traces[f"{PROFILED}{side}/{part}"]) if kernels else one
            for part, subject in parts.items()
            for one in (_profile(part, f"{side}/{part}", answer, limits, count_macs(subject)),)
        )
        for side, parts in sides.items()
    }
    return Profiles(
        threads=place.threads,
        runtime=f"{place.runtime} {answer.runtime_version}".strip(),
        before=made.get("before", ()),
        after=made["after"],
        rates=rates,
        int8=limits[INT8],
        fp32=limits[FP32],
        warnings=tuple(disturbances(*answer.cpu_times) if len(answer.cpu_times) == 2 else ()),
    )


def _profile(component: str, name: str, answer: Answer, limits: Mapping[str, Rate], macs: Macs) -> Profile:
    """One graph, from what was measured of it and what it computes."""
    profiled = [sample for block in answer.blocks_ms[f"{PROFILED}{name}"] for sample in block]
    latency = median(sample for block in answer.blocks_ms[name] for sample in block)
    operators = time_operators(answer.traces[f"{PROFILED}{name}"], macs)
    products_ms = sum(one.ms for one in operators if one.product)
    rate = _rate(macs.total, latency)
    return Profile(
        component=component,
        operators=operators,
        operators_ms=sum(one.ms for one in operators),
        profiled_ms=median(profiled),
        latency_ms=latency,
        n=len(profiled),
        macs=macs.total,
        macs_unknown_because=macs.because,
        gmacs_per_s=rate,
        products_gmacs_per_s=_rate(macs.total, products_ms),
        int8_share=None if rate is None else rate / limits[INT8].gmacs_per_s,
        fp32_share=None if rate is None else rate / limits[FP32].gmacs_per_s,
    )


def _with_kernels(profile: Profile, subject: Subject, trace: Trace) -> Profile:
    """A profile with each node, and what is known of its nodes at each kind."""
    found = describe_kernels(subject, trace.nodes)
    kinds: dict[str, list[KernelTime]] = {}
    for kernel in found:
        kinds.setdefault(kernel.operator, []).append(kernel)
    operators = tuple(_with_precisions(one, kinds[one.operator]) for one in profile.operators)
    return profile.model_copy(update={"kernels": found, "operators": operators})


def _with_precisions(kind: OperatorTime, kernels: Sequence[KernelTime]) -> OperatorTime:
    precisions = Counter(kernel.precision for kernel in kernels if kernel.precision)
    fused = sum(kernel.made == "fused" for kernel in kernels)
    told = all(kernel.made for kernel in kernels)
    return kind.model_copy(
        update={"precisions": tuple(name for name, _ in precisions.most_common()), "fused": fused if told else None}
    )


def find_changes(before: Sequence[Profile], after: Sequence[Profile]) -> tuple[KindChange, ...]:
    """What two artifacts do differently, by kind of operator in each component that both have; most time first."""
    changes = []
    old = {one.component: {kind.operator: kind for kind in one.operators} for one in before}
    for one in after:
        kinds = old.get(one.component)
        new = {kind.operator: kind for kind in one.operators}
        for operator in {**kinds, **new} if kinds is not None else ():
            pair = (kinds or {}).get(operator), new.get(operator)
            first, second = (kind.ms if kind else 0.0 for kind in pair)
            changes.append(
                KindChange(
                    component=one.component, operator=operator, before=pair[0], after=pair[1], delta_ms=second - first
                )
            )
    return tuple(sorted(changes, key=lambda one: (-abs(one.delta_ms), one.component, one.operator)))


def time_operators(trace: Trace, macs: Macs) -> tuple[OperatorTime, ...]:
    """The median time of each kind of operator over inferences, the longest first."""
    times = [median(one.ms) for one in trace.operators]
    total = sum(times)
    known = macs.of({one.operator: one.nodes for one in trace.operators})
    found = [
        OperatorTime(
            operator=one.operator,
            provider=one.provider,
            nodes=one.nodes,
            ms=ms,
            share=ms / total if total else 0.0,
            product=one.operator in PRODUCTS,
            macs=known.get(one.operator),
            gmacs_per_s=_rate(known.get(one.operator), ms),
        )
        for one, ms in zip(trace.operators, times, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: (-one.ms, one.operator)))


def _rate(macs: int | None, ms: float) -> float | None:
    """10^9 multiply-accumulates a second; None where either is nothing."""
    return macs / (ms * 1e6) if macs and ms else None
