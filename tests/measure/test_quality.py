from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tiny import build, examples_for, logits, save, task_for

from edgekit.measure.quality import (
    MOST_CLASSES,
    MOST_FLIPPED,
    Outputs,
    collect_outputs,
    compare,
    compare_classes,
    count_flips,
    evaluation_batch,
    mean_cosine,
    no_classes_because,
)
from edgekit.progress import Silent
from edgekit.report import Quality
from edgekit.runtimes.torch import TorchRunner
from edgekit.tasks.base import Task, Workload
from edgekit.tasks.metrics import accuracy, exact_match_multilabel


class Scored:
    """As much of a task as comparing needs: accuracy."""

    score = staticmethod(accuracy)

    def metric_for(self, labels: Any) -> str:
        return "accuracy"

    def sample_scores(self, outputs: Any, labels: Any) -> Any:
        return None

    def class_scores(self, outputs: Any) -> Any:
        return outputs


TASK = cast("Task", Scored())


def one_hot(classes: Any, width: int = 2) -> Any:
    return np.eye(width, dtype=np.float32)[np.asarray(classes)]


def test_flips_count_changed_predictions() -> None:
    before = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.4, 0.6]])
    after = np.array([[9.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.1, 0.2]])
    assert count_flips(before, after) == 2
    assert count_flips(before[:, :1], after[:, :1]) is None
    assert count_flips(before, np.full_like(before, np.nan)) == 4  # no numbers are no prediction


def test_flips_of_several_labels_are_those_that_cross_one_half() -> None:
    before = np.array([[1.0, -1.0], [1.0, 2.0], [3.0, -1.0]])
    after = np.array([[1.0, 1.0], [2.0, 1.0], [2.0, -3.0]])
    assert count_flips(before, after, several=True) == 1
    assert count_flips(before, after) == 1  # of the largest logit, another sample


def test_flips_of_several_places_count_the_sample_once() -> None:
    before = one_hot([[0, 1, 1], [0, 0, 0]])
    after = one_hot([[1, 0, 1], [0, 0, 0]])
    assert count_flips(before, after) == 1


def test_classes_are_counted_one_by_one() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, -1])
    before, after = one_hot([0, 0, 1, 1, 1, 0, 2], 3), one_hot([0, 1, 0, 1, 2, 0, 0], 3)
    found = compare_classes(before, after, labels)
    assert found.count == 3
    assert [(c.index, c.n, c.right_before, c.right_after, c.flips) for c in found.changes] == [
        (0, 3, 2, 2, 2),
        (1, 2, 2, 1, 1),
        (2, 1, 0, 0, 0),
    ]
    assert found.confusion_before == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    assert found.confusion_after == ((2, 1, 0), (0, 1, 1), (1, 0, 0))


@pytest.mark.parametrize(("count", "rows"), [(MOST_CLASSES, MOST_CLASSES), (MOST_CLASSES + 1, MOST_FLIPPED)])
def test_of_many_classes_those_with_the_most_flips_are_kept(count: int, rows: int) -> None:
    labels = np.repeat(np.arange(count), 2)
    after = labels.copy()
    after[2 * 40] = after[2 * 40 + 1] = after[2 * 30] = 0  # both samples of class 40 and one of class 30
    found = compare_classes(one_hot(labels, count), one_hot(after, count), labels)
    assert (found.count, len(found.changes)) == (count, rows)
    assert len(found.confusion_before) == len(found.confusion_after) == (count if count <= MOST_CLASSES else 0)
    if count > MOST_CLASSES:
        assert [(change.index, change.flips) for change in found.changes[:2]] == [(40, 2), (30, 1)]


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        ((4, 3), (4,), ""),
        ((4, 1), (4,), "the model answers with a number, not with a class"),
        ((4, 3), (4, 3), "a sample may have several labels at once"),
        ((4, 7, 3), (4, 7), "a sample has more than one answer"),
    ],
)
def test_classes_need_one_label_a_sample(logits: tuple[int, ...], labels: tuple[int, ...], reason: str) -> None:
    assert no_classes_because(np.zeros(logits), np.zeros(labels)) == reason


def test_a_comparison_has_classes_or_says_why_not() -> None:
    labels = np.array([0, 1, 1, 0])
    outputs = Outputs(one_hot(labels), labels)
    quality = compare(outputs, outputs, TASK, split="test", looks=0)
    assert quality is not None
    assert quality.classes is not None
    assert quality.classes.confusion_after == ((2, 0), (0, 2))
    assert quality.no_classes_because == ""

    class Several(Scored):
        score = staticmethod(exact_match_multilabel)

    many = Outputs(one_hot(labels) - 0.5, one_hot(labels))
    quality = compare(many, many, cast("Task", Several()), split="test", looks=0)
    assert quality is not None
    assert quality.classes is None
    assert quality.no_classes_because == "a sample may have several labels at once"


def test_the_cosine_is_the_mean_over_samples() -> None:
    one = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    other = np.array([[2.0, 0.0], [-4.0, 3.0], [-1.0, -1.0]])
    assert mean_cosine(one, other) == pytest.approx((1.0 + 0.0 - 1.0) / 3)
    assert mean_cosine(one, one) == pytest.approx(1.0)
    assert mean_cosine(one * 0, one) == 0.0


def test_a_drop_has_a_paired_interval() -> None:
    # Of 400 samples both are right on 360; the artifact loses 8 more and wins 4 back.
    labels = np.zeros(400, dtype=np.int64)
    before, after = np.zeros(400, dtype=int), np.zeros(400, dtype=int)
    before[360:] = 1
    after[360:396] = 1
    after[:8] = 1
    quality = compare(Outputs(one_hot(before), labels), Outputs(one_hot(after), labels), TASK, split="test", looks=3)
    assert quality is not None
    assert (quality.before, quality.after) == (0.9, 0.89)
    assert quality.drop == pytest.approx(0.01)
    assert (quality.n, quality.flips, quality.looks, quality.split) == (400, 12, 3, "test")
    # Per sample the difference is 1, -1 or 0: variance (12 - 400 * 0.01 ** 2) / 400.
    half = 1.645 * np.sqrt((12 / 400 - 0.01**2) / 400)
    assert quality.drop_low == pytest.approx(0.01 - half, abs=0.003)
    assert quality.drop_high == pytest.approx(0.01 + half, abs=0.003)
    assert quality.cosine == pytest.approx(1 - 12 / 400)


def test_equal_outputs_lose_nothing_for_certain() -> None:
    labels = np.arange(50) % 2
    outputs = Outputs(one_hot(np.arange(50) % 3 % 2), labels)
    quality = compare(outputs, outputs, TASK, split="test", looks=0)
    assert quality is not None
    assert (quality.drop, quality.drop_low, quality.drop_high, quality.flips) == (0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("unlabelled", [0, 1])
def test_without_labels_there_is_nothing_to_compare(unlabelled: int) -> None:
    sides = [Outputs(one_hot([0, 1]), None if side == unlabelled else np.array([0, 1])) for side in range(2)]
    assert compare(*sides, TASK, split="test", looks=0) is None
    assert sides[unlabelled].score(TASK) is None


@pytest.mark.parametrize("size", [1, 7])
def test_outputs_come_in_the_order_of_the_samples(tmp_path: Path, torch_alone: Any, size: int) -> None:
    task = task_for(save(build("bert"), tmp_path))
    model = task.load_model()
    examples = examples_for(task, 20)
    found = collect_outputs(TorchRunner(task.components(model)), task, examples, size, Silent())
    alone = np.concatenate([logits(task, model, examples.batch([index])) for index in range(20)])
    np.testing.assert_allclose(found.logits, alone, atol=1e-5)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, [examples.batch([index])["labels"][0] for index in range(20)])
    assert found.score(task) == accuracy(found.logits, found.labels)


def test_every_sample_is_told_to_the_progress() -> None:
    class Counted(Silent):
        steps = 0

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.steps += steps

    class Numbers:
        def __len__(self) -> int:
            return 10

        def length(self, index: int) -> int:
            return index % 3

        def batch(self, indices: Any) -> dict[str, Any]:
            return {"x": np.array(indices, dtype=np.float32)[:, None]}

    class Identity(Scored):
        def forward(self, runner: object, batch: Mapping[str, Any]) -> Any:
            return batch["x"]

    progress = Counted()
    found = collect_outputs(cast("Any", None), cast("Task", Identity()), Numbers(), 4, progress)
    assert found.logits[:, 0].tolist() == list(range(10))
    assert found.labels is None
    assert progress.steps == 10


def test_an_exported_graph_is_evaluated_as_it_will_be_used() -> None:
    assert evaluation_batch("onnx", Workload(batch=3)) == 3
    assert evaluation_batch("torch", Workload(batch=3)) == 32


def test_answers_that_are_no_numbers_are_none_of_the_classes() -> None:
    original, labels = np.array([[2.0, 1.0], [1.0, 2.0], [3.0, 1.0]]), np.array([0, 1, 0])
    artifact = np.array([[2.0, 1.0], [np.nan, 2.0], [np.nan, np.nan]])
    found = compare_classes(original, artifact, labels)
    assert [(one.n, one.right_before, one.right_after, one.flips) for one in found.changes] == [
        (2, 2, 1, 1),
        (1, 1, 0, 1),
    ]
    assert found.confusion_after == ((1, 0), (0, 0))
    assert mean_cosine(original, artifact) == pytest.approx(1 / 3)


def test_a_record_of_answers_that_are_no_numbers_can_be_read_again() -> None:
    labels = np.array([0, 1])
    original = Outputs(np.array([[2.0, 1.0], [1.0, 2.0]]), labels)
    artifact = Outputs(np.array([[2.0, 1.0], [np.nan, 2.0]]), labels)
    found = compare(original, artifact, TASK, split="evaluation", looks=1)
    assert found is not None
    assert found.largest_difference is None
    assert Quality.model_validate_json(found.model_dump_json()) == found
