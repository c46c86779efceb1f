"""What became of each trial, in words, and the record of the whole search."""

from __future__ import annotations

from edgekit.search.standing import LOOKED, Standing, pareto, points_of, waits
from edgekit.trials import TrialRecord


def settle(now: Standing) -> tuple[TrialRecord, ...]:
    """Every trial with its state, the reason for it, and whether it is on the Pareto front."""
    front = pareto(now.trials, now.search)
    return tuple(
        trial
        if trial.state in ("failed", "timed")
        else trial.model_copy(update={"pareto": trial.number in front} | _settled(trial, now, front))
        for trial in now.trials
    )


def _settled(trial: TrialRecord, now: Standing, front: set[int]) -> dict[str, str]:
    if now.best is not None and trial.number == now.best.number:
        missed = _missed(trial, now)
        return {"state": "kept", "reason": f"nearest to the limits: {missed}" if missed else "the result"}
    missed = _missed(trial, now) if trial.kind in LOOKED else ""
    if missed:
        return {"state": "failed", "reason": missed}
    if now.best is not None and waits(trial) and trial.kind != "extra" and now.rank(trial) < now.rank(now.best):
        return {"state": "kept", "reason": "might be the result, and was not looked at on the evaluation split"}
    if trial.number in front:
        return {"state": "kept", "reason": "nothing is cheaper and better"}
    better = _better(trial, now)
    return {"state": "dominated", "reason": f"trial {better} is as cheap and as good" if better is not None else ""}


def _missed(trial: TrialRecord, now: Standing) -> str:
    """The limits that a trial does not keep."""
    parts = []
    expected, bound = now.expected_drop(trial), now.limits.max_drop
    if now.loses(trial) and expected is not None and bound is not None:
        seen = "loses" if trial.drop is not None else "would lose about"
        parts.append(f"{seen} {expected * 100:.2f} points, {bound * 100:.2f} allowed")
    if now.pressure(trial) > 1:
        parts.append(f"costs {now.pressure(trial):.2f} of what is allowed")
    return ", ".join(parts)


def _better(trial: TrialRecord, now: Standing) -> int | None:
    """The number of a trial that costs no more and loses no more."""
    points = points_of(now.trials, now.search)
    mine = points.pop(trial.number, None)
    if mine is None:
        return None
    return next((number for number, (cost, loss) in points.items() if cost <= mine[0] and loss <= mine[1]), None)
