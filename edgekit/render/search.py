"""A search in words: what each trial was, what it gave, what became of it, on a terminal, a page and a card."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.render import figures
from edgekit.render.parts import DOUBT, FAINT, GOOD, STRONG, make_table
from edgekit.trials import MEASURING, Objective, SearchRecord, TrialRecord

KINDS = {
    "quantized": "quantized",
    "pace": "steps timed",
    "costs": "costs measured",
    "timing": "shape timed",
    "proxy": "trained briefly",
    "full": "trained",
    "extra": "made smaller",
}
UNITS: dict[Objective, str] = {"latency": "ms", "size": "MB", "instructions": "M instr.", "energy": "uJ"}
# How what stays is chosen where nothing is said: the default of prune.importance.
USUAL = "taylor"


def search_view(search: SearchRecord) -> RenderableType:
    """The short table of a terminal, and how the search ended."""
    cost = UNITS[search.objective]
    right = ("", cost, "selection", "evaluation")
    table = make_table("", "trial", cost, "selection", "evaluation", "outcome", right=right, unbroken=("", *right[1:]))
    for trial in search.trials:
        if trial.kind in MEASURING:  # on a page they are, and not in the short table
            continue
        chosen = trial.number == search.chosen
        style = STRONG if chosen else "" if trial.pareto else FAINT
        cells = (str(trial.number), what(trial), cost_text(trial, search.objective), *losses(trial, search.metric))
        outcome = Text(outcome_text(trial), style=(DOUBT if search.nearest else GOOD) if chosen else style)
        table.add_row(*(Text(cell, style=style) for cell in cells), outcome)
    return Group(table, *(Text(line, style=FAINT) for line in search_lines(search)))


def what(trial: TrialRecord) -> str:
    """What a trial was: ``30% of the multiply-accumulates in 4 layers, 4200 steps``."""
    return ", ".join(_parts(trial)) or "no training"


def _parts(trial: TrialRecord) -> Iterator[str]:
    if trial.kind == "costs":
        yield "what heads and neurons cost, by their number"
        return
    if trial.kept is not None and trial.kept < 1:
        layers = f" in {trial.layers} layers" if trial.layers else ""
        ways = {str(table.get("importance", USUAL)) for table in trial.stages if table.get("stage") == "prune"}
        chosen = "".join(f" by {way}" for way in sorted(ways - {USUAL}))
        yield f"{trial.kept:.0%} of the {trial.share_of}{layers}{chosen}"
    if trial.steps:
        yield f"{trial.steps} steps" + (f" from trial {trial.parent}" if trial.parent is not None else "")
    names = [str(table.get("stage")) for table in trial.stages]
    if "vocabulary" in names:
        yield "unused tokens out"
    if "quantize" not in names:
        yield "not quantized"
    for table in trial.stages:
        if table.get("stage") == "quantize":
            yield from (f"{key} {table[key]}" for key in ("method", "embeddings", "float_share") if key in table)


def cost_text(trial: TrialRecord, objective: Objective) -> str:
    """What a trial costs, without the unit."""
    cost = trial.cost(objective)
    if objective == "latency":
        return figures.milliseconds(cost)
    if objective == "size":
        return "-" if cost is None else figures.megabytes(cost)
    if objective == "energy":
        return "-" if cost is None else f"{cost:.0f}"
    return figures.millions(cost)


def losses(trial: TrialRecord, metric: str) -> tuple[str, str]:
    """The change of the metric on the selection split, and on the evaluation split."""
    found = [None if drop is None else -drop for drop in (trial.selection_drop, trial.drop)]
    selection, evaluation = (figures.quality_change(metric, change) or "-" for change in found)
    return selection, evaluation


def outcome_text(trial: TrialRecord) -> str:
    """What became of a trial, and why."""
    return f"{trial.state}: {trial.reason}" if trial.reason else trial.state


def search_lines(search: SearchRecord) -> list[str]:
    """How long it took, how often the evaluation split was looked at, why it ended."""
    attempts = f" in {search.attempts} attempts" if search.attempts > 1 else ""
    looks = "never" if not search.looks else "once" if search.looks == 1 else f"{search.looks} times"
    lines = [
        f"{len(search.trials)} trials, {figures.duration(search.spent)} of {figures.duration(search.seconds)}"
        f"{attempts}; the evaluation split was looked at {looks}"
    ]
    lines += [
        f"costs of heads and neurons could not be measured, so that shapes went by multiply-accumulates: {trial.reason}"
        for trial in search.trials
        if trial.kind == "costs" and trial.state == "failed"
    ]
    if search.ended:
        lines.append(f"it ended because {search.ended}")
    if search.nearest:
        lines.append(f"no trial keeps every limit; trial {search.chosen} is the nearest")
    return lines


def search_sentence(search: SearchRecord) -> str:
    """The search in a line, for a card."""
    front = sum(trial.pareto for trial in search.trials)
    chosen = what(search.trials[search.chosen]) if search.trials else "no trial"
    aim = "the best within the limits" if search.fill else f"least {search.objective} within the limits"
    return (
        f"found by a search for {aim}: {len(search.trials)} trials, {front} of them unbeaten; chosen was trial"
        f" {search.chosen}, {chosen}" + (", the nearest to limits that none keeps" if search.nearest else "")
    )
