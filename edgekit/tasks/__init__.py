"""The table of tasks, and which one a model is for."""

from __future__ import annotations

from pathlib import Path

from edgekit.description import Description
from edgekit.errors import ModelError, UnknownNameError
from edgekit.modules import Build
from edgekit.source import check_config
from edgekit.tasks.base import Task, TaskOptions
from edgekit.tasks.image_classification import ImageClassification
from edgekit.tasks.tensor_classification import TensorClassification
from edgekit.tasks.tensors import Tensors
from edgekit.tasks.text_classification import TextClassification

TASKS: dict[str, type[Task]] = {
    TextClassification.name: TextClassification,
    ImageClassification.name: ImageClassification,
    TensorClassification.name: TensorClassification,
    Tensors.name: Tensors,
}
# What a module given as code may be for; the others feed what only transformers describes.
MODULE_TASKS = (ImageClassification.name, TensorClassification.name)
# What an .onnx file may be for.
GRAPH_TASKS = (ImageClassification.name, Tensors.name)
# How transformers' class names end, by task.
ARCHITECTURES = {
    "ForSequenceClassification": TextClassification.name,
    "ForImageClassification": ImageClassification.name,
    "ForImageClassificationWithTeacher": ImageClassification.name,
}


def task_of(architecture: str, override: str | None = None) -> str:
    """The task's name: ``override``, else by how the architecture's class name ends.

    Raises:
        UnknownNameError: ``override`` is no task.
        ModelError: the architecture is for no task that is known.
    """
    if override is not None:
        if override not in TASKS:
            raise UnknownNameError("task", override, TASKS, id="unknown-name.task")
        return override
    for ending, name in ARCHITECTURES.items():
        if architecture.endswith(ending):
            return name
    raise ModelError(
        f"the architecture {architecture!r} is for no task that edgekit knows",
        id="model.unknown-architecture",
        why=f"known endings: {', '.join(ARCHITECTURES)}",
        hint=f"If it fits one of {', '.join(TASKS)} all the same, name it with --task.",
    )


def module_task(description: Description, override: str | None = None) -> str:
    """The task's name for a module given as code: ``override``, else images by their pixels, else numbers."""
    if override is not None:
        return _allowed(override, MODULE_TASKS, "a module given as code")
    return TensorClassification.name if description.pixels is None else ImageClassification.name


def graph_task(*, images: bool, override: str | None = None) -> str:
    """The task's name for an ``.onnx`` file: ``override``, else images where something was said of them."""
    if override is not None:
        return _allowed(override, GRAPH_TASKS, "an .onnx file")
    return ImageClassification.name if images else Tensors.name


def _allowed(override: str, allowed: tuple[str, ...], what: str) -> str:
    """The task that the user named.

    Raises:
        UnknownNameError: there is none of this name.
        ModelError: it is not for such a model.
    """
    name = task_of("", override)
    if name not in allowed:
        raise ModelError(
            f"the task {name!r} is not for {what}",
            id="model.wrong-task",
            why=f"allowed: {', '.join(allowed)}",
            hint="Leave out --task: it follows from the input.",
        )
    return name


def bind_task(name: str, folder: Path, options: TaskOptions, build: Build | None = None) -> Task:
    """The task of this name for the model in ``folder``; ``build`` where the model was given as code.

    Raises:
        UnknownNameError: there is none of this name.
        ModelError: a configuration in the folder, which a tokenizer is built by as well, asks for what no model has.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS, id="unknown-name.task")
    check_config(folder)
    return TASKS[name](folder, options, build)
