"""Where the time of an inference goes, in words and as a table on a terminal; the words are the page's too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.artifact import WHOLE
from edgekit.profiles import KernelTime, KindChange, OperatorTime, Profile, ProfileRecord, Profiles, Rate
from edgekit.render.facts import titled
from edgekit.render.parts import DOUBT, FAINT, items, make_table, title
from edgekit.render.wording import faster, runtime_text, threads_text

# Operators that the line of a run names.
NAMED = 4
# Rows of a table; the rest are summed.
MOST_ROWS = 12
REST = "others"


def profile_lines(profiles: Profiles | None) -> Iterator[str]:
    """What the end of a run says, a line a component: the fraction of the limit, and what takes longest.

    Nothing where nothing was profiled: that latency was not measured is said beside it, and the page has the reason.
    """
    if profiles is None or profiles.because:
        return
    originals = {one.component: one for one in profiles.before}
    for one in profiles.after:
        suffix = "" if one.component == WHOLE else f", {one.component}"
        named = ", ".join(f"{shown.operator} {percent(shown.share)}" for shown in one.operators[:NAMED])
        yield f"{_limit(one, originals.get(one.component), profiles)}time{suffix}: {named}"


def _limit(one: Profile, original: Profile | None, profiles: Profiles) -> str:
    """The fraction of the INT8 limit; empty where it is not known."""
    if one.int8_share is None or profiles.int8 is None:
        return ""
    before = f" (original {percent(original.int8_share)})" if original and original.int8_share else ""
    limit = f"{rate(profiles.int8.gmacs_per_s)} GMAC/s of the fastest {profiles.int8.operator} alone"
    return f"INT8 limit: {percent(one.int8_share)} of {limit}{before}; "


def profile_view(record: ProfileRecord) -> RenderableType:
    """What ``edgekit profile`` prints."""
    found, names = record.profiles, sides_of(record)
    where = f"{runtime_text(found.runtime)}, {threads_text(found.threads)}, {record.host.get('processor')}"
    parts: list[RenderableType] = [Text(where, style=FAINT)]
    before = {one.component: one for one in found.before}
    for one in found.after:
        suffix = "" if one.component == WHOLE else f", {one.component}"
        parts.append(title(f"Time per operator{suffix}"))
        old = before.get(one.component)
        if old is None:
            parts.append(_kinds(one))
        else:
            parts += [_changes([change for change in record.changes if change.component == one.component], names)]
            parts.append(Text(latencies(old, one, names)))
        parts += [Text(line, style=FAINT) for line in between(one)]
        parts += [Text(line) for line in work_lines(one)]
        if one.kernels:
            parts += [title(f"Longest nodes{suffix if old is None else f' of {names[1]}{suffix}'}"), _nodes(one)]
    parts += [Text(line) for line in lone_lines(found, names)]
    parts += [title("This machine's limits"), items(limit_lines(found))]
    return Group(*parts, *titled("Warnings", record.warnings, DOUBT))


def sides_of(record: ProfileRecord) -> tuple[str, str]:
    """What the two artifacts are called: by their names, with numbers where those are the same."""
    second = PurePath(str(record.subject.get("name"))).name
    first = PurePath(str((record.compared_with or {}).get("name", ""))).name
    return (f"{first} (1)", f"{second} (2)") if first == second else (first, second)


def latencies(before: Profile, after: Profile, names: tuple[str, str]) -> str:
    """Both latencies in words, which are a look of seconds and have no interval."""
    change = faster(before.latency_ms, after.latency_ms)
    told = f"{names[0]} {before.latency_ms:.3f} ms, {names[1]} {after.latency_ms:.3f} ms: {change}"
    return f"{told} (without an interval, which `edgekit bench` gives)"


def lone_lines(found: Profiles, names: tuple[str, str]) -> Iterator[str]:
    """The parts that only one of two artifacts has, a line each: there is nothing to compare them with."""
    sides = (found.before, found.after) if found.before else ()
    for name, own, others in zip(names, sides, sides[::-1], strict=False):
        known = {one.component for one in others}
        yield from (
            f"{one.component} is in {name} only: {one.latency_ms:.3f} ms" for one in own if one.component not in known
        )


def _kinds(one: Profile) -> RenderableType:
    """A row for each kind of one artifact."""
    columns = ("operator", "computes in", "nodes", "fused", "ms", "share", "GMAC/s")
    table = make_table(*columns, right=columns[2:], unbroken=("nodes", "computes in"))
    for shown in shortened(one.operators):
        achieved = "" if shown.gmacs_per_s is None else rate(shown.gmacs_per_s)
        fused = "" if shown.fused is None else str(shown.fused)
        precisions = ", ".join(shown.precisions)
        cells = (
            shown.operator,
            precisions,
            str(shown.nodes),
            fused,
            f"{shown.ms:.3f}",
            percent(shown.share),
            achieved,
        )
        table.add_row(*map(Text, cells))
    return table


def _changes(changes: Sequence[KindChange], names: tuple[str, str]) -> RenderableType:
    """A row for each kind of two artifacts, what changed most first."""
    columns = ("operator", "nodes", "computes in", f"{names[0]} ms", f"{names[1]} ms", "change")
    table = make_table(*columns, right=(columns[1], *columns[3:]), unbroken=("nodes", "change", "computes in"))
    for change in changes[:MOST_ROWS]:
        pair = change.before, change.after
        cells = (
            change.operator,
            arrow([str(kind.nodes) if kind else "0" for kind in pair]),
            arrow([", ".join(kind.precisions) for kind in pair if kind]),
            *(f"{kind.ms:.3f}" if kind else "-" for kind in pair),
            f"{change.delta_ms:+.3f}",
        )
        table.add_row(*map(Text, cells))
    rest = changes[MOST_ROWS:]
    if rest:
        table.add_row(f"{len(rest)} {REST}", "", "", "", "", f"{sum(one.delta_ms for one in rest):+.3f}")
    return table


def _nodes(one: Profile) -> RenderableType:
    """The nodes that take longest, and what each is made of."""
    table = make_table("node", "operator", "computes in", "ms", "share", right=("ms", "share"))
    for kernel in sorted(one.kernels, key=lambda kernel: -kernel.ms)[:MOST_ROWS]:
        cells = (kernel.name, kernel_kind(kernel), kernel.precision, f"{kernel.ms:.3f}", percent(kernel.share))
        table.add_row(*map(Text, cells))
    return table


def kernel_kind(kernel: KernelTime) -> str:
    """A node's kind with how it came to be: ``Conv, fused of Conv, Relu``."""
    if kernel.made == "fused":
        return f"{kernel.operator}, fused" + (f" of {', '.join(_runs(kernel.replaces))}" if kernel.replaces else "")
    return f"{kernel.operator}, added by the runtime" if kernel.made == "added" else kernel.operator


def _runs(kinds: Sequence[str]) -> Iterator[str]:
    """Kinds with how many there are of each, in the order of the first."""
    for kind, count in Counter(kinds).items():
        yield kind if count == 1 else f"{count} {kind}"


def arrow(values: Sequence[str]) -> str:
    """Before and after, once where they are the same."""
    return " -> ".join(dict.fromkeys(values))


def shortened(operators: Sequence[OperatorTime], most: int = MOST_ROWS) -> list[OperatorTime]:
    """The operators that take longest; the others as one."""
    if len(operators) <= most:
        return list(operators)
    first, rest = operators[: most - 1], operators[most - 1 :]
    others = OperatorTime(
        operator=REST,
        provider="",
        nodes=sum(one.nodes for one in rest),
        ms=sum(one.ms for one in rest),
        share=sum(one.share for one in rest),
    )
    return [*first, others]


def between(one: Profile) -> Iterator[str]:
    """What the operators are a part of."""
    yield (
        f"operators {one.operators_ms:.3f} ms of {one.profiled_ms:.3f} ms with profiling, which takes time itself;"
        f" without it {one.latency_ms:.3f} ms"
    )


def work_lines(one: Profile) -> Iterator[str]:
    """How fast the multiply-accumulates are done, and how near that is to the limits."""
    if one.macs is None:
        yield f"multiply-accumulates unknown: {one.macs_unknown_because}"
    if one.macs and one.gmacs_per_s is not None and one.products_gmacs_per_s is not None:
        work = f"{one.macs / 1e6:.1f} million multiply-accumulates"
        whole, products = rate(one.gmacs_per_s), rate(one.products_gmacs_per_s)
        yield f"{work}: {whole} GMAC/s over the whole inference, {products} over the operators that multiply"
    if one.int8_share is not None and one.fp32_share is not None:
        yield f"{percent(one.int8_share)} of the INT8 limit, {percent(one.fp32_share)} of the FP32 limit"


def limit_lines(profiles: Profiles) -> Iterator[str]:
    """Both limits, with what reached them and how they were measured; and what operators of the graph reach at most."""
    for name, best in (("INT8", profiles.int8), ("FP32", profiles.fp32)):
        if best is not None:
            yield f"{name}: {rate(best.gmacs_per_s)} GMAC/s, by {product(best)}"
            yield from _own_limits(profiles, best)
    tried = len({(one.operator, one.shape) for one in profiles.rates})
    where = f"{runtime_text(profiles.runtime)} on {threads_text(profiles.threads)}"
    yield (
        f"the fastest of {tried} products, each alone in a graph, in the fastest of its runs in {where}, in turns with"
        " what is profiled"
    )


def _own_limits(profiles: Profiles, limit: Rate) -> Iterator[str]:
    """What other operators of the graph reach alone, where that was measured too: those that also quantize, say."""
    used = {kind.operator for one in profiles.after for kind in one.operators} - {limit.operator}
    for operator in sorted(used):
        alike = [one for one in profiles.rates if (one.operator, one.precision) == (operator, limit.precision)]
        if alike:
            best = max(alike, key=lambda one: one.gmacs_per_s)
            yield f"{operator}, which the graph uses: {rate(best.gmacs_per_s)} GMAC/s at most, by {product(best)}"


def product(best: Rate) -> str:
    """A product by its operator, its types and its size."""
    m, k, n = best.shape
    return f"{best.operator} ({best.types}, [{m}, {k}] x [{k}, {n}])"


def rate(gmacs_per_s: float) -> str:
    """10^9 multiply-accumulates a second, to three figures, without the unit."""
    return f"{gmacs_per_s:.{0 if gmacs_per_s >= 100 else 1 if gmacs_per_s >= 10 else 2}f}"


def percent(share: float) -> str:
    """A share in whole percents, one decimal where it is small."""
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"
