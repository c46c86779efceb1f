"""What a TFLite file says of itself: inputs and outputs, signatures, operators, weights; nothing here runs one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edgekit.artifact import Component, Shape, State, TensorSpec
from edgekit.formats.flatbuffer import Graph, Model, Operator, Signature, Tensor, load_model

BATCH = "batch"
# Operators whose weights are quantized, and the place of these among what they read.
WEIGHTED_KINDS = {
    "FULLY_CONNECTED": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "BATCH_MATMUL": 1,
    "EMBEDDING_LOOKUP": 1,
}
# Operators whose constants of two axes or more are weights: those, and such as no quantizer here takes.
LAYER_KINDS = frozenset(
    (
        *WEIGHTED_KINDS,
        "GATHER",
        "GATHER_ND",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "SVDF",
        "RNN",
        "LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
    )
)
# Types whose elements are weights, and the bits of one; int32 and int64 are shapes and axes.
PRECISIONS = {
    "float32": ("fp32", 32),
    "float16": ("fp16", 16),
    "int8": ("int8", 8),
    "uint8": ("int8", 8),
    "int4": ("int4", 4),
}

Axes = Mapping[str, Mapping[int, str]]


class FloatLayer(NamedTuple):
    """A layer whose weights are float32: the kind of its operator, and the buffers that hold them."""

    kind: str
    buffers: frozenset[int]


def describe_component(file: Path, axes: Axes | None = None, states: tuple[State, ...] = ()) -> Component:
    """What a manifest says of a file: inputs, outputs, precision, and signatures with the sizes that they fix.

    Args:
        file: the graph.
        axes: free dimensions by tensor, number and name, as a task has them. An output that has none gets its first
            dimension called ``batch`` where the inputs have one, and a later one by the name of an input's whose sizes
            it follows over all signatures. Without axes, the free dimensions of the file itself are named.
        states: tensors that go round.

    Raises:
        ModelError: not a TFLite file, or a damaged one.
    """
    model = load_model(file)
    entries = model.entries
    first = next(iter(entries.values()))
    alike = {key: entry for key, entry in entries.items() if entry.inputs.keys() == first.inputs.keys()}
    known = axes or {}
    sizes = {key: _sizes(model, entry, known) for key, entry in alike.items()}
    outputs = {name: known.get(name) or _followed(model, alike, name, sizes, known) for name in first.outputs}
    order = [name for name in known if name in first.inputs]
    order += [name for name in first.inputs if name not in order]
    graph = model.graphs[first.graph]
    return Component(
        files=(file.name,),
        inputs=tuple(_spec(name, graph.tensors[first.inputs[name]], known.get(name, {})) for name in order),
        outputs=tuple(_spec(name, graph.tensors[index], outputs[name]) for name, index in first.outputs.items()),
        precision=precision_of(model),
        states=states,
        signatures={key: fixed for key, fixed in sizes.items() if key},
    )


def axes_of(component: Component) -> dict[str, dict[int, str]]:
    """The named dimensions of a component, to describe another file of the same inputs and outputs."""
    return {
        spec.name: {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in (*component.inputs, *component.outputs)
    }


def batch_notes(parts: Mapping[str, Component], batch: int) -> list[str]:
    """For each component whose signatures fix the batch a sentence that says so.

    Args:
        parts: of an artifact of format ``tflite``.
        batch: samples of one inference, as the workload has them.
    """
    notes = []
    for part in parts.values():
        sizes = sorted({fixed[BATCH] for fixed in part.signatures.values() if BATCH in fixed})
        if sizes:
            calls = f": an inference of {batch} is {-(-batch // sizes[-1])} calls" if batch > sizes[-1] else ""
            fixed = " or ".join(map(str, sizes))
            notes.append(
                f"{part.files[0]}: the batch is fixed at {fixed}, more samples run one call after another{calls}"
            )
    return notes


def count_operators(file: Path | Model) -> dict[str, int]:
    """Operators by kind of one inference, the first signature's; most frequent first."""
    model = file if isinstance(file, Model) else load_model(file)
    kinds = Counter(kind for kind, _, _ in model.graphs[next(iter(model.entries.values())).graph].operators)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def weight_bytes(file: Path | Model) -> dict[str, int]:
    """Bytes of constants by type, a buffer that graphs share counted once; most bytes first."""
    model = file if isinstance(file, Model) else load_model(file)
    buffers = {
        tensor.buffer: (tensor.dtype, tensor.buffer_bytes)
        for graph in model.graphs
        for tensor in graph.tensors
        if tensor.buffer_bytes
    }
    found: Counter[str] = Counter()
    for dtype, size in buffers.values():
        found[dtype] += size
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def steps_of(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Every operator of one inference in order: its kind, and type and shape of each constant that it reads."""
    model = load_model(file)
    graph = model.graphs[next(iter(model.entries.values())).graph]
    read = [[graph.tensors[index] for index in operator.reads if index >= 0] for operator in graph.operators]
    return [
        (operator.kind, tuple(f"{tensor.dtype}{tensor.shape}" for tensor in tensors if tensor.buffer_bytes))
        for operator, tensors in zip(graph.operators, read, strict=True)
    ]


def precision_of(model: Model) -> str:
    """``fp32``, ``fp16``, ``int8`` or ``int4``: what most of the weights' elements are."""
    counts: Counter[str] = Counter()
    for dtype, size in weight_bytes(model).items():
        if dtype in PRECISIONS:
            name, bits = PRECISIONS[dtype]
            counts[name] += size * 8 // bits
    return counts.most_common(1)[0][0] if counts else "fp32"


def hybrid_layers(model: Model) -> list[str]:
    """Names of the layers that read INT8 weights and float activations: the runtime scales these as they come."""
    return [
        layer_of(output_of(graph, operator))
        for graph in model.graphs
        for operator in graph.operators
        if (weight := weight_of(graph, operator)) is not None
        and graph.tensors[weight].dtype in ("int8", "uint8", "int4")
        and graph.tensors[operator.writes[0]].dtype == "float32"
    ]


def float_layers(model: Model) -> dict[str, FloatLayer]:
    """The layers whose weights are float32, by name, in the order in which they run, each once for all signatures.

    Weights that an operator unpacks first (FP16, weight-only INT8) are no constants of the layer, and not float here.
    """
    found: dict[str, FloatLayer] = {}
    for graph in model.graphs:
        for operator in graph.operators:
            read = [graph.tensors[index] for index in operator.reads if index >= 0]
            weights = [one for one in read if one.buffer_bytes and one.dtype == "float32" and len(one.shape) > 1]
            if operator.kind in LAYER_KINDS and weights:
                buffers = frozenset(one.buffer for one in weights)
                found.setdefault(layer_of(output_of(graph, operator)), FloatLayer(operator.kind, buffers))
    return found


def layer_of(tensor: str) -> str:
    """The name of a tensor without the signature that its graph belongs to."""
    return tensor.rpartition("/")[2]


def output_of(graph: Graph, operator: Operator) -> str:
    """The name of what an operator writes first."""
    return graph.tensors[operator.writes[0]].name


def weight_of(graph: Graph, operator: Operator) -> int | None:
    """The constant that a layer multiplies with or looks up in; None where it has none that is worth quantizing."""
    place = WEIGHTED_KINDS.get(operator.kind)
    if place is None or place >= len(operator.reads) or operator.reads[place] < 0:
        return None
    tensor = graph.tensors[operator.reads[place]]
    return operator.reads[place] if tensor.buffer_bytes and elements_of(tensor.shape) else None


def elements_of(shape: tuple[int, ...]) -> int:
    """Elements of a tensor of this shape."""
    found = 1
    for size in shape:
        found *= size
    return found


def _sizes(model: Model, entry: Signature, axes: Axes) -> dict[str, int]:
    """The named dimensions that a signature fixes."""
    tensors = model.graphs[entry.graph].tensors
    found = {
        dim: tensors[entry.inputs[name]].shape[axis]
        for name, named in axes.items()
        if name in entry.inputs
        for axis, dim in named.items()
    }
    return {dim: size for dim, size in found.items() if size >= 0}


def _followed(
    model: Model, entries: Mapping[str, Signature], name: str, sizes: Mapping[str, Mapping[str, int]], axes: Axes
) -> dict[int, str]:
    """The dimensions of an output that are an input's, told by their sizes over all signatures."""
    shapes = [model.graphs[entry.graph].tensors[entry.outputs[name]].shape for entry in entries.values()]
    dims = {dim: [fixed[dim] for fixed in sizes.values()] for dim in next(iter(sizes.values()))}
    found = {0: BATCH} if shapes[0] and any(named.get(0) == BATCH for named in axes.values()) else {}
    for axis in range(1, len(shapes[0])):
        over_all = [shape[axis] for shape in shapes]
        if len(set(over_all)) > 1:
            found.update((axis, dim) for dim, values in dims.items() if values == over_all)
    return found


def _spec(name: str, tensor: Tensor, named: Mapping[int, str]) -> TensorSpec:
    free = {axis: "batch" if axis == 0 else f"{name}_{axis}" for axis, size in enumerate(tensor.shape) if size < 0}
    names = free | dict(named)
    shape: Shape = tuple(names.get(axis, size) for axis, size in enumerate(tensor.shape))
    return TensorSpec(name=name, dtype=tensor.dtype, shape=shape)
