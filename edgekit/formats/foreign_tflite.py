"""TFLite files of others: checked and described, to be measured, scored, asked and inspected; nothing here runs one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from edgekit.artifact import WHOLE, Artifact, Manifest, TensorSpec, write_text
from edgekit.cache import Cache, cache_key, folders_in
from edgekit.description import Feeding, Sample
from edgekit.errors import ModelError
from edgekit.formats.flatbuffer import Graph, Model, load_model
from edgekit.formats.signatures import describe_images, describe_tensors, make_signature
from edgekit.formats.tflite import describe_component
from edgekit.source import MODULE, Source, sha256_file

GRAPH = "model.tflite"
INTEGERS = ("int8", "uint8", "int16")
# Operators that change how numbers are written, and not what they are.
REWRITERS = ("QUANTIZE", "DEQUANTIZE")


def resolve_tflite(location: str | Path, feeding: Feeding, sample: Sample | None, *, images: bool) -> Source:
    """Check a ``.tflite`` file and leave it in the cache, with the description of what it takes.

    Integer outputs that have a scale come back as floats, and are described so.

    Args:
        location: of the file.
        feeding: what the user said of it.
        sample: what the data says of its images; None without data.
        images: whether it is fed images.

    Raises:
        ModelError: there is no such file, it is no TFLite file or a damaged one, or it cannot be fed so.
        UsageError: what was said of it does not fit.
        HostError: the package with the schema is missing.
    """
    file = Path(location).expanduser()
    if not file.is_file():
        raise ModelError(f"there is no file {str(location)!r}", id="model.missing", hint="Check the path.")
    model, part = load_model(file), describe_component(file)
    entry = next(iter(model.entries.values()))
    graph = model.graphs[entry.graph]
    scaled = tuple(spec.name for spec in part.inputs if _has_scale(spec, graph, entry.inputs[spec.name]))
    outputs = tuple(
        spec.model_copy(update={"dtype": "float32"}) if _has_scale(spec, graph, entry.outputs[spec.name]) else spec
        for spec in part.outputs
    )
    signature = make_signature(part.inputs, outputs, feeding.get("state") or (), scaled)
    softmaxed = softmax_outputs(model)
    if images:
        described = describe_images(softmaxed, signature, feeding, sample, file.name)
    else:
        described = describe_tensors(softmaxed, signature, feeding, file.name)
    text = described.model_dump_json(by_alias=True, indent=1) + "\n"
    digest = hashlib.sha256(f"{sha256_file(file)} {hashlib.sha256(text.encode()).hexdigest()}".encode()).hexdigest()
    store = Cache()
    with folders_in(store.scratch()) as scratch:
        folder = scratch()
        shutil.copyfile(file, folder / GRAPH)
        (folder / GRAPH).chmod(0o644)
        write_text(folder / MODULE, text)
        kept = store.put(cache_key("graph", digest), folder)
    return Source(
        location=str(location),
        kind="tflite",
        path=str(kept),
        architecture="TFLite",
        model_type="tflite",
        digest=digest,
        size_bytes=file.stat().st_size,
    )


def tflite_artifact(source: Source, task: str) -> Artifact:
    """A file as ``resolve_tflite`` left it, as something that a runtime can open."""
    folder = Path(source.path)
    part = describe_component(folder / GRAPH)
    return Artifact(folder, Manifest(format="tflite", task=task, source=source.record, components={WHOLE: part}))


def softmax_outputs(model: Model) -> frozenset[str]:
    """Names of the outputs that come out of a softmax, through quantizing or not."""
    entry = next(iter(model.entries.values()))
    writers = {place: operator for operator in model.graphs[entry.graph].operators for place in operator.writes}
    found = set()
    for name, place in entry.outputs.items():
        operator, left = writers.get(place), len(writers)
        while operator is not None and operator.kind in REWRITERS and operator.reads and left:
            operator, left = writers.get(operator.reads[0]), left - 1
        if operator is not None and operator.kind == "SOFTMAX":
            found.add(name)
    return frozenset(found)


def _has_scale(spec: TensorSpec, graph: Graph, place: int) -> bool:
    """Whether integers stand for floats by one scale, as the runtime tells it."""
    return spec.dtype in INTEGERS and graph.tensors[place].scales == 1
