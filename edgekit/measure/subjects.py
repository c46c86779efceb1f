"""What ``bench`` measures: the components of an artifact, or a graph of any origin with inputs made for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from edgekit.artifact import MANIFEST, WHOLE, Component, Format, is_artifact, open_artifact
from edgekit.bounds import visible
from edgekit.description import Signature
from edgekit.errors import ModelError, UsageError
from edgekit.formats import onnx, tflite
from edgekit.formats.foreign import check_graph, check_memory
from edgekit.measure.latency import subject_at, subjects_of
from edgekit.runtimes.child import open_child
from edgekit.runtimes.measuring import Subject
from edgekit.source import names_graph, names_tflite, sha256_file
from edgekit.tasks import TASKS, bind_task
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.feeds import batch_dimension, check_batch, is_batch, made_up


def subjects_at(path: str | Path, workload: Workload) -> dict[str, Subject]:
    """The components at a path with inputs of the workload's size.

    Raises:
        ModelError: there is nothing at the path.
        UsageError: neither an artifact nor an ONNX or TFLite file; or one that does not take the workload's batch.
    """
    root = Path(path).expanduser()
    if is_artifact(root):
        artifact = open_artifact(root)
        if artifact.format != "torch" and artifact.manifest.task in TASKS:
            return subjects_of(artifact, bind_task(artifact.manifest.task, root, TaskOptions()), workload)
        if artifact.format == "torch":
            raise UsageError(
                f"{str(path)!r} is a torch artifact",
                id="usage.not-measurable",
                why="latency is measured on exported artifacts",
            )
        return {name: _fed(root, part, workload) for name, part in artifact.manifest.components.items()}
    if not root.exists():
        raise ModelError(f"there is nothing at {str(path)!r}", id="model.missing", hint="Check the path.")
    if not (names_graph(root) or names_tflite(root)) or not root.is_file():
        raise UsageError(
            f"{str(path)!r} is neither an artifact nor an .onnx or .tflite file",
            id="usage.not-measurable",
            hint="`edgekit compress` makes artifacts.",
        )
    if names_graph(root):
        model, _ = check_graph(root)
        check_memory(model, root, workload)
    return {WHOLE: _fed(root.parent, _component(root), workload)}


def _fed(folder: Path, part: Component, workload: Workload) -> Subject:
    """A graph that nobody described, with inputs that are made up.

    Raises:
        UsageError: samples at once were asked for, and the graph takes another number only: an inference of it would
            be told as one of so many.
    """
    free = any(is_batch(dim, axis) for spec in part.inputs for axis, dim in enumerate(spec.shape))
    if workload.batch != Workload().batch and not free:
        check_batch(batch_dimension(Signature(inputs=part.inputs, outputs=part.outputs, states=part.states)), workload)
    return subject_at(folder, part, {spec.name: made_up(spec, workload) for spec in part.inputs})


def try_subjects(path: str | Path, subjects: Mapping[str, Subject], threads: int) -> None:
    """Run a file of others once, in a process with limits, before it is measured for minutes.

    Raises:
        ModelError: it does not run, or crashes.
        ResourceLimitError: it takes more time or memory than it may.
    """
    if is_artifact(Path(path).expanduser()):
        return
    for subject in subjects.values():
        part = subject.component or _component(subject.graph)
        open_child(subject.graph, part, threads).run(subject.feeds)


def format_at(path: str | Path) -> Format:
    """The format of what lies at a path: an artifact's own, else by the file's ending."""
    root = Path(path).expanduser()
    if is_artifact(root):
        return open_artifact(root).format
    return "tflite" if names_tflite(root) else "onnx"


def parts_at(path: str | Path) -> tuple[str | None, tuple[Component, ...]]:
    """The target that an artifact names, None for a file of others; and the components of either."""
    root = Path(path).expanduser()
    if is_artifact(root):
        manifest = open_artifact(root).manifest
        return manifest.target, tuple(manifest.components.values())
    return None, (_component(root),)


def _component(file: Path) -> Component:
    return tflite.describe_component(file) if names_tflite(file) else onnx.describe_component(file)


def size_at(path: str | Path) -> int:
    """Bytes of the model's files, external data included."""
    root = Path(path).expanduser()
    if is_artifact(root):
        return open_artifact(root).size_bytes
    return sum((root.parent / name).stat().st_size for name in _component(root).files)


def describe(path: str | Path) -> dict[str, JsonValue]:
    """Name, format, size and digest of what lies at a path; of an artifact the digest of its manifest.

    The name is that of a folder given as ``.`` too, and one line, as a record that is read again has to have it.
    """
    root = Path(path).expanduser()
    file = root / MANIFEST if is_artifact(root) else root
    name = visible(Path(os.path.abspath(root)).name).replace("\n", r"\n").replace("\t", r"\t")
    return {"name": name, "format": format_at(path), "bytes": size_at(path), "sha256": sha256_file(file)}
