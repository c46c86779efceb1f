"""What an exported model answers to labelled samples, so that two models can be compared on the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgekit.artifact import is_artifact
from edgekit.description import Feeding
from edgekit.errors import DataError
from edgekit.measure.quality import Outputs, collect_outputs, evaluation_batch
from edgekit.models import resolve_model
from edgekit.predictor import artifact_subject, model_subject
from edgekit.progress import Progress
from edgekit.tasks.base import Array, Task, TaskOptions, Workload
from edgekit.tasks.data import Data, resolve_data


@dataclass(frozen=True)
class Questions:
    """Labelled samples, and how a model is given them.

    Attributes:
        data: a file, a folder or a hub id.
        threads: of the inference.
        feeding: how a graph's file is fed, as for ``compress``.
    """

    data: str | Path
    threads: int
    feeding: Mapping[str, Any]


@dataclass(frozen=True)
class Answers:
    """What a model answered.

    Attributes:
        outputs: of the evaluation split, in its order.
        labels: [samples, ...].
        task: scores them.
        split: which samples.
    """

    outputs: Outputs
    labels: Array
    task: Task
    split: str


def answers_of(path: str | Path, questions: Questions, progress: Progress) -> Answers:
    """Run the evaluation split through a model in its own runtime on this machine.

    Raises:
        DataError: the split has no labels.
    """
    rows, options = resolve_data(questions.data), TaskOptions()
    if is_artifact(path):
        subject = artifact_subject(path, options, None, questions.threads)
    else:
        model = resolve_model(path, cast("Feeding", questions.feeding), task=None, data=rows)
        subject = model_subject(model, options, questions.threads)
    examples, split = Data(rows, subject.task, 0).split(None)
    progress.start(f"answer: {Path(path).name}", len(examples))
    size = evaluation_batch(subject.format, Workload())
    outputs = collect_outputs(subject.runner, subject.task, examples, size, progress)
    progress.finish()
    if outputs.labels is None:
        raise DataError(f"the split {split!r} has no labels, so that there is nothing to score", id="data.no-labels")
    return Answers(outputs, outputs.labels, subject.task, split)
