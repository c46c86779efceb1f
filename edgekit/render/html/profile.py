"""Where the time goes: each kind of operator before and after, beside what the machine can do at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.artifact import WHOLE
from edgekit.profiles import OperatorTime, Profile, Profiles
from edgekit.render.html.charts import Axis, box, figure
from edgekit.render.html.markup import Child, Html, element, facts, items, join, note, section, table
from edgekit.render.profile import MOST_ROWS, REST, limit_lines, percent, rate, shortened, work_lines
from edgekit.report import Report

LEAD = (
    "Milliseconds of one inference by kind of operator, as the runtime itself notes them. Noting takes time, so the sum"
    " is not the latency, which was timed without it."
)
ABOUT = (
    "Of a limit, the fraction is the time that the multiply-accumulates would take at it, over the time that an"
    " inference takes. Operators are named as the runtime has fused them; times are in whole microseconds, so that what"
    " is shorter looks like less."
)
UNKNOWN = "-"
SIDES = ("original", "result")
BAR = 8.0  # height of one of two bars, in pixels


def profile(report: Report) -> Html:
    """The section of a report."""
    found = report.profile
    if found is None or found.because:
        reason = "this report has no profile" if found is None else f"not profiled: {found.because}"
        return section("profile", "Time per operator", note(f"{reason[0].upper()}{reason[1:]}."))
    return kinds(found, SIDES)


def kinds(found: Profiles, sides: tuple[str, str]) -> Html:
    """The section: what each kind of operator takes, and the machine's limits.

    Args:
        found: of one artifact or two.
        sides: what the first and the second of two are called.
    """
    parts: list[Child] = []
    before = {one.component: one for one in found.before}
    for one in found.after:
        old = before.get(one.component)
        parts.append(None if one.component == WHOLE else element("h3", one.component))
        alone = not found.before
        table_ = _operators_alone(one) if alone else _operators(old, one, sides)
        parts += [table_, facts(_figures(old, one)), *_unknown(one)]
    parts += [element("h3", "What this machine can do"), items(limit_lines(found)), note(ABOUT)]
    if found.warnings:
        parts.append(items(found.warnings, "doubts"))
    return section("profile", "Time per operator", *parts, lead=LEAD)


def _operators_alone(one: Profile) -> Html:
    """A row for each kind of one artifact: what it computes in, time and share, and a bar."""
    shown = shortened(one.operators)
    axis = Axis(0.0, max((kind.ms for kind in shown), default=0.0) or 1.0)
    rows = [
        (
            join((kind.operator, _small(_achieved([kind])))),
            ", ".join(kind.precisions),
            str(kind.nodes),
            _count(kind.fused),
            f"{kind.ms:.3f}",
            percent(kind.share),
            figure(
                f"{kind.operator}: time",
                f"{kind.ms:.3f} ms",
                *([box(0.0, axis.at(kind.ms), "after", y=3.0, height=BAR * 1.5)] if kind.ms else []),
                height=int(2 * BAR) + 2,
            ),
        )
        for kind in shown
    ]
    head = ("operator", "computes in", "nodes", "fused", "ms", "share", "time")
    return table(head, rows, kinds="ttnnnnb", caption="milliseconds of an inference by kind of operator")


def _operators(before: Profile | None, after: Profile, sides: tuple[str, str]) -> Html:
    """A row for each kind: times and shares, and two bars on a scale that all rows share."""
    old = {one.operator: one for one in before.operators} if before else {}
    new = {one.operator: one for one in after.operators}
    order = sorted({**new, **old}, key=lambda name: (-max(_ms(old, name), _ms(new, name)), name))
    shown, rest = (order, []) if len(order) <= MOST_ROWS else (order[: MOST_ROWS - 1], order[MOST_ROWS - 1 :])
    groups = [*([name] for name in shown), *([rest] if rest else [])]
    axis = Axis(0.0, max(sum(_ms(side, name) for name in group) for side in (old, new) for group in groups) or 1.0)
    rows = [
        _row(axis, group[0] if len(group) == 1 else f"{len(group)} {REST}", group, (old, new), sides)
        for group in groups
    ]
    first, second = sides
    head = ("operator", f"{first} ms", "share", f"{second} ms", "share", f"{first}, {second}")
    return table(head, rows, kinds="tnnnnb", caption="milliseconds of an inference by kind of operator")


def _row(
    axis: Axis,
    name: str,
    group: Sequence[str],
    times: tuple[Mapping[str, OperatorTime], Mapping[str, OperatorTime]],
    sides: tuple[str, str],
) -> tuple[Child, ...]:
    cells: list[Child] = []
    bars: list[Html] = []
    found_of = [side[name] for side in times if name in side]
    precisions = [", ".join(one.precisions) for one in found_of if one.precisions]
    for side, class_, y in zip(times, ("before", "after"), (2.0, 4.0 + BAR), strict=True):
        found = [side[one] for one in group if one in side]
        ms = sum(one.ms for one in found)
        cells += [f"{ms:.3f}", percent(sum(one.share for one in found))] if found else [UNKNOWN, UNKNOWN]
        if ms:
            bars.append(box(0.0, axis.at(ms), class_, y=y, height=BAR))
    said = f"{sides[0]} {cells[0]} ms, {sides[1]} {cells[2]} ms"
    return (
        join((name, _small(_both(list(dict.fromkeys(precisions)))), _small(_achieved(found_of)))),
        *cells,
        figure(f"{name}: time before and after", said, *bars, height=int(2 * BAR) + 6),
    )


def _small(written: str) -> Html | None:
    return element("div", written, class_="small") if written else None


def _achieved(found: Sequence[OperatorTime]) -> str:
    """How fast its multiply-accumulates are done; empty where that is not known of any."""
    rates = [_rate(one.gmacs_per_s) for one in found]
    return f"{_both(rates)} GMAC/s" if {*rates} - {UNKNOWN} else ""


def _count(nodes: int | None) -> str:
    return UNKNOWN if nodes is None else str(nodes)


def _ms(side: Mapping[str, OperatorTime], name: str) -> float:
    return side[name].ms if name in side else 0.0


def _figures(before: Profile | None, after: Profile) -> list[tuple[Child, Child]]:
    """Latency, work and fractions, original and result beside each other; what is not known of either is left out."""
    sides = [one for one in (before, after) if one is not None]
    rows: tuple[tuple[str, list[str], str], ...] = (
        ("latency", [f"{one.latency_ms:.2f}" for one in sides], " ms"),
        ("the same with profiling", [f"{one.profiled_ms:.2f}" for one in sides], " ms"),
        ("operators", [f"{one.operators_ms:.2f}" for one in sides], " ms"),
        ("multiply-accumulates", [f"{one.macs / 1e6:.1f}" if one.macs else UNKNOWN for one in sides], " million"),
        ("done in the inference", [_rate(one.gmacs_per_s) for one in sides], " GMAC/s"),
        ("done in what multiplies", [_rate(one.products_gmacs_per_s) for one in sides], " GMAC/s"),
        ("of the INT8 limit", [_share(one.int8_share) for one in sides], ""),
        ("of the FP32 limit", [_share(one.fp32_share) for one in sides], ""),
    )
    return [(name, _both(values) + unit) for name, values, unit in rows if set(values) != {UNKNOWN}]


def _both(values: Sequence[str]) -> str:
    return " \N{RIGHTWARDS ARROW} ".join(values)


def _unknown(one: Profile) -> list[Child]:
    return [note(*work_lines(one))] if one.macs is None else []


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else rate(value)


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value)
