"""Quality: outputs over a split, the metric with a paired interval, flips and cosine against the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.artifact import Format
from edgekit.measure.statistics import paired_bootstrap
from edgekit.progress import Progress
from edgekit.report import Quality
from edgekit.tasks.base import LABELS, Array, Examples, Runner, Task, Workload, ordered_batches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Two-sided, so that each end is a one-sided 95 % bound: the one that a strict limit is proven by.
LEVEL = 0.90
TORCH_BATCH = 32


@dataclass(frozen=True)
class Outputs:
    """Logits [samples, outputs] and labels [samples, ...] of a split, in its order; None where it has no labels."""

    logits: Array
    labels: Array | None

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
    stacked = np.stack([rows[index] for index in order])
    return Outputs(stacked, np.stack([labels[index] for index in order]) if labels else None)


def compare(original: Outputs, artifact: Outputs, task: Task, *, split: str, looks: int) -> Quality | None:
    """The artifact beside the original on the same samples; None without labels."""
    if original.labels is None or artifact.labels is None:
        return None
    labels = original.labels

    def drop(chosen: npt.NDArray[np.int64]) -> float:
        return task.score(original.logits[chosen], labels[chosen]) - task.score(artifact.logits[chosen], labels[chosen])

    interval = paired_bootstrap(drop, len(labels), level=LEVEL)
    before, after = task.score(original.logits, labels), task.score(artifact.logits, labels)
    return Quality(
        metric=task.metric_name,
        before=before,
        after=after,
        drop=before - after,
        drop_low=interval.low,
        drop_high=interval.high,
        n=len(labels),
        flips=count_flips(original.logits, artifact.logits),
        cosine=mean_cosine(original.logits, artifact.logits),
        split=split,
        looks=looks,
    )


def count_flips(one: Array, other: Array) -> int | None:
    """Samples whose largest logit changed; None for a single output."""
    return None if one.shape[-1] == 1 else int((one.argmax(-1) != other.argmax(-1)).sum())


def mean_cosine(one: Array, other: Array) -> float:
    """Mean cosine similarity of the rows of two sets of logits [samples, outputs]."""
    import numpy as np

    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float(np.mean((one * other).sum(-1) / np.maximum(lengths, 1e-12)))
