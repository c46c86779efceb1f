"""Finding a model, whatever it is given as: a folder of transformers, a hub id, or code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgekit.errors import UsageError
from edgekit.modules import Build, Feeding, names_code, read_description, resolve_module
from edgekit.source import Source, resolve_source
from edgekit.tasks import module_task, task_of
from edgekit.tasks.data import DataSource, first_sample


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
    """Find a model: a folder of transformers, a hub id, or code.

    Args:
        location: what the user gave.
        feeding: what was said of code.
        task: what was said of the task.
        revision: on the hub.
        data: an example of it shows what code takes, where that was not said.
        columns: of the data.
    """
    given = {name for name, value in feeding.items() if value is not None}
    if not names_code(location):
        if given:
            raise UsageError(
                f"--{min(given)} was given for {str(location)!r}, which is no code",
                id="usage.options-conflict",
                why="a folder of transformers or a hub id says itself what the model takes",
                hint="Code is named as file.py:function or package.module:function.",
            )
        found = resolve_source(location, revision=revision)
        return ResolvedModel(found, task_of(found.architecture, task), None)
    sample = first_sample(data, columns or {}) if data is not None else None
    found, build = resolve_module(location, feeding, sample)
    return ResolvedModel(found, module_task(read_description(Path(found.path)), task), build)


def feeding_of(options: Mapping[str, Any]) -> Feeding:
    """Those of the options that are of code."""
    return cast("Feeding", {name: options[name] for name in Feeding.__annotations__ if name in options})
