"""Whether a candidate answers worse than the baseline: the same samples, answered by both.

Where a sample is right or wrong, the interval of the difference is Tango's (1998, Equivalence test and confidence
interval for the difference in proportions for the paired-sample design, Statistics in Medicine 17): the differences
that a score test does not reject. It has a width also where no sample was answered differently: of 500 such ones, up
to 0.8 points may have been lost. It is an approximation for many samples; so a regression or an improvement takes
McNemar's exact test as well (McNemar 1947, Psychometrika 12; exact: a binomial test of the samples that only one side
answers right). For every other metric it is the paired bootstrap over samples, stretched as in ``statistics``.

Two models that give the same numbers for every sample are the same to these samples: the difference is nothing, and no
interval is put around it. That, and the bootstrap, take ``FEWEST_SAMPLES``.

The level is 95 %: each end is a one-sided bound at 97.5 %. A wider one would call three points on 500 samples unknown,
a narrower one a fifth of a point a loss.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from edgekit.gate.figures import UNCLEAR
from edgekit.gate.margins import Margins
from edgekit.gate.record import Accuracy, Metric
from edgekit.gate.statistics import FEWEST_STRETCHED, stretch
from edgekit.gate.verdict import judge
from edgekit.measure.quality import Outputs, drop_of_some, no_classes_because
from edgekit.measure.statistics import paired_bootstrap
from edgekit.tasks.base import Array, Task

LEVEL = 0.95
# The metric whose samples are right or wrong, by its name in the tasks.
SHARE_OF_RIGHT = "accuracy"
# Of fewer a percentile interval is too narrow by more than a stretch mends (Hesterberg 2015, 3.2 and 4.2).
FEWEST_SAMPLES = 30
# Of more, Student's quantile is the normal one to a part in a thousand.
MOST_STRETCHED = 1000


def mcnemar(lost: int, gained: int) -> float:
    """The two-sided p-value of McNemar's exact test.

    Args:
        lost: samples that only the baseline answers right.
        gained: samples that only the candidate answers right.
    """
    n, ways, tail = lost + gained, 1, 1
    for k in range(min(lost, gained)):
        ways = ways * (n - k) // (k + 1)  # of k + 1 among n, from those of k: each anew takes seconds for thousands
        tail += ways
    return min(1.0, 2 * (tail / (1 << n)))


def tango(lost: int, gained: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the share of samples that are gained, less that of those that are lost.

    Args:
        lost: samples that only the baseline answers right.
        gained: samples that only the candidate answers right.
        n: samples, at least one.
        level: of the two-sided interval.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)

    def most(more: int, fewer: int) -> float:
        """The largest difference, more over fewer, that is not rejected; by bisection."""
        low, high = (more - fewer) / n, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tango_score(more, fewer, n, middle) > -z else (low, middle)
        return high

    return -most(lost, gained), most(gained, lost)


def tango_score(more: int, fewer: int, n: int, difference: float) -> float:
    """Tango's statistic, normal for many samples where the share of ``more`` is that of ``fewer`` and a difference."""
    b = (2 * n - more + fewer) * difference - more - fewer
    c = -fewer * difference * (1 - difference)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # the likeliest share of ``fewer``
    variance = n * (2 * share + difference * (1 - difference))
    distance = more - fewer - n * difference
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def compare_accuracy(candidate: Outputs, baseline: Outputs | None, task: Task, split: str) -> Accuracy:
    """The metric of both sides on the same labelled samples; of the candidate alone where there is no baseline.

    Args:
        candidate: logits [samples, ...], and labels.
        baseline: logits of the same samples.
        task: scores them.
        split: which samples they are.
    """
    labels = candidate.labels
    assert labels is not None  # it was seen before anything was answered
    score, metric = task.score(candidate.logits, labels), task.metric_for(labels)
    alone = Accuracy(metric=metric, candidate=score, n=len(labels), split=split)
    if baseline is None:
        return alone
    before, identical = task.score(baseline.logits, labels), _are_identical(candidate, baseline)
    changes = _discordant(candidate, baseline, labels, task)
    if identical:
        ends = (0.0, 0.0)
    elif changes is not None and metric == SHARE_OF_RIGHT:
        ends = tango(*changes, len(labels))
    else:
        ends = _bootstrap(candidate, baseline, labels, task)
    tested = {} if changes is None else {"lost": changes[0], "gained": changes[1], "p_value": mcnemar(*changes)}
    compared = {"baseline": before, "delta": score - before, "delta_ci": ends, "level": LEVEL, "identical": identical}
    return alone.model_copy(update={**compared, **tested})


def _are_identical(candidate: Outputs, baseline: Outputs) -> bool:
    """Whether both gave the same numbers for every sample."""
    import numpy as np

    return np.array_equal(candidate.logits, baseline.logits)


def _discordant(candidate: Outputs, baseline: Outputs, labels: Array, task: Task) -> tuple[int, int] | None:
    """Samples that only the baseline and that only the candidate answers right; None where none is right or wrong."""
    from edgekit.tasks.metrics import best_class

    ours, theirs = (task.class_scores(outputs.logits) for outputs in (candidate, baseline))
    if no_classes_because(ours, labels):
        return None
    right, was_right = (best_class(scores) == labels for scores in (ours, theirs))
    return int((was_right & ~right).sum()), int((right & ~was_right).sum())


def _bootstrap(candidate: Outputs, baseline: Outputs, labels: Array, task: Task) -> tuple[float, float]:
    """The interval of candidate less baseline by resampled samples.

    Where the metric is the same on all resamples, what it does not see may still differ in as many other samples as
    Tango's interval of none has it, each by the whole scale of the metric, which is 1.
    """
    n = len(labels)
    if n < FEWEST_STRETCHED:
        return -1.0, 1.0
    drop = paired_bootstrap(drop_of_some(baseline, candidate, labels, task), n, level=LEVEL)
    if drop.low == drop.high == 0:
        return tango(0, 0, n)
    value = task.score(candidate.logits, labels) - task.score(baseline.logits, labels)
    by = stretch(min(n, MOST_STRETCHED), LEVEL, LEVEL)
    return min(value, value - by * (value + drop.high)), max(value, value + by * (-drop.low - value))


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
    doubt = UNCLEAR if verdict == "inconclusive" else _doubt(found, changed=verdict != "pass")
    return metric.model_copy(
        update={"margin": margin, "verdict": "inconclusive" if doubt else verdict, "reason": doubt}
    )


def _doubt(found: Accuracy, *, changed: bool) -> str:
    """Why an interval that is clear of the margin tells nothing all the same; empty where it does."""
    if found.metric == SHARE_OF_RIGHT and found.p_value is not None and not found.identical:
        unsure = changed and found.p_value >= 1 - LEVEL
        return f"McNemar's exact test does not tell the two apart (p = {found.p_value:.3g})" if unsure else ""
    few = found.n < FEWEST_SAMPLES
    return f"{found.n} samples were answered, and a verdict takes {FEWEST_SAMPLES}" if few else ""
