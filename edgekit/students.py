"""A student of one's own: a smaller model that the original teaches, in place of a pruned copy.

It is a folder of transformers with weights, a configuration alone (``config.json``, or a folder without weights), or
code. A student that starts from a configuration takes over what fits from its teacher: embeddings, head, and layers
evenly spaced (Sanh et al. 2019, DistilBERT, section 2, takes every second one).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from edgekit.artifact import copy_files
from edgekit.bounds import load_json
from edgekit.cache import Cache, Filled, cache_key
from edgekit.description import read_description
from edgekit.environment import code_digest, numeric_level, versions
from edgekit.errors import ModelError, UsageError
from edgekit.formats.encoder import evenly, layer_list
from edgekit.models import ResolvedModel
from edgekit.modules import names_code, resolve_module
from edgekit.source import WEIGHT_SUFFIXES, model_files, resolve_source, sha256_file, weight_files
from edgekit.tasks import bind_task
from edgekit.tasks.base import Task, TaskOptions, told_names
from edgekit.tasks.classification import Classification
from edgekit.tasks.image_classification import ImageClassification
from edgekit.tasks.origin import TransformersOrigin
from edgekit.tasks.text_classification import TOKENIZER_FILES, TextClassification

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config.json"
# Of a configuration, what the task decides.
TASK_KEYS = ("id2label", "label2id", "problem_type")


def resolve_student(location: Any, teacher: ResolvedModel, seed: int) -> ResolvedModel:
    """Find a student, and leave it as a folder with weights.

    Args:
        location: a folder, a hub id, a configuration, or code.
        teacher: the original.
        seed: of the weights that the teacher does not give.

    Raises:
        UsageError: it does not go with this teacher; says what differs.
        ModelError: it cannot be built.
    """
    if names_code(location) or teacher.build is not None:
        return _module_student(location, teacher)
    place = Path(str(location)).expanduser()
    if place.is_file() or (place.is_dir() and (place / CONFIG).is_file() and not weight_files(place)):
        return _fresh_student(place if place.is_file() else place / CONFIG, teacher, seed)
    found = resolve_source(location)
    mine = bind_task(teacher.task, Path(found.path), TaskOptions())
    theirs = bind_task(teacher.task, Path(teacher.source.path), TaskOptions())
    if len(mine.labels) != len(theirs.labels):
        raise UsageError(
            f"the student {found.architecture} has {len(mine.labels)} classes",
            id="usage.student-differs",
            why=f"the teacher has {len(theirs.labels)}",
        )
    if told_names(mine) and told_names(theirs) and told_names(mine) != told_names(theirs):
        raise UsageError(
            f"the student's classes are {', '.join(mine.labels)}",
            id="usage.student-differs",
            why=f"the teacher's, whose answers it learns by their numbers: {', '.join(theirs.labels)}",
            hint="Use a student with the teacher's classes in their order, or give its config.json alone.",
        )
    if isinstance(mine, ImageClassification) and isinstance(theirs, ImageClassification):
        _check_pixels(mine, theirs)
    differing = _differing_words(mine, theirs) if isinstance(mine, TextClassification) else ""
    if differing:
        raise UsageError(
            f"the student and its teacher read texts differently: their {differing} differ",
            id="usage.student-differs",
            why="a teacher's answers are for its own numbering of words",
            hint="Use a student with the teacher's tokenizer, or give its config.json alone.",
        )
    return ResolvedModel(found, teacher.task, None)


def _check_pixels(mine: ImageClassification, theirs: ImageClassification) -> None:
    """A student is fed as its teacher is; the artifact is fed by the student's own image processor."""
    one, other = map(_pixels, (mine, theirs))
    if one != other:
        raise UsageError(
            f"the student reads images as {one}",
            id="usage.student-differs",
            why=f"the teacher, as which it is fed, as {other}",
            hint="Use a student with the teacher's image processor, or give its config.json alone.",
        )


def _pixels(task: ImageClassification) -> str:
    """The size of the images that a model takes, and their scale, to four digits."""
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in task.normalization)
    return f"{'x'.join(map(str, task.shape))}, mean {mean}, std {std}"


def _differing_words(mine: Task, theirs: Task) -> str:
    """What of a student's tokenizer numbers words otherwise than its teacher's; empty where nothing does.

    The two may be written down in different files, of which each says all: then their vocabularies are compared.
    """
    files = [(name, mine.folder / name, theirs.folder / name) for name in TOKENIZER_FILES]
    shared = [(name, one, other) for name, one, other in files if one.is_file() and other.is_file()]
    if shared:
        return next((name for name, one, other in shared if sha256_file(one) != sha256_file(other)), "")
    # without the special tokens that transformers adds where a file lacks them
    words = [
        cast("Any", task).tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False) for task in (mine, theirs)
    ]
    return "" if words[0] == words[1] else "vocabularies"


def _module_student(location: Any, teacher: ResolvedModel) -> ResolvedModel:
    """A student given as code, fed as its teacher is."""
    if not names_code(location) or teacher.build is None:
        raise UsageError(
            "a student given as code needs a teacher given as code, and the other way round",
            id="usage.student-differs",
            why="they are fed in one way, and transformers' models take several inputs",
        )
    described = read_description(Path(teacher.source.path))
    found, build = resolve_module(location, {}, described)
    mine = read_description(Path(found.path))
    if mine.output != described.output:
        raise UsageError(
            f"the student gives {list(mine.output)} for a sample",
            id="usage.student-differs",
            why=f"the teacher: {list(described.output)}",
        )
    if mine.only_input.name != described.only_input.name:
        raise UsageError(
            f"the student's forward takes {mine.only_input.name!r}",
            id="usage.student-differs",
            why=f"the teacher's takes {described.only_input.name!r}",
        )
    return ResolvedModel(found, teacher.task, build)


def _fresh_student(file: Path, teacher: ResolvedModel, seed: int) -> ResolvedModel:
    """A student from its configuration, with what fits of the teacher."""
    import torch

    home = Path(teacher.source.path)
    task = cast("Classification", bind_task(teacher.task, home, TaskOptions()))
    made_by: list[JsonValue] = [code_digest(), dict(versions()), numeric_level()]
    key = cache_key("student", sha256_file(file), teacher.source.digest, teacher.task, seed, *made_by)

    def make(scratch: Callable[[], Path]) -> Filled:
        folder = scratch()
        (folder / CONFIG).write_text(json.dumps(_configuration(file, home), indent=2), encoding="utf-8")
        copy_files(
            [path for path in model_files(home) if path.suffix not in WEIGHT_SUFFIXES and path.name != CONFIG], folder
        )
        torch.manual_seed(seed)
        student = TransformersOrigin(folder, task.auto_class() if task.auto_class else None).build()
        _check_sizes(student, task)
        take_over(student, task.load_model())
        student.save_pretrained(folder)  # type: ignore[operator]  # a PreTrainedModel
        return Filled(folder)

    return ResolvedModel(resolve_source(Cache().get_or_make(key, make)), teacher.task, None)


def _configuration(file: Path, home: Path) -> dict[str, JsonValue]:
    """The student's configuration, with the teacher's classes."""
    try:
        mine = load_json(file.read_bytes())
    except ValueError as error:
        raise ModelError(f"{file.name!r} is no configuration", id="model.invalid-config", why=str(error)) from error
    if not isinstance(mine, dict) or not isinstance(mine.get("model_type"), str):
        raise ModelError(
            f"{file.name!r} is no configuration of a model",
            id="model.invalid-config",
            why="it names no model_type, such as bert",
            hint="Write it with config.save_pretrained(FOLDER).",
        )
    theirs = json.loads((home / CONFIG).read_text(encoding="utf-8"))
    ending = theirs["architectures"][0].partition("For")[2]
    mine["architectures"] = [f"{mine['model_type'].title()}For{ending}"]  # save_pretrained tells the class's own name
    return mine | {name: theirs[name] for name in TASK_KEYS if name in theirs}


def _check_sizes(student: nn.Module, task: Classification) -> None:
    mine, theirs = cast("Any", student).config, task.config
    for name in ("vocab_size", "image_size", "num_channels"):
        one, other = getattr(mine, name, None), getattr(theirs, name, None)
        if one != other and None not in (one, other):
            raise UsageError(
                f"the student's {name} is {one}",
                id="usage.student-differs",
                why=f"the teacher's is {other}: they have to read the same inputs",
            )


def take_over(student: nn.Module, teacher: nn.Module) -> int:
    """Copy into ``student`` every tensor of ``teacher`` of the same place and shape; layers evenly spaced.

    Returns:
        How many tensors were copied.
    """
    import torch

    mine, theirs = layer_list(student), layer_list(teacher)
    source = dict(teacher.named_parameters())
    inside = {id(parameter) for layer in mine for parameter in layer.parameters()}
    pairs = [(value, source.get(name)) for name, value in student.named_parameters() if id(value) not in inside]
    for layer, stands_for in zip(mine, evenly(len(mine), len(theirs)), strict=True):
        original = dict(theirs[stands_for - 1].named_parameters())
        pairs += [(value, original.get(name)) for name, value in layer.named_parameters()]
    copied = 0
    with torch.no_grad():
        for value, other in pairs:
            if other is not None and other.shape == value.shape:
                value.copy_(other)
                copied += 1
    return copied
