"""What ``bench`` measures: the components of an artifact, or a graph of any origin with inputs made for it."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import WHOLE, is_artifact, open_artifact
from edgekit.errors import UsageError
from edgekit.formats.onnx import describe_component
from edgekit.measure.latency import subject_at, subjects_of
from edgekit.runtimes.measuring import Subject
from edgekit.source import sha256_file
from edgekit.tasks import TASKS, bind_task
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.feeds import made_up


def subjects_at(path: str | Path, workload: Workload) -> dict[str, Subject]:
    """The components at a path with inputs of the workload's size.

    Raises:
        UsageError: neither an artifact nor an ONNX file.
    """
    root = Path(path).expanduser()
    if is_artifact(root):
        artifact = open_artifact(root)
        if artifact.format == "onnx" and artifact.manifest.task in TASKS:
            return subjects_of(artifact, bind_task(artifact.manifest.task, root, TaskOptions()), workload)
        if artifact.format != "onnx":
            raise UsageError(
                f"{str(path)!r} is a torch artifact",
                id="usage.not-measurable",
                why="latency is measured on exported artifacts",
            )
        return {
            name: subject_at(root, part, {spec.name: made_up(spec, workload) for spec in part.inputs})
            for name, part in artifact.manifest.components.items()
        }
    if root.suffix != ".onnx" or not root.is_file():
        raise UsageError(
            f"{str(path)!r} is neither an artifact nor an .onnx file",
            id="usage.not-measurable",
            hint="`edgekit compress` makes artifacts.",
        )
    part = describe_component(root)
    return {WHOLE: subject_at(root.parent, part, {spec.name: made_up(spec, workload) for spec in part.inputs})}


def size_at(path: str | Path) -> int:
    """Bytes of the model's files, external data included."""
    root = Path(path).expanduser()
    if is_artifact(root):
        return open_artifact(root).size_bytes
    return sum((root.parent / name).stat().st_size for name in describe_component(root).files)


def describe(path: str | Path) -> dict[str, JsonValue]:
    """Digest, size and format of what lies at a path."""
    root = Path(path).expanduser()
    if is_artifact(root):
        artifact = open_artifact(root)
        files: dict[str, JsonValue] = {
            name: artifact.manifest.files[part.files[0]] for name, part in artifact.manifest.components.items()
        }
        return {
            "name": root.name,
            "format": artifact.format,
            "bytes": size_at(path),
            "folder_bytes": artifact.folder_bytes,
            "sha256": files,
        }
    return {"name": root.name, "format": "onnx", "bytes": size_at(path), "sha256": sha256_file(root)}
