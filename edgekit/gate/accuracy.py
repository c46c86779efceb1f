"""Whether a candidate answers worse than the baseline: the same samples, answered by both.

The interval of the difference is the paired bootstrap over samples, which takes any metric. Where a sample is right or
wrong, McNemar's exact test stands beside it (McNemar 1947, Psychometrika 12; exact: a binomial test of the samples that
only one side answers right). The level is 95 %: each end is a one-sided bound at 97.5 %. A wider one would call three
points on 500 samples unknown, a narrower one a fifth of a point a loss.
"""

from __future__ import annotations

import math

from edgekit.gate.figures import UNCLEAR
from edgekit.gate.margins import Margins
from edgekit.gate.record import Accuracy, Metric
from edgekit.gate.verdict import judge
from edgekit.measure.quality import Outputs, drop_of_some, no_classes_because
from edgekit.measure.statistics import paired_bootstrap
from edgekit.tasks.base import Array, Task

LEVEL = 0.95


def mcnemar(lost: int, gained: int) -> float:
    """The two-sided p-value of McNemar's exact test.

    Args:
        lost: samples that only the baseline answers right.
        gained: samples that only the candidate answers right.
    """
    n, fewer = lost + gained, min(lost, gained)
    tail: float = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    return min(1.0, 2 * tail)


def compare_accuracy(candidate: Outputs, baseline: Outputs | None, labels: Array, task: Task, split: str) -> Accuracy:
    """The metric of both sides on the same labelled samples; of the candidate alone where there is no baseline.

    Args:
        candidate: logits [samples, ...].
        baseline: logits of the same samples.
        labels: [samples, ...].
        task: scores them.
        split: which samples they are.
    """
    score = task.score(candidate.logits, labels)
    alone = Accuracy(metric=task.metric_for(labels), candidate=score, n=len(labels), split=split)
    if baseline is None:
        return alone
    drop = paired_bootstrap(drop_of_some(baseline, candidate, labels, task), len(labels), level=LEVEL)
    before = task.score(baseline.logits, labels)
    return alone.model_copy(
        update={
            "baseline": before,
            "delta": score - before,
            "delta_ci": (-drop.high, -drop.low),
            "level": LEVEL,
            **_discordant(candidate, baseline, labels, task),
        }
    )


def _discordant(candidate: Outputs, baseline: Outputs, labels: Array, task: Task) -> dict[str, float]:
    """Samples that only one side answers right, where each is right or wrong, and McNemar's test."""
    ours, theirs = (task.class_scores(outputs.logits) for outputs in (candidate, baseline))
    if no_classes_because(ours, labels):
        return {}
    labelled = labels >= 0
    right, was_right = (scores.argmax(-1)[labelled] == labels[labelled] for scores in (ours, theirs))
    lost, gained = int((was_right & ~right).sum()), int((right & ~was_right).sum())
    return {"lost": lost, "gained": gained, "p_value": mcnemar(lost, gained)}


def accuracy_metric(found: Accuracy, margins: Margins) -> Metric:
    """The same as a metric, with its verdict where it is gated."""
    metric = Metric(
        name="accuracy",
        unit="1",
        direction="higher",
        value=found.candidate,
        n=found.n,
        level=found.level,
        baseline=found.baseline,
        delta=found.delta,
        delta_ci=found.delta_ci,
    )
    margin = margins.get("accuracy")
    if margin is None or found.delta_ci is None:
        return metric
    verdict = judge(*found.delta_ci, margin, "higher")
    reason = UNCLEAR if verdict == "inconclusive" else ""
    return metric.model_copy(update={"margin": margin, "verdict": verdict, "reason": reason})
