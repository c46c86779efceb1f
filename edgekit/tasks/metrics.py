"""Metrics of (logits, labels), each higher for better and on a scale of 1, so that a drop of 0.01 means one point.

What is no number answers nothing: such a sample is in no class, and a correlation with it is 0.
"""

from __future__ import annotations

import numpy as np

from edgekit.tasks.base import Array


def best_class(logits: Array) -> Array:
    """The class of the largest logit, -1 where one is NaN. logits [..., classes]."""
    found: Array = np.where(np.isnan(logits).any(axis=-1), -1, logits.argmax(axis=-1))
    return found


def accuracy(logits: Array, labels: Array) -> float:
    """Share of samples whose largest logit is the label's. logits [samples, classes], labels [samples]."""
    return float(np.mean(best_class(logits) == labels))


def f1_macro(logits: Array, labels: Array) -> float:
    """Mean over the classes that occur of the harmonic mean of precision and recall."""
    predicted = best_class(logits)
    return float(np.mean([_f1(predicted == c, labels == c) for c in np.unique(labels)]))


def f1_micro_multilabel(logits: Array, labels: Array) -> float:
    """F1 over all (sample, label) pairs at probability 0.5. logits and labels [samples, classes]."""
    return _f1(_chosen(logits, labels), labels > 0.5)


def exact_match_multilabel(logits: Array, labels: Array) -> float:
    """Share of samples with every label right at probability 0.5."""
    return float(np.mean(np.all(_chosen(logits, labels) == (labels > 0.5), axis=-1)))


def pearson(logits: Array, labels: Array) -> float:
    """Correlation of the single output with the label; 0 where either does not vary, or an output is no number."""
    predicted, expected = logits.reshape(-1), labels.reshape(-1)
    if not np.isfinite(predicted).all() or np.ptp(predicted) == 0 or np.ptp(expected) == 0:
        return 0.0  # by their deviation, which is rounding where all are equal, it would not be seen
    return float(np.corrcoef(predicted, expected)[0, 1])


def spearman(logits: Array, labels: Array) -> float:
    """Pearson's correlation of the ranks (ties share their mean rank)."""
    if np.isnan(logits).any():
        return 0.0
    return pearson(_ranks(logits.reshape(-1)), _ranks(labels.reshape(-1)))


def _chosen(logits: Array, labels: Array) -> Array:
    """The labels at probability 0.5; of a NaN the wrong one."""
    return np.where(np.isnan(logits), labels <= 0.5, logits > 0)


def _f1(predicted: Array, expected: Array) -> float:
    right = float(np.sum(predicted & expected))
    total = float(np.sum(predicted) + np.sum(expected))
    return 2 * right / total if total else 1.0


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: Array = last - (counts - 1) / 2
    return mean_rank[inverse]
