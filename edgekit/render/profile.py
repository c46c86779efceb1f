"""Where the time of an inference goes, in words and as a table on a terminal; the words are the page's too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from edgekit.artifact import WHOLE
from edgekit.profile import OperatorTime, Profile, Profiles, Rate
from edgekit.render.parts import DOUBT, FAINT, items, make_table, title
from edgekit.render.wording import runtime_text, threads_text

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
    return f"INT8 limit: {percent(one.int8_share)} of {rate(profiles.int8.gmacs_per_s)} GMAC/s{before}; "


def profile_view(profiles: Profiles) -> list[RenderableType]:
    """What ``bench --profile`` prints below its metrics."""
    heading = title("Time per operator")
    if profiles.because:
        return [heading, Text(f"not profiled: {profiles.because}", style=DOUBT)]
    parts: list[RenderableType] = [heading]
    for one in profiles.after:
        if one.component != WHOLE:
            parts.append(Text(one.component))
        table = make_table(
            "operator", "nodes", "ms", "share", "GMAC/s", right=("nodes", "ms", "share", "GMAC/s"), unbroken=("nodes",)
        )
        for shown in shortened(one.operators):
            achieved = "" if shown.gmacs_per_s is None else rate(shown.gmacs_per_s)
            cells = (shown.operator, str(shown.nodes), f"{shown.ms:.3f}", percent(shown.share), achieved)
            table.add_row(*map(Text, cells))
        parts += [table, *(Text(line, style=FAINT) for line in between(one))]
        parts += [Text(line) for line in work_lines(one)]
    parts += [title("This machine's limits"), items(limit_lines(profiles))]
    return [*parts, items(profiles.warnings, DOUBT)] if profiles.warnings else parts


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
    """Both limits, with what reached them and how they were measured."""
    for name, best in (("INT8", profiles.int8), ("FP32", profiles.fp32)):
        if best is not None:
            yield f"{name}: {rate(best.gmacs_per_s)} GMAC/s, by {product(best)}"
    tried = len({(one.operator, one.shape) for one in profiles.rates})
    where = f"{runtime_text(profiles.runtime)} on {threads_text(profiles.threads)}"
    yield (
        f"the fastest of {tried} products, each alone in a graph, in the fastest of its runs in {where}, in turns with"
        " what is profiled"
    )


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
