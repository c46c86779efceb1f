"""A model that answers: a folder in torch, or an artifact in its own runtime, with its task's pre-processing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import overload

from edgekit.artifact import Format, is_artifact, open_artifact
from edgekit.environment import version_of
from edgekit.formats.torch import load_model
from edgekit.runtimes import open_runner
from edgekit.runtimes.torch import TorchRunner
from edgekit.source import resolve_source
from edgekit.tasks import bind_task, task_of
from edgekit.tasks.base import Runner, Task, TaskOptions
from edgekit.workshop import use_threads


@dataclass(frozen=True)
class Subject:
    """Something that can be fed: a task, a runner, and what it is."""

    task: Task
    runner: Runner
    runtime: str
    format: Format


def open_subject(
    path: str | Path, options: TaskOptions, task: str | None, threads: int, revision: str | None = None
) -> Subject:
    """A model folder in torch, or an artifact in its own runtime."""
    if is_artifact(path):
        artifact = open_artifact(path)
        recorded = artifact.manifest.preprocessing.get("max_length")
        if options.max_length is None and isinstance(recorded, int):
            options = options.model_copy(update={"max_length": recorded})
        bound = bind_task(task or artifact.manifest.task, artifact.path, options)
        if artifact.format == "onnx":
            return Subject(bound, open_runner(artifact, threads), f"onnxruntime {version_of('onnxruntime')}", "onnx")
    else:
        found = resolve_source(path, revision=revision)
        bound = bind_task(task_of(found.architecture, task), Path(found.path), options)
    use_threads(threads)
    model, _ = load_model(bound)
    return Subject(bound, TorchRunner(bound.components(model)), f"torch {version_of('torch')}", "torch")


class Predictor:
    """A model that answers raw inputs.

    Args:
        path: an artifact, a model folder or a hub id.
        task: name of the task; None is the model's own.
        threads: of the inference.
    """

    def __init__(self, path: str | Path, *, task: str | None = None, threads: int = 1) -> None:
        self._subject = open_subject(path, TaskOptions(), task, threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._subject.task.labels

    @overload
    def predict(self, inputs: str) -> list[tuple[str, float]]: ...

    @overload
    def predict(self, inputs: list[str]) -> list[list[tuple[str, float]]]: ...

    def predict(self, inputs: str | list[str]) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """Labels with scores, best first.

        Args:
            inputs: a text (a pair with a tab between) or the path of an image; or a list of them.
        """
        task = self._subject.task
        answers = []
        for text in [inputs] if isinstance(inputs, str) else inputs:
            row = task.read_input(text)
            examples = task.encode({name: [value] for name, value in row.items()})
            logits = task.forward(self._subject.runner, examples.batch([0]))
            answers += task.interpret(logits)
        return answers[0] if isinstance(inputs, str) else answers
