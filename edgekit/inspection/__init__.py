"""What a model is made of, told without running it: a transformers folder, a graph's file, an artifact."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from edgekit.artifact import SUMS, WHOLE, Artifact, is_artifact, open_artifact
from edgekit.errors import ModelError
from edgekit.inspection.graphs import inspect_graph
from edgekit.inspection.networks import CONFIG, inspect_network
from edgekit.inspection.records import ArtifactRecord, FileRecord, GraphRecord, InspectRecord, MadeRecord
from edgekit.inspection.tflites import inspect_tflite
from edgekit.modules import names_code
from edgekit.report import FILE as REPORT
from edgekit.report import load_report
from edgekit.source import GRAPH_SUFFIX, TFLITE_SUFFIX, resolve_source, weight_files
from edgekit.tasks.base import Workload

# organisation/name, as on the hub
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def inspect(path: str | Path, *, workload: Workload | None = None) -> InspectRecord:
    """What a model is made of: inputs, outputs, parameters, layers, operators, quantization, work, memory.

    Work and memory are estimates for one workload, each with the rule by which it was made. Nothing is run, and no
    code that comes with a model is imported.

    Args:
        path: an artifact, an ``.onnx`` or ``.tflite`` file of any origin, a transformers folder, or a hub id.
        workload: what one inference is; 1 x 128 tokens by default.

    Raises:
        ModelError: nothing there, or nothing that can be read.
        ArtifactError: an artifact whose manifest or plan cannot be read.
    """
    work, place = workload or Workload(), Path(path).expanduser()
    if is_artifact(place):
        return _artifact(open_artifact(place), work)
    if place.is_file():
        return _graph(place, work)
    if place.is_dir():
        return _folder(place, work)
    if HUB_ID.fullmatch(str(path)) and not place.parent.is_dir():
        return _folder(Path(resolve_source(path).path), work, str(path))
    raise _nothing_at(place)


def _graph(file: Path, workload: Workload) -> InspectRecord:
    if file.suffix not in (GRAPH_SUFFIX, TFLITE_SUFFIX):
        raise ModelError(
            f"{str(file)!r} is no file that edgekit can read",
            id="model.not-a-model",
            why=f"allowed: an {GRAPH_SUFFIX} or {TFLITE_SUFFIX} file, a transformers folder, or an artifact",
        )
    inspector = inspect_tflite if file.suffix == TFLITE_SUFFIX else inspect_graph
    record = inspector(file, workload, WHOLE)
    return InspectRecord(
        name=file.name,
        kind="graph",
        size_bytes=_size(record.files),
        workload=workload.model_dump(),
        graphs=(record,),
        notes=tuple(_notes(record)),
    )


def _folder(folder: Path, workload: Workload, name: str | None = None) -> InspectRecord:
    if not (folder / CONFIG).is_file():
        graphs = sorted(file.name for file in folder.glob(f"*{GRAPH_SUFFIX}"))
        raise ModelError(
            f"{str(folder)!r} is no model folder",
            id="model.not-a-model",
            why=f"it has no {CONFIG}, and is no artifact",
            hint=f"It holds {', '.join(graphs[:3])}: give the path of one of these files." if graphs else "",
        )
    network = inspect_network(folder, workload)
    return InspectRecord(
        name=name or folder.resolve().name,
        kind="folder",
        size_bytes=_size(network.files),
        workload=workload.model_dump(),
        network=network,
    )


def _artifact(artifact: Artifact, workload: Workload) -> InspectRecord:
    manifest = artifact.manifest
    graphs: tuple[GraphRecord, ...] = ()
    if artifact.format == "onnx":
        graphs = tuple(
            inspect_graph(artifact.file(name), workload, name, part.states)
            for name, part in manifest.components.items()
        )
    elif artifact.format == "tflite":
        graphs = tuple(
            inspect_tflite(artifact.file(name), workload, name, part, part.states)
            for name, part in manifest.components.items()
        )
    has_weights = artifact.format == "torch" and weight_files(artifact.path)
    architecture = manifest.source.get("architecture") or ""
    return InspectRecord(
        name=artifact.path.resolve().name,
        kind="artifact",
        size_bytes=artifact.size_bytes,
        workload=workload.model_dump(),
        artifact=_facts(artifact),
        graphs=graphs,
        network=inspect_network(artifact.path, workload, architecture) if has_weights else None,
        notes=tuple(note for graph in graphs for note in _notes(graph)),
    )


def _facts(artifact: Artifact) -> ArtifactRecord:
    manifest = artifact.manifest
    report = load_report(artifact.path) if (artifact.path / REPORT).is_file() else None
    details = {stage.stage: stage.details for stage in report.stages} if report else {}
    return ArtifactRecord(
        format=artifact.format,
        task=manifest.task,
        labels=manifest.labels,
        source=manifest.source,
        target=manifest.target,
        stages=tuple(
            MadeRecord(
                stage=stage.stage,
                version=stage.version,
                settings=stage.settings,
                details=details.get(stage.stage, {}),
            )
            for stage in manifest.stages
        ),
        data=manifest.data,
        sealed=(artifact.path / SUMS).is_file(),
        folder_bytes=artifact.folder_bytes,
        status=report.status if report else "",
    )


def _size(files: tuple[FileRecord, ...]) -> int:
    return sum(file.size_bytes or 0 for file in files)


def _notes(graph: GraphRecord) -> list[str]:
    """What could not be told of a graph."""
    if graph.format == "tflite" and len(graph.signatures) > 1:
        return [f"{graph.component}: operators and layers are those of the first of {len(graph.signatures)} signatures"]
    notes = [
        f"the external data {file.name!r} is not there, or not in the graph's folder: its size is not counted"
        for file in graph.files
        if file.size_bytes is None
    ]
    if graph.strange:
        notes.append(f"{graph.component}: the shapes behind these operators are not known: {', '.join(graph.strange)}")
    if graph.free:
        names = ", ".join(graph.free)
        notes.append(f"{graph.component}: the workload does not say how large these are: {names} (images: --image N)")
    return notes


def _nothing_at(place: Path) -> ModelError:
    """The error of a path that leads nowhere, with the names beside it that are alike."""
    folder = place.parent
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(place.name, names, n=3, cutoff=0.5)
    code = "A module given as code is not inspected: inspect the artifact that compress makes of it."
    guess = " or ".join(repr(str(folder / name) if str(folder) != "." else name) for name in near)
    return ModelError(
        f"there is nothing at {str(place)!r}",
        id="model.missing",
        why=f"allowed: an artifact, an {GRAPH_SUFFIX} or {TFLITE_SUFFIX} file, a transformers folder, or a hub id",
        hint=code if names_code(place) else f"Did you mean {guess}?" if guess else "",
    )
