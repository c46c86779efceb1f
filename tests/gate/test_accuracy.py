from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.gate.accuracy import accuracy_metric, compare_accuracy, mcnemar, tango
from edgekit.gate.margins import Margins, parse_margins
from edgekit.gate.record import Accuracy
from edgekit.measure.quality import Outputs
from edgekit.tasks.base import Task
from edgekit.tasks.metrics import accuracy

N = 500


class Scored:
    """As much of a task as comparing needs: accuracy."""

    def metric_for(self, labels: Any) -> str:
        del labels
        return "accuracy"

    def score(self, logits: Any, labels: Any) -> float:
        return accuracy(logits, labels)

    def sample_scores(self, logits: Any, labels: Any) -> None:
        del logits, labels

    def class_scores(self, logits: Any) -> Any:
        return logits


TASK = cast("Task", Scored())


def outputs(right: npt.NDArray[np.bool_]) -> Outputs:
    """Logits of two classes; the labels are all 1."""
    logits = np.where(right[:, None], [0.0, 1.0], [1.0, 0.0]).astype(np.float32)
    return Outputs(logits, np.ones(len(right), np.int64))


def compared(lost: int, gained: int) -> Accuracy:
    """Of 500 samples of which the baseline answers 450 right, so many are lost and so many gained."""
    before = np.arange(N) < 450
    after = before.copy()
    after[:lost] = False
    after[450 : 450 + gained] = True
    return compare_accuracy(outputs(after), outputs(before), TASK, "validation")


def test_a_model_that_answers_no_numbers_is_a_regression() -> None:
    """The largest of nothing is the first class, which is right for most samples of some data."""
    labels = np.zeros(N, np.int64)
    before = Outputs(np.tile(np.float32([1.0, 0.0]), (N, 1)), labels)
    after = Outputs(np.full((N, 2), np.nan, np.float32), labels)
    found = compare_accuracy(after, before, TASK, "validation")
    assert (found.candidate, found.lost, found.gained) == (0.0, N, 0)
    assert accuracy_metric(found, parse_margins("accuracy=-0.5pp")).verdict == "regression"


@pytest.mark.parametrize(("lost", "gained"), [(1, 0), (3, 2), (11, 10)])
def test_a_fifth_of_a_point_on_500_samples_is_inconclusive(lost: int, gained: int) -> None:
    found = compared(lost, gained)
    assert found.delta == pytest.approx(-0.002)
    metric = accuracy_metric(found, parse_margins("accuracy=-0.5pp"))
    assert (metric.verdict, metric.reason) == ("inconclusive", "the margin lies within the interval")
    assert (found.lost, found.gained) == (lost, gained)


@pytest.mark.parametrize(("lost", "gained"), [(15, 0), (20, 5), (24, 9)])
def test_three_points_on_500_samples_are_a_regression(lost: int, gained: int) -> None:
    found = compared(lost, gained)
    assert found.delta == pytest.approx(-0.03)
    assert accuracy_metric(found, parse_margins("accuracy=-0.5pp")).verdict == "regression"
    assert found.p_value is not None
    assert found.p_value < 0.05


def test_the_same_answers_pass_and_better_ones_are_an_improvement() -> None:
    assert accuracy_metric(compared(0, 0), parse_margins("accuracy=-0.5pp")).verdict == "pass"
    assert accuracy_metric(compared(0, 20), parse_margins("accuracy=-0.5pp")).verdict == "improvement"
    assert accuracy_metric(compared(0, 20), Margins({})).verdict is None


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(0, 0, 1.0), (1, 0, 1.0), (6, 0, 2 / 64), (0, 6, 2 / 64), (5, 5, 1.0), (8, 2, 112 / 1024)]
)
def test_mcnemars_test_is_a_binomial_one(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p)


def likeliest(more: int, fewer: int, n: int, difference: float) -> float:
    """The likeliest share of ``fewer`` where that of ``more`` is larger by a difference, found by trying."""
    shares = np.linspace(max(0.0, -difference), (1 - difference) / 2, 400_001)[1:-1]
    said = more * np.log(shares + difference) + fewer * np.log(shares)
    return float(shares[np.argmax(said + (n - more - fewer) * np.log(1 - 2 * shares - difference))])


@pytest.mark.parametrize(("lost", "gained", "n"), [(24, 9, 500), (3, 2, 60), (9, 40, 300), (4, 1, 10)])
def test_tangos_interval_ends_where_the_score_test_rejects(lost: int, gained: int, n: int) -> None:
    low, high = tango(lost, gained, n)
    assert low < (gained - lost) / n < high
    for more, fewer, end in ((lost, gained, -low), (gained, lost, high)):
        share = likeliest(more, fewer, n, end)
        deviation = np.sqrt(n * (2 * share + end * (1 - end)))
        assert (more - fewer - n * end) / deviation == pytest.approx(-1.95996, abs=2e-3)
    assert tango(gained, lost, n) == pytest.approx((-high, -low))


def test_of_no_sample_that_changed_the_interval_is_that_of_none() -> None:
    z2 = 1.95996**2
    for n in (1, 10, 500, 872):
        assert tango(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-4)


def test_tangos_interval_has_the_truth_as_often_as_its_level_says() -> None:
    draw, missed = np.random.default_rng(0), 0
    for lost, gained, _ in draw.multinomial(300, (0.05, 0.03, 0.92), size=1000).tolist():
        low, high = tango(lost, gained, 300)
        missed += not low <= -0.02 <= high
    assert missed <= 70  # 50 are expected; more than 70 have a probability of a fifth of a percent


def verdict_of(after: list[bool], before: list[bool], *, shifted: float = 0.0) -> tuple[str | None, str]:
    """The verdict at half a point on what two models answer right; ``shifted`` moves all numbers of the candidate."""
    candidate, baseline = outputs(np.array(after)), outputs(np.array(before))
    candidate = Outputs(candidate.logits + np.float32(shifted), candidate.labels)
    found = accuracy_metric(compare_accuracy(candidate, baseline, TASK, "test"), parse_margins("accuracy=-0.5pp"))
    return found.verdict, found.reason


def test_few_samples_tell_little() -> None:
    reason = "McNemar's exact test does not tell the two apart (p = 0.125)"
    assert verdict_of([False] * 4 + [True] * 6, [True] * 10) == ("inconclusive", reason)
    assert verdict_of([False] * 8 + [True] * 2, [True] * 10)[0] == "regression"
    assert verdict_of([True], [True]) == ("inconclusive", "1 samples were answered, and a verdict takes 30")
    assert verdict_of([True] * 30, [True] * 30) == ("pass", "")


def test_the_same_classes_of_other_numbers_pass_where_the_samples_are_enough() -> None:
    assert verdict_of([True] * 500, [True] * 500, shifted=1.0)[0] == "inconclusive"
    assert verdict_of([True] * 872, [True] * 872, shifted=1.0) == ("pass", "")
    found = compared(0, 0)
    assert (found.identical, found.delta_ci) == (True, (0.0, 0.0))


class Regression(Scored):
    """As much of a task as comparing needs: a metric of numbers."""

    def metric_for(self, labels: Any) -> str:
        del labels
        return "closeness"

    def score(self, logits: Any, labels: Any) -> float:
        return float(1 - np.abs(logits[:, 0] - labels).mean())


def test_other_metrics_are_resampled_and_take_samples_too() -> None:
    draw = np.random.default_rng(0)
    task = cast("Task", Regression())

    def compare(n: int, worse: float, noise: float) -> tuple[Accuracy, str | None]:
        labels = draw.uniform(0, 1, n)
        before = labels + draw.normal(0, 0.05, n)
        after = before + np.sign(before - labels) * (worse + draw.uniform(0, noise, n))
        sides = (Outputs(values[:, None], labels) for values in (after, before))
        found = compare_accuracy(*sides, task, "test")
        return found, accuracy_metric(found, parse_margins("accuracy=-0.5pp")).verdict

    found, verdict = compare(200, 0.05, 0.02)
    assert (found.lost, found.p_value, verdict) == (None, None, "regression")
    assert found.delta_ci is not None
    assert found.delta == pytest.approx(-0.06, abs=0.005)
    assert found.delta_ci[0] < -0.06 < found.delta_ci[1]
    assert compare(20, 0.05, 0.02)[1] == "inconclusive"
    same, verdict = compare(200, 0.0, 0.0)
    assert (same.identical, verdict) == (True, "pass")
    blind = cast("Task", type("Blind", (Regression,), {"score": lambda *_: 0.5})())
    sides = (Outputs(draw.uniform(0, 1, (200, 1)), np.zeros(200)) for _ in range(2))
    assert compare_accuracy(*sides, blind, "test").delta_ci == pytest.approx(tango(0, 0, 200))


def test_alone_there_is_a_value_and_nothing_to_compare() -> None:
    right = np.arange(N) < 450
    alone = outputs(right)
    found = compare_accuracy(alone, None, TASK, "validation")
    assert (found.candidate, found.baseline, found.delta_ci, found.n) == (0.9, None, None, N)
    assert accuracy_metric(found, parse_margins("accuracy=1pp")).verdict is None
