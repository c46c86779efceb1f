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

from edgekit.artifact import WHOLE, Artifact, Component, Manifest, State, TensorSpec, write_text
from edgekit.cache import Cache, cache_key
from edgekit.errors import ModelError, UsageError
from edgekit.formats.known import subgraphs
from edgekit.formats.onnx import load_graph, precision_of, save_graph
from edgekit.modules import (
    Description,
    Feeding,
    Sample,
    Signature,
    TensorInput,
    class_names,
    find_layout,
    parse_input,
    read_description,
    read_layout,
    read_pixels,
)
from edgekit.source import MODULE, Source, digest_files
from edgekit.tasks.feeds import batch_dimension, fed_inputs, fixed_batch, has_batch

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH = "model.onnx"
WORKER = Path(__file__).with_name("converting.py")
WORKER_SECONDS = 300
# A graph's file, its parsed form, and the converter's two: beside what Python and onnx take themselves.
WORKER_COPIES, WORKER_BYTES = 8, 4 * 1024**3
# protobuf reads no message above 2 GiB.
LARGEST_FILE_BYTES = 2**31 - 1
# Split and Slice take their sizes as inputs, and QuantizeLinear takes an axis, from 13 on: the rewrites write the
# first two, and weights are scaled by output channel.
NEEDED_OPSET = 13
# Operators that onnxruntime's CPU provider has beside ONNX's own.
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# How the output of a state is called beside its input: silero's stateN, torch's hn and cn, and what exporters write.
STATE_ENDINGS = ("N", "n", "_n", "_out", "_output", "_new", "_next", "Out", "Next")
STATE_BEGINNINGS = ("new_", "next_", "out_", "output_", "updated_")
NUMBERS = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


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
    described = _describe_images(model, signature, feeding, sample, file.name) if images else None
    if described is None:
        described = _describe_tensors(model, signature, feeding, file.name)
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


def read_signature(model: ir.Model, said: tuple[str, ...]) -> Signature:
    """What a graph takes and gives, and which of it goes round.

    Args:
        model: the graph.
        said: ``OUT:IN`` of states, by the user; by the names of both where nothing was said.

    Raises:
        ModelError: it takes or gives something else than tensors of numbers.
        UsageError: what was said names no output and input of one type and shape.
    """
    inputs = tuple(_spec(value) for value in model.graph.inputs if value.name not in model.graph.initializers)
    outputs = tuple(_spec(value) for value in model.graph.outputs)
    if not inputs:
        raise ModelError("the graph takes no inputs", id="model.unsuitable-graph", why="nothing could be fed to it")
    for side, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if spec.dtype not in NUMBERS:
                raise ModelError(
                    f"the {side} {spec.name!r} has the type {spec.dtype!r}",
                    id="model.input-type",
                    why=f"allowed: tensors of {', '.join(NUMBERS)}",
                )
    pairs = [_said_pair(text, inputs, outputs) for text in said] or list(_usual_pairs(inputs, outputs))
    states = tuple(
        State(output=output.name, input=spec.name, initial=spec.shape, dtype=spec.dtype) for output, spec in pairs
    )
    signature = Signature(inputs=inputs, outputs=outputs, states=states)
    if not fed_inputs(signature):
        raise ModelError(
            "every input of the graph is a state",
            id="model.unsuitable-graph",
            why=f"outputs that go round: {', '.join(f'{state.output}:{state.input}' for state in states)}",
            hint="Name the states that are meant with --state OUT:IN.",
        )
    fixed = fixed_batch(signature)
    if states and fixed not in (None, 1):
        raise ModelError(
            f"the graph has states and takes {fixed} samples at once",
            id="model.unsuitable-graph",
            why="allowed with states: one sample at once, or any number",
            hint="Export it with a free batch.",
        )
    return signature


def _spec(value: ir.Value) -> TensorSpec:
    import onnx_ir as ir

    tensor = isinstance(value.type, ir.TensorType) and value.dtype is not None
    dtype = value.dtype.numpy().name if tensor and value.dtype is not None else "no tensor"
    if value.dtype == ir.DataType.STRING:
        dtype = "string"
    shape = tuple(
        dim if isinstance(dim, int) else str(dim.value) if dim.value is not None else f"{value.name}_{axis}"
        for axis, dim in enumerate(value.shape or ())
    )
    return TensorSpec(name=str(value.name), dtype=dtype, shape=shape)


def _usual_pairs(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Iterator[tuple[TensorSpec, TensorSpec]]:
    """Outputs that by their names are inputs of the next call, of one type and shape."""
    known = {spec.name: spec for spec in outputs}
    for spec in inputs:
        names = [spec.name + ending for ending in STATE_ENDINGS]
        names += [beginning + spec.name for beginning in STATE_BEGINNINGS]
        names += [spec.name.removesuffix("_in") + "_out"] if spec.name.endswith("_in") else []
        names += [spec.name.replace("past", "present", 1)] if spec.name.startswith("past") else []
        found = next((known[name] for name in names if name in known and _alike(known[name], spec)), None)
        if found is not None:
            yield found, spec


def _said_pair(
    text: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, TensorSpec]:
    before, colon, after = text.partition(":")
    output = next((spec for spec in outputs if spec.name == before), None)
    spec = next((spec for spec in inputs if spec.name == after), None)
    if not colon or output is None or spec is None:
        raise UsageError(
            f"--state {text!r} names no output and input of the graph",
            id="usage.bad-value",
            why=f"allowed: OUT:IN; outputs: {', '.join(one.name for one in outputs)}; "
            f"inputs: {', '.join(one.name for one in inputs)}",
        )
    if not _alike(output, spec):
        raise UsageError(
            f"--state {text!r} cannot go round",
            id="usage.bad-value",
            why=f"{before!r} is {output.dtype} {list(output.shape)}, {after!r} is {spec.dtype} {list(spec.shape)}",
        )
    return output, spec


def _alike(output: TensorSpec, spec: TensorSpec) -> bool:
    """Whether an output can be an input: of one type, and no fixed size contradicts."""
    pairs = zip(output.shape, spec.shape, strict=False)
    sizes = all(one == other or isinstance(one, str) or isinstance(other, str) for one, other in pairs)
    return bool(spec.shape) and output.dtype == spec.dtype and len(output.shape) == len(spec.shape) and sizes


def _describe_tensors(model: ir.Model, signature: Signature, feeding: Feeding, name: str) -> Description:
    """A graph that is fed by the names of its inputs."""
    given = [option for option in ("input", "mean", "std", "preprocess", "layout") if feeding.get(option) is not None]
    if given:
        raise UsageError(
            f"--{given[0]} was given for a graph that is fed by the names of its inputs",
            id="usage.options-conflict",
            why="it is for --task image-classification",
        )
    states = {state.output for state in signature.states}
    answer = next((spec for spec in signature.outputs if spec.name not in states), signature.outputs[0])
    classes = _classes(answer, signature)
    if feeding.get("labels") is not None and not classes:
        raise UsageError(
            "--labels was given, and the graph's first output is no scores of classes",
            id="usage.options-conflict",
            why=f"{answer.name!r} is {list(answer.shape)}; scores are [batch, classes]",
        )
    return Description(
        entry=name,
        input=None,
        output=(classes,) if classes else (),
        labels=class_names(feeding.get("labels"), (), classes) if classes else (),
        graph=signature,
        answer=answer.name,
        probabilities=_ends_in_softmax(model, answer.name),
    )


def _describe_images(
    model: ir.Model, signature: Signature, feeding: Feeding, sample: Sample | None, name: str
) -> Description:
    """A graph that is fed images."""
    fed = fed_inputs(signature)
    if len(fed) != 1 or signature.states or len(fed[0].shape) != 4 or fed[0].dtype != "float32":
        told = ", ".join(f"{spec.name}: {spec.dtype} {list(spec.shape)}" for spec in signature.inputs)
        raise ModelError(
            f"{name!r} takes {told}, which is no batch of images",
            id="model.wrong-task",
            why="allowed: one input, float32 of four dimensions",
            hint="Use --task tensors, with arrays named as the inputs.",
        )
    answer, layout = signature.outputs[0], read_layout(feeding)
    classes = _classes(answer, signature)
    if not classes:
        raise ModelError(
            f"{name!r} answers with {answer.name!r} of the shape {list(answer.shape)}",
            id="model.wrong-task",
            why="scores of classes are [batch, classes]",
            hint="Use --task tensors: the answers are then compared with the original's.",
        )
    shape = _image_shape(fed[0], feeding, sample, layout)
    pixels = read_pixels(shape, feeding, layout or (None if feeding.get("preprocess") else find_layout(shape, None)))
    if pixels is None:
        raise ModelError(
            f"{name!r} takes {'x'.join(map(str, shape))}, which is no image",
            id="model.wrong-task",
            why="an image is 1 or 3 channels, height and width",
            hint="Use --task tensors, with arrays named as the inputs.",
        )
    return Description(
        entry=name,
        input=TensorInput(name=fed[0].name, shape=shape),
        output=(classes,),
        labels=class_names(feeding.get("labels"), sample.classes if sample else (), classes),
        pixels=pixels,
        graph=signature,
        answer=answer.name,
        probabilities=_ends_in_softmax(model, answer.name),
    )


def _image_shape(spec: TensorSpec, feeding: Feeding, sample: Sample | None, layout: str | None) -> tuple[int, ...]:
    """Three sizes in the graph's order: its own, free ones as they were said, else as in the data."""
    said = feeding.get("input")
    shape: tuple[int | str, ...] = spec.shape[1:]
    if said is not None:
        wanted, _ = parse_input(said)
    elif sample is not None and sample.image:
        last = layout == "NHWC" or (layout is None and shape[-1] in (1, 3) and shape[0] not in (1, 3))
        wanted = (*sample.shape[1:], sample.shape[0]) if last else sample.shape
    else:
        wanted = ()
    free = [dim for dim in shape if isinstance(dim, str)]
    if free and len(wanted) != 3:
        raise UsageError(
            f"the input {spec.name!r} has free sizes: {', '.join(free)}",
            id="usage.input-unknown",
            why="neither --input nor images to take an example from were given",
            hint="Give the shape of one batch: --input 1x3x224x224.",
        )
    sizes = [dim if isinstance(dim, int) else wanted[axis] for axis, dim in enumerate(shape)]
    if said is not None and tuple(sizes) != wanted:
        raise UsageError(
            f"--input {said} is not what the graph takes",
            id="usage.bad-value",
            why=f"{spec.name!r} is {list(spec.shape)}, batch first",
        )
    return tuple(sizes)


def _classes(answer: TensorSpec, signature: Signature) -> int:
    """How many classes an output has scores of: [batch, classes], two at least; 0 where it is something else."""
    fits = len(answer.shape) == 2 and has_batch(answer, batch_dimension(signature)) and answer.dtype.startswith("float")
    last = answer.shape[-1] if fits else 0
    return last if isinstance(last, int) and last > 1 else 0


def _ends_in_softmax(model: ir.Model, name: str) -> bool:
    node = next(value.producer() for value in model.graph.outputs if value.name == name)
    return node is not None and node.op_type == "Softmax"


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
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        file = source
        if upgrade and opset < NEEDED_OPSET:
            file = Path(name) / GRAPH
            reason = convert_graph(source, file, NEEDED_OPSET)
            told = f"operator set {opset} to {NEEDED_OPSET}"
            if reason:
                file = source
                refused.append(f"{told}: {reason}")
            else:
                done.append(told)
        model = load_graph(file)
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
