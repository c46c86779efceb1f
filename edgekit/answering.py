"""What an exported model answers to labelled samples, so that two models can be compared on the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgekit.artifact import is_artifact
from edgekit.description import Feeding
from edgekit.errors import DataError
from edgekit.measure.quality import Outputs, collect_outputs, evaluation_batch
from edgekit.models import resolve_model
from edgekit.predictor import Subject, artifact_subject, model_subject
from edgekit.progress import Progress
from edgekit.tasks.base import Examples, Task, TaskOptions, Workload, told_names
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data


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
class Asked:
    """A model with the samples that it is to answer.

    Attributes:
        name: of its file or folder.
        subject: what answers.
        examples: the evaluation split, as its task feeds them.
        labels: of all of them, as its task reads them.
        split: which samples they are.
    """

    name: str
    subject: Subject
    examples: Examples
    labels: Sequence[Any]
    split: str

    @property
    def task(self) -> Task:
        """What scores the answers."""
        return self.subject.task


def ask(path: str | Path, questions: Questions) -> Asked:
    """Read the evaluation split as a model takes it; nothing is answered yet.

    Raises:
        DataError: the samples are none for the model, or have no labels.
    """
    rows, options = resolve_data(questions.data), TaskOptions()
    if is_artifact(path):
        subject = artifact_subject(path, options, None, questions.threads)
    else:
        model = resolve_model(path, cast("Feeding", questions.feeding), task=None, data=rows)
        subject = model_subject(model, options, questions.threads)
    data = Data(rows, subject.task, 0)
    examples, split = data.split(None)
    if not data.evaluation_labels:
        raise DataError(f"the split {split!r} has no labels, so that there is nothing to score", id="data.no-labels")
    return Asked(Path(path).name, subject, examples, data.evaluation_labels, split)


def answer(asked: Asked, progress: Progress) -> Outputs:
    """Run all samples through a model in its own runtime on this machine."""
    progress.start(f"answer: {asked.name}", len(asked.examples))
    size = evaluation_batch(asked.subject.format, Workload())
    outputs = collect_outputs(asked.subject.runner, asked.task, asked.examples, size, progress)
    progress.finish()
    return outputs


def unlike(candidate: Asked, baseline: Asked) -> str:
    """Why the answers of two models cannot be scored alike; empty where they can."""
    for what, ours, theirs in (
        ("task", candidate.task.name, baseline.task.name),
        ("metric", candidate.task.metric_name, baseline.task.metric_name),
        ("split", candidate.split, baseline.split),
    ):
        if ours != theirs:
            return f"the model's {what} is {ours}, and the baseline's {theirs}"
    mine, its = (told_names(asked.task) for asked in (candidate, baseline))
    if mine and its and len(mine) != len(its):
        return f"the model has {len(mine)} classes, and the baseline {len(its)}"
    for index, (one, other) in enumerate(zip(mine, its, strict=False)):
        if one != other:
            return f"class {index} is {one!r} of the model, and {other!r} of the baseline"
    if list(candidate.labels) != list(baseline.labels):
        return "the model and the baseline read other labels from the same samples"
    return ""
