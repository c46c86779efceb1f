from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.gate.accuracy import accuracy_metric, compare_accuracy, mcnemar
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
    candidate, baseline = outputs(after), outputs(before)
    assert candidate.labels is not None
    return compare_accuracy(candidate, baseline, candidate.labels, TASK, "validation")


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


def test_alone_there_is_a_value_and_nothing_to_compare() -> None:
    right = np.arange(N) < 450
    alone = outputs(right)
    assert alone.labels is not None
    found = compare_accuracy(alone, None, alone.labels, TASK, "validation")
    assert (found.candidate, found.baseline, found.delta_ci, found.n) == (0.9, None, None, N)
    assert accuracy_metric(found, parse_margins("accuracy=1pp")).verdict is None
