"""The page of ``edgekit profile``: an inference as a strip of its nodes in order, and what each kind and node takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekit.artifact import WHOLE
from edgekit.profiles import KernelTime, KindChange, Profile, ProfileRecord
from edgekit.render.html.charts import Axis, axis_row, box, figure, percent
from edgekit.render.html.document import document
from edgekit.render.html.markup import Child, Html, element, facts, minus, note, section, table
from edgekit.render.html.profile import kinds
from edgekit.render.parts import pairs
from edgekit.render.profile import arrow, kernel_kind, latencies, lone_lines, sides_of
from edgekit.render.profile import percent as share
from edgekit.render.wording import runtime_text, threads_text

STRIP = 34
MOST_NODES = 60
# Of each precision, how a node is drawn; what is none of these is drawn as the rest.
CLASSES = {"int2": "kept", "int4": "kept", "int8": "kept", "fp8": "kept", "fp16": "gain", "bf16": "gain"}
REST = "before"
LEGEND = ((("kept",), "8 bits and fewer"), (("gain",), "16 bits"), ((REST,), "wider"))
ORDER = (
    "One inference from left to right, each node as wide as its time is long, alternately high and low; the colour says"
    " what it computes in. All strips of a part have one scale. Pointing at a node names it."
)


def profile_page(record: ProfileRecord) -> str:
    """The record as one HTML file."""
    names, found = sides_of(record), record.profiles
    heading = f"{names[0]} beside {names[1]}" if found.before else names[1]
    contents = [("order", "In order"), ("profile", "By kind"), ("nodes", "By node")]
    if found.before:
        contents.insert(0, ("changes", "What changed"))
    where = f"{runtime_text(found.runtime)} on {threads_text(found.threads)}"
    head = element(
        "header",
        element("p", "edgekit profile", class_="eyebrow"),
        element("h1", heading),
        facts(
            (
                ("processor", str(record.host.get("processor", ""))),
                ("runtime", where),
                ("workload", pairs(_workload(record))),
            )
        ),
    )
    return document(
        f"profile of {heading}",
        head,
        _changes(record, names) if found.before else None,
        section("order", "In order", *_strips(record, names), lead=ORDER),
        kinds(found, names),
        section("nodes", "By node", *_tables(record, names)),
        contents=contents,
        foot="Made by edgekit profile.",
    )


def _workload(record: ProfileRecord) -> dict[str, object]:
    given = record.protocol.get("workload")
    return dict(given) if isinstance(given, dict) else {}


def _changes(record: ProfileRecord, names: tuple[str, str]) -> Html:
    """Latencies, and a row for each kind, what changed most first."""
    before = {one.component: one for one in record.profiles.before}
    parts: list[Child] = []
    for one in record.profiles.after:
        old = before.get(one.component)
        if old is None:
            continue
        rows = [_change(change) for change in record.changes if change.component == one.component]
        parts.append(None if one.component == WHOLE else element("h3", one.component))
        parts.append(element("p", latencies(old, one, names)))
        head = ("operator", "nodes", "computes in", "change in ms")
        parts.append(table(head, rows, kinds="tntn", caption=f"what changed from {names[0]} to {names[1]}"))
    parts += [note(line) for line in lone_lines(record.profiles, names)]
    return section("changes", "What changed", *parts, lead="By kind of operator, the largest difference in time first.")


def _change(change: KindChange) -> tuple[Child, ...]:
    pair = change.before, change.after
    return (
        change.operator,
        _arrow([str(kind.nodes) if kind else "0" for kind in pair]),
        _arrow([", ".join(kind.precisions) for kind in pair if kind]),
        minus(f"{change.delta_ms:+.3f}"),
    )


def _strips(record: ProfileRecord, names: tuple[str, str]) -> Iterator[Child]:
    """For each part, a strip of every artifact that has it."""
    before = {one.component: one for one in record.profiles.before}
    yield element(
        "p", *(element("span", _swatch(class_), f" {label}  ") for (class_,), label in LEGEND), class_="small"
    )
    for one in record.profiles.after:
        old = before.get(one.component)
        shown = [(names[1], one)] if old is None else [(names[0], old), (names[1], one)]
        axis = Axis.around([sum(kernel.ms for kernel in profile.kernels) for _, profile in shown])
        yield None if one.component == WHOLE else element("h3", one.component)
        for name, profile in shown:
            yield element("h4", f"{name}: {sum(kernel.ms for kernel in profile.kernels):.3f} ms in nodes")
            yield _strip(axis, name, profile.kernels)
        yield axis_row(axis, lambda value: f"{value:g} ms", "time")


def _swatch(class_: str) -> Html:
    shape = element("rect", x="0", y="1", width="100%", height="10", class_=class_)
    return element("svg", shape, width="18", height="12", aria_hidden="true")


def _strip(axis: Axis, name: str, kernels: Sequence[KernelTime]) -> Html:
    shapes, at = [], 0.0
    for index, kernel in enumerate(kernels):
        start, at = axis.at(at), at + kernel.ms
        width = axis.at(at) - start
        if width <= 0:
            continue
        shapes.append(
            element(
                "rect",
                element("title", f"{kernel.name}: {_described(kernel)}, {kernel.ms:.3f} ms"),
                x=percent(start),
                y=4.0 if index % 2 else 0.0,
                width=percent(width),
                height=float(STRIP - 4),
                class_=CLASSES.get(kernel.precision, REST),
                fill_opacity=0.75 if index % 2 else 1.0,
            )
        )
    return figure(f"{name}: nodes in order", f"{len(kernels)} nodes", *shapes, height=STRIP, class_="strip")


def _described(kernel: KernelTime) -> str:
    return f"{kernel_kind(kernel)}, {kernel.precision}" if kernel.precision else kernel_kind(kernel)


def _tables(record: ProfileRecord, names: tuple[str, str]) -> Iterator[Child]:
    before = {one.component: one for one in record.profiles.before}
    for one in record.profiles.after:
        old = before.get(one.component)
        for name, profile in ((names[0], old), (names[1], one)):
            if profile is None:
                continue
            part = "" if one.component == WHOLE else f", {one.component}"
            yield element("h3", f"{name}{part}")
            yield _nodes(profile)


def _nodes(profile: Profile) -> Html:
    """The nodes that take longest."""
    shown = sorted(profile.kernels, key=lambda kernel: -kernel.ms)[:MOST_NODES]
    axis = Axis(0.0, max((kernel.ms for kernel in shown), default=0.0) or 1.0)
    rows = [
        (
            kernel.name,
            kernel_kind(kernel),
            kernel.precision,
            "" if kernel.shape is None else "\N{MULTIPLICATION SIGN}".join(map(str, kernel.shape)),
            f"{kernel.ms:.3f}",
            share(kernel.share),
            figure(
                f"{kernel.name}: time",
                f"{kernel.ms:.3f} ms",
                *([box(0.0, axis.at(kernel.ms), "after", y=3.0, height=10.0)] if kernel.ms else []),
                height=16,
            ),
        )
        for kernel in shown
    ]
    left = len(profile.kernels) - len(shown)
    shown_all = table(
        ("node", "operator", "computes in", "gives", "ms", "share", "time"),
        rows,
        kinds="tttnnnb",
        caption="nodes by the time that they take",
    )
    return shown_all if left <= 0 else element("div", shown_all, note(f"{left} shorter ones are not listed."))


def _arrow(values: Sequence[str]) -> str:
    return arrow(values).replace("->", "\N{RIGHTWARDS ARROW}")
