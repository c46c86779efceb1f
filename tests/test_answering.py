from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgekit.answering import Asked, unlike


def asked(*classes: str, labels: tuple[int, ...] = (0, 1, 1), **task: Any) -> Asked:
    """A model that was asked: as much of it as comparing needs."""
    known = {"name": "text-classification", "metric_name": "accuracy", "labels": classes, **task}
    subject = SimpleNamespace(task=SimpleNamespace(**known))
    return Asked("model", cast("Any", subject), cast("Any", range(3)), labels, "validation")


OURS = asked("negative", "positive")


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (OURS, ""),
        (asked("NEGATIVE", "Positive"), ""),
        (asked("LABEL_0", "LABEL_1"), ""),
        (asked("0", "1"), ""),
        (asked(), ""),
        (
            asked("positive", "negative", labels=(1, 0, 0)),
            "class 0 is 'negative' of the model, and 'positive' of the baseline",
        ),
        (asked("negative", "positive", "neutral"), "the model has 2 classes, and the baseline 3"),
        (
            asked("negative", "positive", name="image-classification"),
            "the model's task is text-classification, and the baseline's image-classification",
        ),
        (
            asked("negative", "positive", metric_name="f1"),
            "the model's metric is accuracy, and the baseline's f1",
        ),
        (replace(OURS, split="test"), "the model's split is validation, and the baseline's test"),
        (
            asked("LABEL_0", "LABEL_1", labels=(1, 0, 0)),
            "the model and the baseline read other labels from the same samples",
        ),
    ],
)
def test_answers_are_scored_alike_where_tasks_classes_and_labels_are_the_same(theirs: Asked, why: str) -> None:
    assert unlike(OURS, theirs) == why
