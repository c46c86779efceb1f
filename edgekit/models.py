"""Finding a model, whatever it is given as: a folder of transformers, a hub id, code, or a graph's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgekit.description import Feeding, read_description
from edgekit.errors import UsageError
from edgekit.formats.foreign import resolve_graph
from edgekit.formats.foreign_tflite import resolve_tflite
from edgekit.modules import Build, names_code, resolve_module
from edgekit.source import Source, names_graph, names_tflite, resolve_source
from edgekit.tasks import graph_task, module_task, task_of
from edgekit.tasks.data import first_sample
from edgekit.tasks.data_source import DataSource
from edgekit.tasks.tensors import Tensors


@dataclass(frozen=True)
class ResolvedModel:
    """A model found and checked.

    Attributes:
        source: where it is.
        task: name of its task.
        build: builds a fresh module where it was given as code.
    """

    source: Source
    task: str
    build: Build | None


def resolve_model(
    location: Any,
    feeding: Feeding,
    *,
    task: str | None = None,
    revision: str | None = None,
    data: DataSource | None = None,
    columns: Mapping[str, str] | None = None,
) -> ResolvedModel:
    """Find a model: a folder of transformers, a hub id, code, an ``.onnx`` or a ``.tflite`` file.

    Args:
        location: what the user gave.
        feeding: what was said of code, or of an ``.onnx`` or ``.tflite`` file.
        task: what was said of the task.
        revision: on the hub.
        data: an example of it shows what code takes, where that was not said.
        columns: of the data.
    """
    given = {name for name, value in feeding.items() if value is not None}
    if names_graph(location) or names_tflite(location):
        return _resolve_graph(location, feeding, task=task, revision=revision, data=data, columns=columns or {})
    if not names_code(location):
        if given:
            raise UsageError(
                f"--{min(given)} was given for {str(location)!r}, which is neither code nor an .onnx file",
                id="usage.options-conflict",
                why="a folder of transformers or a hub id says itself what the model takes",
                hint="Code is named as file.py:function or package.module:function, a graph as FILE.onnx.",
            )
        found = resolve_source(location, revision=revision)
        return ResolvedModel(found, task_of(found.architecture, task), None)
    sample = first_sample(data, columns or {}) if data is not None else None
    found, build = resolve_module(location, feeding, sample)
    return ResolvedModel(found, module_task(read_description(Path(found.path)), task), build)


def _resolve_graph(
    location: str | Path,
    feeding: Feeding,
    *,
    task: str | None,
    revision: str | None,
    data: DataSource | None,
    columns: Mapping[str, str],
) -> ResolvedModel:
    for option, value in (("revision", revision), ("weights", feeding.get("weights"))):
        if value is not None:
            raise UsageError(
                f"--{option} was given for {str(location)!r}, which is {_kind(location)}",
                id="usage.options-conflict",
                why="such a file holds its weights, and has no revisions",
            )
    said = any(feeding.get(option) is not None for option in ("mean", "std", "preprocess", "layout"))
    name = graph_task(images=said, override=task)
    images = name != Tensors.name
    sample = first_sample(data, columns) if images and data is not None else None
    resolve = resolve_tflite if names_tflite(location) else resolve_graph
    return ResolvedModel(resolve(location, feeding, sample, images=images), name, None)


def _kind(location: str | Path) -> str:
    return "a .tflite file" if names_tflite(location) else "an .onnx file"


def feeding_of(options: Mapping[str, Any]) -> Feeding:
    """Those of the options that are of code."""
    return cast("Feeding", {name: options[name] for name in Feeding.__annotations__ if name in options})
