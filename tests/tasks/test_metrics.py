from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from edgekit.tasks import metrics


def draw(seed: int, classes: int = 4, samples: int = 200) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, samples)
    return random.normal(size=(samples, classes)) + np.eye(classes)[labels], labels


@pytest.mark.parametrize("seed", range(3))
def test_accuracy(seed: int) -> None:
    logits, labels = draw(seed)
    assert metrics.accuracy(logits, labels) == pytest.approx(sk.accuracy_score(labels, logits.argmax(-1)))


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_the_mean_over_the_classes_that_occur(seed: int) -> None:
    logits, labels = draw(seed)
    expected = sk.f1_score(labels, logits.argmax(-1), average="macro", labels=np.unique(labels))
    assert metrics.f1_macro(logits, labels) == pytest.approx(expected)
    labels[labels == 3] = 0
    expected = sk.f1_score(labels, logits.argmax(-1), average="macro", labels=[0, 1, 2], zero_division=0)
    assert metrics.f1_macro(logits, labels) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_several_labels(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (100, 5)).astype(np.float32)
    logits = random.normal(size=(100, 5)) + labels - 0.5
    assert metrics.f1_micro_multilabel(logits, labels) == pytest.approx(
        sk.f1_score(labels, logits > 0, average="micro")
    )
    assert metrics.exact_match_multilabel(logits, labels) == pytest.approx(sk.accuracy_score(labels, logits > 0))


@pytest.mark.parametrize("ties", [False, True])
def test_regression(ties: bool) -> None:
    from scipy import stats

    random = np.random.default_rng(0)
    labels = random.normal(size=80)
    logits = (labels + random.normal(size=80))[:, None]
    if ties:
        labels, logits = labels.round(), logits.round()
    assert metrics.pearson(logits, labels) == pytest.approx(stats.pearsonr(logits[:, 0], labels).statistic)
    assert metrics.spearman(logits, labels) == pytest.approx(stats.spearmanr(logits[:, 0], labels).statistic)


def test_what_does_not_vary_correlates_with_nothing() -> None:
    assert metrics.pearson(np.ones((5, 1)), np.arange(5.0)) == 0.0
    assert metrics.spearman(np.arange(5.0)[:, None], np.ones(5)) == 0.0
    inexact = np.full((7, 1), 0.2, np.float32)  # whose deviation from their mean is not 0
    assert inexact.std() > 0
    assert metrics.pearson(inexact, np.arange(7.0, dtype=np.float32)) == 0.0
    assert metrics.pearson(np.arange(7.0, dtype=np.float32)[:, None], inexact[:, 0]) == 0.0


def test_what_is_no_number_answers_nothing() -> None:
    labels, nothing = np.zeros(4, np.int64), np.full((4, 2), np.nan, np.float32)
    half = np.where(np.arange(4)[:, None] < 2, nothing, np.float32([1.0, 0.0]))
    assert (metrics.accuracy(nothing, labels), metrics.accuracy(half, labels)) == (0.0, 0.5)
    assert (metrics.f1_macro(nothing, labels), metrics.best_class(half).tolist()) == (0.0, [-1, -1, 0, 0])
    assert metrics.accuracy(np.array([[3, 1], [1, 3]], np.int8), labels[:2]) == 0.5
    for metric in (metrics.pearson, metrics.spearman):
        assert metric(np.array([1.0, np.nan, 3.0, 4.0]), np.arange(4.0)) == 0.0


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert metrics.f1_micro_multilabel(np.full((3, 2), -1.0), np.zeros((3, 2))) == 1.0


def test_of_a_nan_no_label_is_the_right_one() -> None:
    logits = np.array([[1.0, np.nan], [np.nan, 1.0]])
    for labels in (np.array([[1, 0], [0, 1]]), np.array([[1, 1], [1, 1]])):
        assert metrics.exact_match_multilabel(logits, labels) == 0.0
    assert metrics.f1_micro_multilabel(np.full((2, 2), np.nan), np.array([[1, 0], [0, 1]])) == 0.0
