"""A model as an artifact of its own: copies of the files that decide its answers."""

from __future__ import annotations

from pathlib import Path

from edgekit.artifact import WHOLE, Manifest, copy_files, write_artifact
from edgekit.cache import Filled, sums_in
from edgekit.environment import versions
from edgekit.errors import ModelError
from edgekit.formats.foreign import graph_component, graph_files
from edgekit.formats.torch import torch_components
from edgekit.models import ResolvedModel
from edgekit.request import Request
from edgekit.source import digest_sums, model_files, sha256_file, weight_files
from edgekit.tasks.base import Task


def import_model(model: ResolvedModel, task: Task, request: Request, folder: Path) -> Filled:
    """Copy a model into an empty folder, and describe it there.

    Args:
        model: the original, or the student that was given.
        task: bound to it.
        request: that it is for.
        folder: empty.

    Raises:
        ModelError: it is not what it was when its digest was taken.
    """
    source, graph = Path(model.source.path), model.source.kind == "onnx"
    copy_files(model_files(source), folder)
    for file in graph_files(source) if graph else ():
        copy_files([file], (folder / file.relative_to(source)).parent)
    sums = sums_in(source) if graph else {path.name: sha256_file(path) for path in model_files(folder)}
    if model.source.kind == "transformers" and digest_sums(sums) != model.source.digest:
        raise ModelError(
            f"the model folder {model.source.location!r} was changed while it was read",
            id="model.changed",
            hint="Run it again on a folder at rest.",
        )
    weights = tuple(path.name for path in weight_files(source))
    manifest = Manifest(
        format="onnx" if graph else "torch",
        task=request.task,
        labels=task.labels,
        source=model.source.record,
        teacher=request.source.record if model is request.student else None,
        components={WHOLE: graph_component(source)} if graph else torch_components(weights),
        data=request.data.record if request.data else {},
        tools=versions(),
        preprocessing=task.preprocessing,
    )
    return Filled(folder, write_artifact(folder, manifest, sums).manifest.files)
