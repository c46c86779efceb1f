"""Quality: outputs over a split, the metric with a paired interval, flips and cosine against the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.artifact import Format
from edgekit.errors import DataError
from edgekit.measure.golden import finite, relative_difference
from edgekit.measure.statistics import paired_bootstrap
from edgekit.progress import Progress
from edgekit.report import ClassChange, Classes, Quality
from edgekit.tasks.base import LABELS, Array, Examples, Runner, Task, Workload, ordered_batches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Two-sided, so that each end is a one-sided 95 % bound: the one that a strict limit is proven by.
LEVEL = 0.90
# What a share of samples less another may differ by in binary where it is the limit itself.
ROUNDING = 1e-12
TORCH_BATCH = 32
UNLABELLED = "the data has no labels: the answers were compared with the original's"
# Up to here a report has each class and the confusion; above, only the classes with the most flips.
MOST_CLASSES, MOST_FLIPPED = 50, 20


@dataclass(frozen=True)
class Outputs:
    """Logits [samples, outputs] and labels [samples, ...] of a split, in its order; None where it has no labels.

    ``against`` says what the labels are: the data's, or the original's logits in their place.
    """

    logits: Array
    labels: Array | None
    against: Literal["labels", "original"] = "labels"

    def beside(self, original: Outputs) -> Outputs:
        """The same with the original's logits in place of labels."""
        return Outputs(self.logits, original.logits, "original")

    def score(self, task: Task) -> float | None:
        """The task's metric; None without labels."""
        return None if self.labels is None else task.score(self.logits, self.labels)


def evaluation_batch(format_: Format, workload: Workload) -> int:
    """Samples at once when a split is evaluated.

    An exported graph is run as it will be used, since dynamic quantization scales activations by the batch; in torch it
    changes nothing but the time.
    """
    return TORCH_BATCH if format_ == "torch" else workload.batch


def collect_outputs(runner: Runner, task: Task, examples: Examples, batch_size: int, progress: Progress) -> Outputs:
    """Run a split through a runner, ``batch_size`` samples at once."""
    import numpy as np

    rows: dict[int, Array] = {}
    labels: dict[int, Array] = {}
    for indices in ordered_batches(examples, batch_size):
        batch = examples.batch(indices)
        logits = task.forward(runner, batch)
        rows.update(zip(indices, logits, strict=True))
        if LABELS in batch:
            labels.update(zip(indices, batch[LABELS], strict=True))
        progress.advance(len(indices))
    order = range(len(examples))
    shapes = {row.shape for row in rows.values()}
    if len(shapes) > 1:
        raise DataError(
            f"the samples have answers of {len(shapes)} sizes, which cannot be compared as one table",
            id="data.unsuitable-sample",
            why=f"among them {', '.join(map(str, sorted(shapes)[:3]))}",
            hint="Give samples of one size.",
        )
    stacked = np.stack([rows[index] for index in order])
    return Outputs(stacked, np.stack([labels[index] for index in order]) if labels else None)


def compare(original: Outputs, artifact: Outputs, task: Task, *, split: str, looks: int) -> Quality | None:
    """The artifact beside the original on the same samples; None where there is nothing to score against."""
    if original.labels is None or artifact.labels is None:
        return None
    labels = original.labels
    interval = paired_bootstrap(drop_of_some(original, artifact, labels, task), len(labels), level=LEVEL)
    before, after = task.score(original.logits, labels), task.score(artifact.logits, labels)
    scores = [task.class_scores(outputs.logits) for outputs in (original, artifact)]
    alone = original.against == "original"
    missing = UNLABELLED if alone else no_classes_because(scores[0], labels)
    several = not alone and has_several(scores[0], labels)
    return Quality(
        metric=task.metric_for(labels),
        before=before,
        after=after,
        drop=before - after,
        drop_low=interval.low,
        drop_high=interval.high,
        n=len(labels),
        flips=count_flips(scores[0], scores[1], several=several),
        cosine=mean_cosine(original.logits, artifact.logits),
        split=split,
        looks=looks,
        classes=None if missing else compare_classes(scores[0], scores[1], labels),
        no_classes_because=missing,
        against=original.against,
        largest_difference=finite(relative_difference(artifact.logits, original.logits)),
    )


def exceeds(found: float, limit: float) -> bool:
    """Whether a figure, such as a drop, is above what is allowed, and not there but for rounding."""
    return found > limit + ROUNDING


def drop_of_some(
    original: Outputs, artifact: Outputs, labels: Array, task: Task
) -> Callable[[npt.NDArray[np.int64]], float]:
    """The drop of the metric on the samples of given indices."""
    scores = [task.sample_scores(outputs.logits, labels) for outputs in (original, artifact)]
    if scores[0] is not None and scores[1] is not None:
        drops = scores[0] - scores[1]
        return lambda chosen: float(drops[chosen].mean())
    return lambda chosen: (
        task.score(original.logits[chosen], labels[chosen]) - task.score(artifact.logits[chosen], labels[chosen])
    )


def count_flips(one: Array, other: Array, *, several: bool = False) -> int | None:
    """Samples whose prediction changed; None for a single output.

    Args:
        one: logits [samples, ..., outputs]; of several places, one that changed is enough.
        other: logits of the same samples.
        several: whether a sample may have several labels, each there at probability 0.5; else the largest logit's.
    """
    if one.shape[-1] == 1:
        return None
    from edgekit.tasks.metrics import best_class

    changed = (one > 0) != (other > 0) if several else best_class(one) != best_class(other)
    return int(changed.reshape(len(one), -1).any(axis=1).sum())


def no_classes_because(logits: Array, labels: Array) -> str:
    """Why outputs cannot be told class by class; empty where each sample has one class.

    Args:
        logits: [samples, outputs].
        labels: [samples] or [samples, ...].
    """
    if logits.shape[-1] == 1:
        return "the model answers with a number, not with a class"
    if has_several(logits, labels):
        return "a sample may have several labels at once"
    if logits.ndim != 2 or labels.ndim != 1:
        return "a sample has more than one answer"
    return ""


def has_several(logits: Array, labels: Array) -> bool:
    """Whether each sample has a yes or no for each class."""
    return logits.ndim == 2 and labels.ndim == 2


def compare_classes(original: Array, artifact: Array, labels: Array) -> Classes:
    """What changed for each class, and both confusions where the classes are few.

    Args:
        original: logits [samples, classes].
        artifact: logits of the same samples.
        labels: [samples], integers below the number of classes; negative for none.
    """
    import numpy as np

    from edgekit.tasks.metrics import best_class

    count, labelled = original.shape[-1], labels >= 0
    expected, before, after = (
        values[labelled].astype(np.int64) for values in (labels, best_class(original), best_class(artifact))
    )
    chosen = (expected >= 0, before == expected, after == expected, before != after)
    columns = [np.bincount(expected[rows], minlength=count) for rows in chosen]
    changes = [
        ClassChange(index=index, n=n, right_before=old, right_after=new, flips=flips)
        for index, (n, old, new, flips) in enumerate(zip(*(column.tolist() for column in columns), strict=True))
    ]
    if count > MOST_CLASSES:
        ranked = sorted(changes, key=lambda change: -change.flips)
        return Classes(count=count, changes=tuple(ranked[:MOST_FLIPPED]))
    return Classes(
        count=count,
        changes=tuple(changes),
        confusion_before=_confusion(expected, before, count),
        confusion_after=_confusion(expected, after, count),
    )


def _confusion(expected: Array, predicted: Array, count: int) -> tuple[tuple[int, ...], ...]:
    """Samples by label and prediction, [count, count], without those that are predicted to be nothing."""
    import numpy as np

    cells = np.bincount((expected * count + predicted)[predicted >= 0], minlength=count * count).reshape(count, count)
    return tuple(tuple(row) for row in cells.tolist())


def mean_cosine(one: Array, other: Array) -> float:
    """Mean cosine similarity of the rows of two sets of logits [samples, outputs]; 0 for what is no number."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        cosines = (one * other).sum(-1) / np.maximum(lengths, 1e-12)
    return float(np.mean(np.where(np.isfinite(cosines), cosines, 0.0)))
