"""What it cost: the metric with its interval, what changed class by class, the confusion before and after."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.render import figures, wording
from edgekit.render.html.charts import INTERVAL, Axis, axis_row, box, figure, percent, share_bar, upright, words
from edgekit.render.html.markup import Child, Html, element, facts, join, minus, note, section, table
from edgekit.report import Classes, Quality, Report

# Confusions up to this size stand open, with the change in each cell; larger ones are folded.
SMALL = 12
BESIDE = 5  # and up to this size they stand beside each other
SHADES = 9
LARGEST_MOVES = 10

Matrix = tuple[tuple[int, ...], ...]


def cost(report: Report) -> Html:
    """The section."""
    quality = report.quality
    if quality is None:
        why = "The metric was not measured, since there was no labelled data. What was lost is not known."
        return section("cost", "What it cost", element("p", why))
    names = report.artifact.manifest.labels
    runtime = wording.runtime_name(report.artifact.manifest.runtime or report.runtime)
    return section(
        "cost",
        "What it cost",
        _interval(report, quality),
        _facts(quality),
        *_classes(quality, names),
        lead=(
            f"{_original(report)} and the result in {runtime}, on the same {quality.n}"
            f" samples: {quality.split}.{_AGAINST if quality.against == 'original' else ''}"
        ),
    )


_AGAINST = " The data has no labels: the answers are compared with the original's."


def _original(report: Report) -> str:
    return "The original" if report.source.get("kind") == "onnx" else "The original in torch"


def label(names: Sequence[str], index: int) -> str:
    """A class by its name, or by its number where it has none."""
    return names[index] if index < len(names) else f"class {index}"


def _interval(report: Report, quality: Quality) -> Html:
    """The change of the metric, its interval, and the limit."""
    metric = quality.metric
    bound = next((limit.bound for limit in report.limits if limit.limit == wording.MAX_DROP), None)
    ends = [-quality.drop_high, -quality.drop_low, -quality.drop, 0.0, *([-bound] if bound is not None else [])]
    spread = max(ends) - min(ends) or 0.01
    axis = Axis(min(ends) - spread * 0.12, max(ends) + spread * 0.12)
    low, high, middle = (axis.at(-value) for value in (quality.drop_high, quality.drop_low, quality.drop))
    shapes = [
        upright(axis.at(0), 30, INTERVAL, "zero"),
        words(axis.at(0), 26, "no change", anchor="start" if axis.at(0) < 50 else "end"),
        box(low, high, "range", y=42, height=12),
        upright(low, 40, 56, "range-end"),
        upright(high, 40, 56, "range-end"),
        element("circle", cx=percent(middle), cy=48.0, r=5.0, class_="spot"),
    ]
    if bound is not None:
        at = axis.at(-bound)
        shapes += [
            upright(at, 14, INTERVAL, "limit"),
            words(
                at, 10, f"limit {minus(figures.quality_change(metric, -bound))}", anchor="end" if at > 50 else "start"
            ),
        ]
    said = minus(wording.interval(quality))
    return element(
        "figure",
        figure(f"change of {metric}", said, *shapes, height=INTERVAL, class_="interval"),
        axis_row(axis, lambda value: minus(figures.quality_change(metric, value)), f"the change of {metric}"),
        element(
            "figcaption",
            f"Change of {metric.replace('_', ' ')}: ",
            element("strong", said.partition(" (")[0]),
            f". The bar is the 90% interval of the paired bootstrap, {said.partition('90%: ')[2].removesuffix(')')};"
            " each of its ends is a one-sided 95% bound.",
        ),
        class_="wide",
    )


def _facts(quality: Quality) -> Html:
    metric, largest = quality.metric, quality.largest_difference
    pairs: list[tuple[Child, Child]] = [
        (f"{metric.replace('_', ' ')}, original", figures.quality(metric, quality.before)),
        (f"{metric.replace('_', ' ')}, result", figures.quality(metric, quality.after)),
        ("samples", str(quality.n)),
    ]
    if quality.flips is not None:
        share = f" ({quality.flips / quality.n:.1%})" if quality.n else ""
        pairs.append(("predictions that changed", f"{quality.flips}{share}"))
    pairs += [
        ("mean cosine of the logits", f"{quality.cosine:.4f}"),
        *([] if largest is None else [("largest difference, of the largest value", f"{largest:.1%}")]),
        ("decisions by these samples", str(quality.looks)),
    ]
    return facts(pairs)


def _classes(quality: Quality, names: Sequence[str]) -> list[Child]:
    classes = quality.classes
    if classes is None:
        why = quality.no_classes_because or "this report was written before edgekit kept them"
        return [note(f"No table by class and no confusion: {why}.")]
    parts: list[Child] = [element("h3", "By class"), _by_class(classes, names)]
    if not classes.confusion_before:
        what = (
            f"The model has {classes.count} classes: the {len(classes.changes)} with the most changed predictions are"
            " shown, and no confusion."
        )
        return [*parts, note(what)]
    return [*parts, element("h3", "Confusion"), *_confusions(classes, names)]


def _by_class(classes: Classes, names: Sequence[str]) -> Html:
    rows: list[tuple[Child, ...]] = []
    most = max((change.flips for change in classes.changes), default=0) or 1
    for change in classes.changes:
        name = label(names, change.index)
        right = [f"{part / change.n:.1%}" if change.n else "-" for part in (change.right_before, change.right_after)]
        moved = figures.signed((change.right_after - change.right_before) / change.n * 100, 1) if change.n else ""
        bar = share_bar(change.flips / most, f"{name}: {change.flips} predictions changed", "flips")
        rows.append((name, str(change.n), *right, minus(moved), str(change.flips), bar))
    head = ("label", "samples", "right before", "right after", "points", "changed", "")
    return table(
        head,
        rows,
        kinds="tnnnnnb",
        caption="samples of each label: right answers and changed predictions",
        class_="by-class",
    )


def _confusions(classes: Classes, names: Sequence[str]) -> list[Child]:
    before, after = classes.confusion_before, classes.confusion_after
    lead = "Rows: the label. Columns: what was answered. A cell is darker the larger its share of the row."
    if classes.count <= SMALL:
        both = element(
            "div",
            _confusion(before, names, "original"),
            _confusion(after, names, "result", since=before),
            class_="two" if classes.count <= BESIDE else None,
        )
        return [note(f"{lead} Below the result's counts, how they changed."), both]
    folded = element(
        "details",
        element("summary", f"Both confusions, {classes.count} classes"),
        _confusion(before, names, "original"),
        _confusion(after, names, "result"),
    )
    return [note(lead), _moves(before, after, names), folded]


def _confusion(cells: Matrix, names: Sequence[str], title: str, *, since: Matrix | None = None) -> Html:
    """One confusion; columns are numbered where their names would not fit."""
    count = len(cells)
    short = count <= 4 and all(len(label(names, index)) <= 10 for index in range(count))
    head = [label(names, index) if short else str(index) for index in range(count)]
    rows = []
    for index, row in enumerate(cells):
        total = sum(row) or 1
        name = label(names, index) if short or label(names, index) == str(index) else f"{index} {label(names, index)}"
        tds = []
        for column, value in enumerate(row):
            shade = f"h{round(value / total * SHADES)}" + (" right" if index == column else "")
            change = value - since[index][column] if since is not None else 0
            delta = element("small", minus(f" {change:+d}")) if change else None
            tds.append(element("td", str(value), delta, class_=shade))
        rows.append(element("tr", element("th", name, scope="row"), *tds))
    header = element("tr", element("th", "label", scope="col"), *(element("th", name, scope="col") for name in head))
    return element(
        "div",
        element(
            "table",
            element("caption", title.capitalize()),
            element("thead", header),
            element("tbody", *rows),
            class_="confusion" if count <= SMALL else "confusion dense",
        ),
        class_="scroll",
        role="region",
        tabindex="0",
        aria_label=f"confusion, {title}",
    )


def _moves(before: Matrix, after: Matrix, names: Sequence[str]) -> Html:
    """The mistakes whose number changed most."""
    moves = [
        (after[row][column] - before[row][column], row, column)
        for row in range(len(before))
        for column in range(len(before))
        if row != column and after[row][column] != before[row][column]
    ]
    moves.sort(key=lambda move: -abs(move[0]))
    rows = [
        (
            label(names, row),
            label(names, column),
            str(before[row][column]),
            str(after[row][column]),
            minus(f"{change:+d}"),
        )
        for change, row, column in moves[:LARGEST_MOVES]
    ]
    if not rows:
        return note("No kind of mistake became more or less frequent.")
    head = ("label", "taken for", "before", "after", "change")
    return join(
        (
            element("h4", "Mistakes that changed most in number"),
            table(head, rows, kinds="ttnnn", caption="mistakes that changed most in number"),
        )
    )
