"""The table of tasks, and which one a model is for."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import ModelError, UnknownNameError
from edgekit.modules import Build, Description
from edgekit.tasks.base import Task, TaskOptions
from edgekit.tasks.image_classification import ImageClassification
from edgekit.tasks.tensor_classification import TensorClassification
from edgekit.tasks.text_classification import TextClassification

TASKS: dict[str, type[Task]] = {
    TextClassification.name: TextClassification,
    ImageClassification.name: ImageClassification,
    TensorClassification.name: TensorClassification,
}
# What a module given as code may be for; the others feed what only transformers describes.
MODULE_TASKS = (ImageClassification.name, TensorClassification.name)
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
        name = task_of("", override)
        if name not in MODULE_TASKS:
            raise ModelError(
                f"the task {name!r} is not for a module given as code",
                id="model.wrong-task",
                why=f"allowed: {', '.join(MODULE_TASKS)}",
                hint="Leave out --task: it follows from the input.",
            )
        return name
    return TensorClassification.name if description.pixels is None else ImageClassification.name


def bind_task(name: str, folder: Path, options: TaskOptions, build: Build | None = None) -> Task:
    """The task of this name for the model in ``folder``; ``build`` where the model was given as code."""
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS, id="unknown-name.task")
    return TASKS[name](folder, options, build)
