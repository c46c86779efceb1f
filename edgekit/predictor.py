"""A model that answers: a folder in torch, or an artifact in its own runtime, with its task's pre-processing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import overload

from edgekit.artifact import Artifact, Format, open_artifact
from edgekit.environment import version_of
from edgekit.formats.foreign import graph_artifact
from edgekit.formats.foreign_tflite import tflite_artifact
from edgekit.formats.torch import load_model
from edgekit.models import ResolvedModel
from edgekit.runtimes import open_confined, runtime_here
from edgekit.runtimes.torch import TorchRunner
from edgekit.tasks import bind_task
from edgekit.tasks.base import Runner, Task, TaskOptions
from edgekit.workshop import use_threads


@dataclass(frozen=True)
class Subject:
    """Something that can be fed: a task, a runner, and what it is; the artifact, of what is exported."""

    task: Task
    runner: Runner
    runtime: str
    format: Format
    exported: Artifact | None = None


def artifact_subject(path: str | Path, options: TaskOptions, task: str | None, threads: int) -> Subject:
    """An artifact in its own runtime."""
    artifact = open_artifact(path)
    recorded = artifact.manifest.preprocessing.get("max_length")
    if options.max_length is None and isinstance(recorded, int):
        options = options.model_copy(update={"max_length": recorded})
    bound = bind_task(task or artifact.manifest.task, artifact.path, options)
    if artifact.format != "torch":
        runtime = artifact.manifest.runtime
        runner = open_confined(artifact, threads, runtime)
        return Subject(bound, runner, runtime_here(artifact.format, runtime), artifact.format, artifact)
    return _in_torch(bound, threads)


def model_subject(model: ResolvedModel, options: TaskOptions, threads: int) -> Subject:
    """A model in torch; an ``.onnx`` file in onnxruntime, a ``.tflite`` file in LiteRT."""
    if model.source.kind in ("onnx", "tflite"):
        make = tflite_artifact if model.source.kind == "tflite" else graph_artifact
        artifact = make(model.source, model.task)
        runner = open_confined(artifact, threads)
        bound = bind_task(model.task, Path(model.source.path), options)
        return Subject(bound, runner, runtime_here(artifact.format), artifact.format, artifact)
    return _in_torch(bind_task(model.task, Path(model.source.path), options, model.build), threads)


def _in_torch(task: Task, threads: int) -> Subject:
    use_threads(threads)
    model, _ = load_model(task)
    return Subject(task, TorchRunner(task.components(model)), f"torch {version_of('torch')}", "torch")


class Predictor:
    """A model that answers raw inputs.

    Args:
        subject: what answers.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

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
