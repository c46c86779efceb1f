"""Graphs of others: found, checked, described, and made usable.

A file of a stranger may be old, damaged or hostile. It is checked before anything else looks at it, by programs whose
memory is bounded, and nothing outside its folder is read. What edgekit's rewrites and quantizer need is then done to a
copy: a newer operator set, weights that are no inputs, names, shapes. Whether the copy answers as the file does is for
the caller to find out, since nothing here runs a graph.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artifact import WHOLE, Artifact, Component, Manifest, write_text
from edgekit.cache import Cache, cache_key, temporary
from edgekit.description import (
    Feeding,
    Sample,
    read_description,
)
from edgekit.errors import ModelError
from edgekit.formats.known import subgraphs
from edgekit.formats.onnx import load_graph, precision_of, save_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.formats.signatures import describe_images, describe_tensors, read_signature, softmax_outputs
from edgekit.source import MODULE, Source, digest_files
from edgekit.tasks.base import Workload
from edgekit.tasks.feeds import free_size

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH = "model.onnx"
WORKER = Path(__file__).with_name("converting.py")
WORKER_SECONDS = 300
# A graph's file, its parsed form, and the converter's two: beside what Python and onnx take themselves.
WORKER_COPIES, WORKER_BYTES = 8, 4 * 1024**3
# protobuf reads no message above 2 GiB.
LARGEST_FILE_BYTES = 2**31 - 1
LARGEST_VALUE_BYTES = 16 * 1024**3
# Split and Slice take their sizes as inputs, and QuantizeLinear takes an axis, from 13 on: the rewrites write the
# first two, and weights are scaled by output channel.
NEEDED_OPSET = 13
# Operators that onnxruntime's CPU provider has beside ONNX's own.
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def resolve_graph(location: str | Path, feeding: Feeding, sample: Sample | None, *, images: bool) -> Source:
    """Check an ``.onnx`` file and leave it in the cache, with the description of what it takes.

    Args:
        location: of the file; external data lies beside it.
        feeding: what the user said of it.
        sample: what the data says of its images; None without data.
        images: whether it is fed images.

    Raises:
        ModelError: there is no such file, it is no valid graph, or it cannot be fed so.
        UsageError: what was said of it does not fit.
    """
    file = Path(location).expanduser()
    if not file.is_file():
        raise ModelError(f"there is no file {str(location)!r}", id="model.missing", hint="Check the path.")
    parts = [file, *check_graph(file)]
    model = load_graph(file)
    signature = read_signature(model, feeding.get("state") or ())
    _check_sizes(file)
    softmaxed = softmax_outputs(model)
    described = describe_images(softmaxed, signature, feeding, sample, file.name) if images else None
    if described is None:
        described = describe_tensors(softmaxed, signature, feeding, file.name)
    text = described.model_dump_json(by_alias=True, indent=1) + "\n"
    digest = hashlib.sha256(f"{digest_files(file.parent, parts)} {hashlib.sha256(text.encode()).hexdigest()}".encode())
    store = Cache()
    folder = store.scratch()
    for part in parts:
        copied = folder / (GRAPH if part == file else part.relative_to(file.parent))
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part, copied)
        copied.chmod(0o644)
    write_text(folder / MODULE, text)
    return Source(
        location=str(location),
        kind="onnx",
        path=str(store.put(cache_key("graph", digest.hexdigest()), folder)),
        architecture=model.producer_name or "ONNX",
        model_type="onnx",
        digest=digest.hexdigest(),
        size_bytes=sum(part.stat().st_size for part in parts),
    )


def graph_files(folder: Path) -> list[Path]:
    """The files of a graph as ``resolve_graph`` left it: the graph first, its external data after it."""
    return [folder / GRAPH, *_external_files(load_graph(folder / GRAPH), folder / GRAPH)]


def graph_component(folder: Path) -> Component:
    """What a manifest says of a graph as ``resolve_graph`` left it."""
    signature = read_description(folder).graph
    assert signature is not None  # resolve_graph writes it
    model = load_graph(folder / GRAPH)
    return Component(
        files=tuple(file.relative_to(folder).as_posix() for file in graph_files(folder)),
        inputs=signature.inputs,
        outputs=signature.outputs,
        precision=precision_of(model),
        states=signature.states,
    )


def graph_artifact(source: Source, task: str) -> Artifact:
    """A graph as ``resolve_graph`` left it, as something that a runtime can open."""
    folder = Path(source.path)
    part = graph_component(folder)
    return Artifact(folder, Manifest(format="onnx", task=task, source=source.record, components={WHOLE: part}))


def check_graph(file: Path) -> list[Path]:
    """Check a file before anything else looks at it, and give the files of its external data.

    Raises:
        ModelError: it is no valid graph, lacks external data, has operators that nobody knows, or takes no numbers.
    """
    if file.stat().st_size > LARGEST_FILE_BYTES:
        raise ModelError(
            f"{file.name!r} has {file.stat().st_size} bytes",
            id="model.invalid-onnx",
            why=f"allowed: {LARGEST_FILE_BYTES}; larger weights lie in files beside the graph",
        )
    try:
        model = load_graph(file)
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:  # onnx_ir on protobuf that is no graph
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=first) from error
    external = _external_files(model, file)
    _check_operators(model, file)
    refused = _ask_worker({"file": str(file.resolve())}, file.stat().st_size)
    if refused:
        raise ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=refused)
    return external


def _check_operators(model: ir.Model, file: Path) -> None:
    own = {domain for domain, *_ in model.functions}
    strange = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in _all_nodes(model.graph)
            if node.domain not in KNOWN_DOMAINS and node.domain not in own
        }
    )
    if strange:
        raise ModelError(
            f"{file.name!r} has operators that onnxruntime does not know: {', '.join(strange[:5])}",
            id="model.unknown-operator",
            why=f"allowed: those of {', '.join(domain for domain in KNOWN_DOMAINS if domain)}",
        )


def _check_sizes(file: Path) -> None:
    """Check that no single value is larger than a machine could hold, by inference, which computes no large value.

    Raises:
        ModelError: one is.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import InlinePass

    model = load_graph(file)
    if model.functions:
        InlinePass()(model)
    sizes = {
        str(dim.value): free_size(str(dim.value), axis, Workload())
        for value in model.graph.inputs
        for axis, dim in enumerate(value.shape or ())
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }
    for value, known in infer_shapes(model, sizes).known.items():
        if (known.nbytes or 0) > LARGEST_VALUE_BYTES:
            raise ModelError(
                f"{file.name!r} makes {value.name!r} of {known.nbytes} bytes",
                id="model.unsuitable-graph",
                why=f"allowed for a single value: {LARGEST_VALUE_BYTES}",
            )


def _all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in graph:
        yield node
        for inner in subgraphs(node).values():
            yield from _all_nodes(inner)


def _all_tensors(graph: ir.Graph) -> Iterator[Any]:
    import onnx_ir as ir

    yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR:
                yield attribute.as_tensor()
        for inner in subgraphs(node).values():
            yield from _all_tensors(inner)


def _external_files(model: ir.Model, file: Path) -> list[Path]:
    """The files that hold weights, sorted; each is there, in the graph's folder, and as long as the graph says.

    Raises:
        ModelError: one is not.
    """
    import onnx_ir as ir

    folder, found = file.resolve().parent, set()
    for tensor in _all_tensors(model.graph):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        place = (folder / str(tensor.location)).resolve()
        if not place.is_relative_to(folder):
            raise ModelError(
                f"{file.name!r} keeps weights outside its own folder, in {str(tensor.location)!r}",
                id="model.no-external-data",
                why="nothing but what lies beside a graph, or below it, is read",
            )
        needed = (tensor.offset or 0) + (tensor.length if tensor.length is not None else tensor.nbytes)
        if not place.is_file() or place.stat().st_size < needed:
            length = f"has {place.stat().st_size} bytes, needed: {needed}" if place.is_file() else "is not there"
            raise ModelError(
                f"{file.name!r} keeps weights in {str(tensor.location)!r}, which {length}",
                id="model.no-external-data",
                hint="Put the file beside the graph, as it was exported.",
            )
        found.add(place)
    return [file.parent / place.relative_to(folder) for place in sorted(found)]


@dataclass(frozen=True)
class Adoption:
    """What was done to a copy of a graph.

    Attributes:
        done: what, in words.
        refused: what could not be done, with the reason.
    """

    done: tuple[str, ...]
    refused: tuple[str, ...]


def adopt_graph(source: Path, destination: Path, *, upgrade: bool = True) -> Adoption:
    """Write a copy of a graph that edgekit's rewrites and quantizer can work on.

    Args:
        source: the file given, checked.
        destination: the new file.
        upgrade: False leaves operator set and operators as they are, and only names and places change.

    Raises:
        ModelError: the graph cannot be read.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import (
        InlinePass,
        LiftConstantsToInitializersPass,
        NameFixPass,
        RemoveInitializersFromInputsPass,
        ShapeInferencePass,
    )

    done, refused = [], []
    opset = opset_of(load_graph(source))
    with temporary() as scratch:
        file = source
        if upgrade and opset < NEEDED_OPSET:
            file = scratch / GRAPH
            reason = convert_graph(source, file, NEEDED_OPSET)
            told = f"operator set {opset} to {NEEDED_OPSET}"
            if reason:
                file = source
                refused.append(f"{told}: {reason}")
            else:
                done.append(told)
        model = ir.external_data.load_to_model(load_graph(file))  # what lies beside the source is not beside the copy
        given = sum(value.name in model.graph.initializers for value in model.graph.inputs)
        if model.functions:
            InlinePass()(model)
            done.append("functions inlined")
        if given:
            RemoveInitializersFromInputsPass()(model)
            done.append(f"{given} weights are no inputs any more")
        unnamed = sum(not node.name for node in _all_nodes(model.graph))
        for change in (LiftConstantsToInitializersPass(), NameFixPass()):
            change(model)
        if unnamed:
            done.append(f"{unnamed} nodes named")
        if upgrade:
            folded = _fold_batch_norms(model)
            if folded:
                done.append(f"{folded} batch norms folded into convolutions")
        model = ShapeInferencePass()(model).model
        for value in _all_values(model.graph):  # what inference makes of a free dimension without a name
            if value.shape is not None and any(
                isinstance(dim, ir.SymbolicDim) and dim.value is None for dim in value.shape
            ):
                value.shape = None
        save_graph(model, destination)
    return Adoption(tuple(done), tuple(refused))


def opset_of(model: ir.Model) -> int:
    """The version of ONNX's own operators that a graph is written in."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))


def convert_graph(source: Path, destination: Path, opset: int) -> str:
    """Write a graph in another operator set, in a process of its own; why it cannot be, empty where it was."""
    spec = {"file": str(source.resolve()), "opset": opset, "into": str(destination)}
    return _ask_worker(spec, source.stat().st_size)


def _ask_worker(spec: dict[str, Any], size_bytes: int) -> str:
    """What the program beside this file has against a graph."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        file = Path(name) / "spec.json"
        memory = WORKER_BYTES + WORKER_COPIES * size_bytes
        file.write_text(json.dumps({**spec, "memory_bytes": memory}), encoding="utf-8")
        command = [sys.executable, "-P", str(WORKER), str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=WORKER_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"onnx gave no answer in {WORKER_SECONDS} s"
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"onnx ended with code {done.returncode}"]
        return last[0]
    return str(json.loads(done.stdout)["refused"])


def _fold_batch_norms(model: ir.Model) -> int:
    """Fold batch norms into the convolutions before them, by onnxscript's rules; how many."""
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules.common import fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_gemm_rule

    before = sum(node.op_type == "BatchNormalization" for node in model.graph)
    if before:
        rewrite(model, [fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_gemm_rule])
    return before - sum(node.op_type == "BatchNormalization" for node in model.graph)


def _all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs
