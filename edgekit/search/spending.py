"""A budget that the quantized model does not use up is spent on accuracy: layers that INT8 moves most stay in float.

How many is found by timing: cost grows with the share of layers in float, and is taken as linear between two shares.
Where the result costs more than its share did, since further layers of it fell back, a smaller share is tried once.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.search.space import FLOAT_SHARE
from edgekit.search.standing import AIM, WINDOW, Standing
from edgekit.trials import TrialRecord

# The first share that is timed, the most that are, and how near two of them come.
FIRST, MOST, NEAREST = 0.5, 7, 1 / 64


@dataclass(frozen=True)
class Share:
    """A share of layers in float.

    Attributes:
        share: of the layers that multiply.
        wanted: whether it is the one for the result, and not only to be timed.
    """

    share: float
    wanted: bool


def next_share(now: Standing) -> Share | None:
    """The next share to try; None where the budget is used up, or everything was tried.

    Args:
        now: how the trials stand; the first keeps every limit.
    """
    made = [trial for trial in now.trials if trial.kind == "quantized" and share_of(trial)]
    if now.pressure(now.trials[0]) >= WINDOW[0] or len(made) > 1 or any(now.pressure(trial) <= 1 for trial in made):
        return None
    timed = [trial for trial in now.trials if trial.kind == "timing" and share_of(trial)]
    if any(trial.state == "failed" for trial in timed + made):
        return None
    known = {share_of(trial): now.pressure(trial) for trial in timed}
    # what the first result costs beyond its share: further layers of it fell back
    more = max((now.pressure(trial) / known[share_of(trial)] for trial in made), default=1.0)
    known = {0.0: now.pressure(now.trials[0])} | {share: more * cost for share, cost in known.items()}
    fit = [share for share, cost in known.items() if WINDOW[0] <= cost <= WINDOW[1]]
    if fit:
        return Share(min(fit, key=lambda share: abs(known[share] - AIM)), wanted=True)
    below = max(share for share, cost in known.items() if cost < WINDOW[0])
    above = min((share for share, cost in known.items() if cost > WINDOW[1]), default=None)
    if len(timed) >= MOST or below == 1 or (above is not None and above - below < NEAREST):
        return Share(below, wanted=True) if below else None
    return Share(round(_between(known, below, above), 4), wanted=False)


def _between(known: dict[float, float], below: float, above: float | None) -> float:
    """The share that costs what is aimed at, on the line through two shares; well between them."""
    if above is None:
        if not below:
            return FIRST
        slope = (known[below] - known[0.0]) / below
        return min(1.0, max(below + (1 - below) / 4, below + (AIM - known[below]) / slope if slope > 0 else 1.0))
    gap = above - below
    found = below + gap * (AIM - known[below]) / (known[above] - known[below])
    return min(above - gap / 8, max(below + gap / 8, found))


def share_of(trial: TrialRecord) -> float:
    """The share of layers that a trial leaves in float."""
    found = [table.get(FLOAT_SHARE) for table in trial.stages if table.get("stage") == "quantize"]
    return float(found[0]) if found and isinstance(found[0], (int, float)) else 0.0
