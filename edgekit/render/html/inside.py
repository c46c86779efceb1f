"""What the artifact is made of: what was pruned where, how distillation went, operators, precision, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from edgekit.render import figures
from edgekit.render.html.charts import Axis, axis_row, curve, share_bar
from edgekit.render.html.markup import Child, Html, element, facts, items, join, minus, note, section, table
from edgekit.render.stages import (
    engine_lines,
    float_layers,
    hidden_size,
    number,
    rescaled_lines,
    table_lines,
    token_shares,
)
from edgekit.report import Graph, Report, StageReport

# Layers that are shown one by one; a network with more has the rest counted.
MOST_LAYERS = 200
MOST_SENSITIVE = 10
FLOATS = ("float32", "float16", "float64", "bfloat16")

Row = Mapping[str, JsonValue]


def inside(report: Report) -> Html:
    """The section."""
    kept = {row.stage for row in report.ledger if row.kept}
    parts: list[Child] = []
    for stage in report.stages:
        show = SHOWN.get(stage.stage)
        if show is not None and stage.stage in kept:
            parts += list(show(stage))
    parts += [*_graphs(report)]
    if not parts:
        parts.append(note("This report has no details of the graph."))
    return section("inside", "Inside the artifact", *parts)


def _prune(stage: StageReport) -> Iterator[Child]:
    """Layer by layer what is left, of encoders and of anything else."""
    details = stage.details
    before = details.get("before")
    kept = details.get("kept")
    rows = [row for row in kept if isinstance(row, dict)] if isinstance(kept, list) else []
    if not rows:
        return
    yield element("h3", "What was pruned where")
    macs = number(details.get("macs_before")), number(details.get("macs_after"))
    if macs[0]:
        yield element(
            "p",
            f"{macs[1] / macs[0]:.0%} of the multiply-accumulates are left: {_count(macs[1])} of {_count(macs[0])}.",
        )
    if hidden := hidden_size(details):
        yield element("p", f"The hidden size is {hidden}, the same columns in every layer.")
    if tokens := token_shares(details):
        yield element("p", f"Of a sample's tokens, each layer but the last hands on {tokens}, in this order.")
    yield _encoder(before, rows) if isinstance(before, dict) else _channels(rows)
    if len(rows) > MOST_LAYERS:
        yield note(f"{len(rows) - MOST_LAYERS} further layers are in report.json.")


def _encoder(before: Row, kept: list[dict[str, JsonValue]]) -> Html:
    """Heads and neurons of every layer of the original; a removed one says so."""
    by_layer = {int(number(row.get("layer"))): row for row in kept}
    layers = max(int(number(before.get("layers"))), *(index + 1 for index in by_layer))
    body: list[tuple[Child, ...]] = []
    for index in range(min(layers, MOST_LAYERS)):
        cells: list[Child] = []
        for name in ("heads", "neurons"):
            row = by_layer.get(index, {})
            of, left = number(row.get(f"{name}_of", before.get(name))), number(row.get(name))
            said = f"{left:g} of {of:g}" if index in by_layer else "removed"
            cells.append(_left(left, of, f"layer {index}, {name}", said))
        body.append((str(index), *cells))
    return table(("layer", "heads", "neurons"), body, kinds="tbb", caption="heads and neurons left in each layer")


def _channels(kept: list[dict[str, JsonValue]]) -> Html:
    """Channels of every layer that others read, with the reason where none could go."""
    body: list[tuple[Child, ...]] = []
    for row in kept[:MOST_LAYERS]:
        name, left, of = str(row.get("layer")), number(row.get("channels")), number(row.get("of"))
        why = str(row.get("whole") or "")
        if "of" not in row:  # a kind of layer whose channels nobody can count
            body.append((name, element("div", f"kept whole: {why}", class_="small")))
            continue
        said = f"{left:g} of {of:g}" + (f", kept whole: {why}" if why else "")
        body.append((name, _left(left, of, name, said)))
    return table(("layer", "channels"), body, kinds="tb", caption="channels left in each layer")


def _left(left: float, of: float, title: str, said: str) -> Html:
    """A bar of what is left, and the figures under it."""
    bar = share_bar(left / of if of else 0.0, f"{title}: {left:g} of {of:g} left")
    return join((bar, element("div", said, class_="small")))


def _distill(stage: StageReport) -> Iterator[Child]:
    """The loss on the selection split while training."""
    losses = stage.details.get("selection_losses")
    points = [
        (number(pair[0]), number(pair[1]))
        for pair in (losses if isinstance(losses, list) else [])
        if isinstance(pair, list) and len(pair) == 2
    ]
    if len(points) < 2 or points[0][0] >= points[-1][0]:
        return
    first = number(stage.details.get("rounded_from"))  # no student of the steps before was kept
    best = min([point for point in points if point[0] > first] or points, key=lambda point: point[1])
    said = (
        f"From {points[0][1]:.3f} after {points[0][0]:g} steps to {best[1]:.3f} after {best[0]:g}, whose weights were"
        f" kept, of {points[-1][0]:g}"
        + (", where it stopped early." if stage.details.get("stopped_early") else ".")
        + (f" Behind step {first:g}, weights and inputs were rounded." if first else "")
    )
    yield element("h3", "How distillation went")
    yield element(
        "figure",
        curve(points, "loss on the selection split", said),
        axis_row(Axis(points[0][0], points[-1][0]), lambda value: f"{value:g}", "training steps"),
        element("figcaption", f"Loss on the selection split by training step. {said}"),
        class_="wide",
    )


def _optimize(stage: StageReport) -> Iterator[Child]:
    """Each rewrite with what it gains."""
    rows: list[tuple[Child, ...]] = []
    timed_as = ""
    for component, details in stage.details.items():
        timed_as = f" in {details['timed_as']}" if isinstance(details, dict) and details.get("timed_as") else timed_as
        rewrites = details.get("rewrites") if isinstance(details, dict) else None
        for row in rewrites if isinstance(rewrites, list) else []:
            if isinstance(row, dict):
                rows.append(_rewrite("" if len(stage.details) == 1 else f"{component}: ", row))
    if rows:
        head = ("rewrite", "nodes", "ms without", "ms with")
        yield element("h3", "Rewrites of the graph")
        yield table(
            head, rows, kinds="tnnn", caption=f"rewrites of the graph, each measured against all but it{timed_as}"
        )


def _rewrite(component: str, row: Row) -> tuple[Child, ...]:
    nodes = number(row.get("nodes"))
    outcome = "kept" if row.get("kept") else "does not pay here" if nodes else "nothing to rewrite"
    times = [f"{number(row[key]):.3f}" if key in row else "-" for key in ("without_ms", "with_ms")]
    return join((f"{component}{row.get('rewrite')}", element("div", outcome, class_="small"))), f"{nodes:g}", *times


def _quantize(stage: StageReport) -> Iterator[Child]:
    """Scheme, what stayed in float, and what was seen on the selection split."""
    details = stage.details
    scheme, fallbacks, check = (details.get(name) for name in ("scheme", "fallback_layers", "selection_check"))
    if not isinstance(scheme, dict):
        return
    layers = number(details.get("layers"))
    left = [str(name) for name in fallbacks] if isinstance(fallbacks, list) else []
    pairs: list[tuple[Child, Child]] = [
        (name.replace("_", " "), _plain(value)) for name, value in scheme.items() if value != []
    ]
    unasked = float_layers(details)
    small = layers - len(left) - sum(map(len, unasked.values()))
    pairs.append(("layers quantized", f"{small:g} of {layers:g}"))
    if isinstance(check, dict):
        drop = number(check.get("drop"))
        said = f"{abs(drop):.4f} {'gained' if drop < 0 else 'lost'}, {number(check.get('tolerance')):g} allowed"
        pairs.append((f"alone, on {number(check.get('samples')):g} selection samples", said))
    yield element("h3", "Quantization")
    yield facts(pairs)
    weights = details.get("weights")
    if isinstance(weights, dict):
        yield element("p", f"Weights: {weights.get('reason')}")
    for line in (*rescaled_lines(details), *table_lines(details), *engine_lines(details)):
        yield element("p", line)
    if left:
        yield element("p", "Layers that stayed in float, since they lose too much:")
        yield items(left[:MOST_LAYERS], "names")
    for reason, names in unasked.items():
        yield element("p", f"{len(names)} in float, since {reason}:")
        yield items(names[:MOST_LAYERS], "names")
    ranked = check.get("sensitivity") if isinstance(check, dict) else None
    if isinstance(ranked, list):
        rows = [(str(pair[0]), f"{number(pair[1]):.3g}") for pair in ranked[:MOST_SENSITIVE] if isinstance(pair, list)]
        yield table(("layer", "error alone"), rows, kinds="tn", caption="the most sensitive layers")
    yield from _layer_errors(details.get("layer_errors"))


def _layer_errors(found: JsonValue) -> Iterator[Child]:
    """How far the outputs of layers move, those that move most in INT8."""
    rows = [
        (str(row[0]), *("-" if share is None else f"{number(share):.2%}" for share in row[1:]))
        for row in (found if isinstance(found, list) else [])
        if isinstance(row, list) and len(row) == 3
    ]
    if rows:
        head = ("layer", "INT8", "INT4 weights")
        caption = "how far each layer's output moves, by itself, as a share of the output"
        yield table(head, rows[:MOST_SENSITIVE], kinds="tnn", caption=caption)
        if len(rows) > MOST_SENSITIVE:
            yield note(f"{len(rows) - MOST_SENSITIVE} further layers, which move less, are in report.json.")


SHOWN = {"prune": _prune, "distill": _distill, "optimize": _optimize, "quantize": _quantize}


def _graphs(report: Report) -> Iterator[Child]:
    """Weights by type, and operators before and after."""
    before = {graph.component: graph for graph in report.graphs_before}
    several = len(report.graphs_after) > 1
    for graph in report.graphs_after:
        suffix = f" of {graph.component}" if several else ""
        yield element("h3", f"Precision{suffix}")
        yield _weights(before.get(graph.component), graph)
        yield element("h3", f"Operators{suffix}")
        yield _operators(before.get(graph.component), graph)


def _weights(before: Graph | None, after: Graph) -> Html:
    old = before.weight_bytes if before else {}
    total = sum(after.weight_bytes.values()) or 1
    rows = [
        (
            kind,
            figures.megabytes(old[kind]) if kind in old else "-",
            figures.megabytes(size) if size else "-",
            f"{size / total:.1%}",
            share_bar(size / total, f"{kind}: {size / total:.1%} of the result's weight bytes"),
        )
        for kind, size in {**dict.fromkeys(old, 0), **after.weight_bytes}.items()
    ]
    head = ("type", "original MB", "result MB", "share", "")
    return table(head, rows, kinds="tnnnb", caption="bytes of the weights by type")


def _operators(before: Graph | None, after: Graph) -> Html:
    old = before.operators if before else {}
    names = sorted(
        {**old, **after.operators}, key=lambda name: (-max(old.get(name, 0), after.operators.get(name, 0)), name)
    )
    rows: list[tuple[Child, ...]] = []
    for name in names:
        counts = old.get(name, 0), after.operators.get(name, 0)
        change = minus(f"{counts[1] - counts[0]:+d}") if counts[0] != counts[1] else ""
        rows.append((name, *(str(count) if count else "-" for count in counts), change))
    total = sum(old.values()), sum(after.operators.values())
    rows.append(
        (
            element("strong", "all"),
            *(element("strong", str(count)) for count in total),
            minus(f"{total[1] - total[0]:+d}"),
        )
    )
    return table(
        ("operator", "original", "result", "change"),
        rows,
        kinds="tnnn",
        caption="nodes of each kind, in the export of the original and in the result",
    )


def _count(value: float) -> str:
    """A large number in words of thousands."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{value / size:.1f} {word}"
    return f"{value:g}"


def _plain(value: JsonValue) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
