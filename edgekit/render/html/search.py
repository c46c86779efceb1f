"""What a search tried: loss against cost as a chart with its Pareto front, and every trial in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.render import figures
from edgekit.render.html.markup import Child, Html, element, minus, note, section, table
from edgekit.render.html.scatter import Scale, Spot, scatter
from edgekit.render.search import KINDS, UNITS, cost_text, losses, outcome_text, search_lines, what
from edgekit.report import Report
from edgekit.search.standing import compared_on
from edgekit.trials import SearchRecord, TrialRecord

NAMES = {"latency": "latency p50", "size": "size", "instructions": "instructions", "energy": "energy"}


@dataclass(frozen=True)
class _Point:
    """A trial in the chart: cost in the unit that is shown, and the change of the metric."""

    trial: TrialRecord
    cost: float
    change: float


def search(report: Report) -> Html | None:
    """The section; none where no recipe was searched for."""
    found = report.search
    if found is None:
        return None
    points, split = _points(found)
    return section(
        "search",
        "What was tried",
        *(_chart(points, split, found) if points else (note("No two trials can be compared on one split."),)),
        table(
            ("trial", "what", f"{UNITS[found.objective]}", "selection", "evaluation", "outcome"),
            [_row(trial, found) for trial in found.trials],
            kinds="ttnnnt",
            caption="every trial of the search",
        ),
        *(note(f"{line[:1].upper()}{line[1:]}.") for line in search_lines(found)),
        lead=(
            "Each trial is a recipe. The selection split, cut from the training data, ranks them; the evaluation split"
            " decides, and is looked at five times at most."
        ),
    )


def _points(found: SearchRecord) -> tuple[list[_Point], str]:
    """The trials that can be compared, on the split on which they are."""
    scale = 1e6 if found.objective in ("size", "instructions") else 1.0
    able = [(trial, cost / scale) for trial in found.trials if (cost := trial.cost(found.objective)) is not None]
    split, losses = compared_on([trial for trial, _ in able])
    return [_Point(trial, cost, -losses[trial.number]) for trial, cost in able if trial.number in losses], split


def _chart(points: Sequence[_Point], split: str, found: SearchRecord) -> tuple[Html, ...]:
    unit, name = UNITS[found.objective], NAMES[found.objective]
    change = f"change of {found.metric or 'the metric'} on the {split} split"
    return (
        element(
            "figure",
            element("figcaption", element("strong", f"{change[:1].upper()}{change[1:]} against {name}")),
            scatter(
                [_spot(point, found) for point in points],
                (),
                Scale(name, lambda value: f"{value:g} {unit}"),
                Scale(change, lambda value: minus(figures.quality_change(found.metric, value))),
            ),
            note(
                "Up is better, left is cheaper. Full circles on the line are the trials that no other one beats in"
                f" both; trial {found.chosen} was chosen."
            ),
            class_="wide",
        ),
    )


def _spot(point: _Point, found: SearchRecord) -> Spot:
    trial = point.trial
    change = figures.quality_change(found.metric, point.change)
    told = f"{trial.number} {what(trial)}: {change} at {point.cost:.4g} {UNITS[found.objective]}"
    return Spot(str(trial.number), point.cost, point.change, trial.pareto, told)


def _row(trial: TrialRecord, found: SearchRecord) -> tuple[Child, ...]:
    selection, evaluation = losses(trial, found.metric)
    name = f"{trial.number} {KINDS[trial.kind]}"
    outcome = outcome_text(trial) + (" (Pareto)" if trial.pareto else "")
    chosen = trial.number == found.chosen
    return (
        element("strong", name) if chosen else name,
        what(trial),
        cost_text(trial, found.objective),
        minus(selection),
        minus(evaluation),
        minus(outcome),
    )
