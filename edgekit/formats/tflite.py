"""TFLite: export of one component without TensorFlow, and what a file says of itself; nothing here runs one.

Texts get a *signature* for each of a few fixed lengths, all on the same weights: a free number of tokens keeps the
runtime's fast kernels away. Images keep a free batch where the graph does not compute with it, else a batch of one.
Inputs have the layout and the names that the task gives them, as in an ONNX export, so that one set of arrays feeds
every format; integers are int32, as TFLite wants them.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import Component, Shape, State, TensorSpec, write_bytes
from edgekit.errors import ModelError, UsageError
from edgekit.formats.explicit import with_named_outputs
from edgekit.formats.flatbuffer import Graph, Model, Operator, Signature, Tensor, load_model, read_model, require
from edgekit.formats.onnx import PRODUCER, dynamic_shapes
from edgekit.tasks.base import ComponentSpec

if TYPE_CHECKING:
    import torch

LENGTHS = (32, 64, 128)
BATCH, SEQUENCE = "batch", "sequence"
SIGNATURE = "serving_default"  # TFLite's name for the only signature
# Operators whose weights are quantized, and the place of these among what they read.
WEIGHTED_KINDS = {
    "FULLY_CONNECTED": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "BATCH_MATMUL": 1,
    "EMBEDDING_LOOKUP": 1,
}
SMALL_TYPES = ("int8", "float16", "int4")
COMPUTED_SHAPE = "SHAPE"  # the operator that begins arithmetic on shapes at run time
# Types whose elements are weights, and the bits of one; int32 and int64 are shapes and axes.
PRECISIONS = {
    "float32": ("fp32", 32),
    "float16": ("fp16", 16),
    "int8": ("int8", 8),
    "uint8": ("int8", 8),
    "int4": ("int4", 4),
}
WEIGHTED_MODULES = tuple(f"torch.nn.modules.{kind}." for kind in ("linear", "conv", "sparse"))
# What torch and jax raise for a model that cannot be converted.
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError)

Axes = Mapping[str, Mapping[int, str]]


def export_component(spec: ComponentSpec, file: Path, lengths: Sequence[int] = LENGTHS) -> None:
    """Export a component through ``torch.export`` and litert-torch.

    Args:
        spec: the component.
        file: the new file.
        lengths: of texts, in tokens: one signature each, ``tokens_32``. Ignored where no input has a free length.

    Raises:
        ModelError: torch or litert-torch cannot export it; the reason is theirs.
        UsageError: a length that the model does not take, or none.
        HostError: a package of the extra is missing.
    """
    require()
    if any(SEQUENCE in axes.values() for axes in spec.axes.values()):
        content = _convert(spec, _text_samples(spec, lengths))
    else:
        content = _convert_images(spec)
    write_bytes(file, content)


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


def _text_samples(spec: ComponentSpec, lengths: Sequence[int]) -> dict[str, dict[str, torch.Tensor]]:
    """One text of each length, by the name of its signature."""
    most = spec.limits.get(SEQUENCE)
    wrong = [length for length in lengths if length < 1 or (most is not None and length > most)]
    if wrong or not lengths:
        raise UsageError(
            f"texts of {', '.join(map(str, wrong)) or 'no'} tokens were asked for",
            id="usage.workload",
            why=f"the model takes 1 to {most or 'any number of'} tokens, and a TFLite file has at least one length",
        )
    return {f"tokens_{length}": sized(spec, {BATCH: 1, SEQUENCE: length}) for length in sorted(set(lengths))}


def sized(spec: ComponentSpec, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """The component's example with its free dimensions cut or repeated to these sizes."""
    import torch

    found = {}
    for name, value in spec.example.items():
        for axis, dim in spec.axes.get(name, {}).items():
            if dim in sizes:
                value = value.index_select(axis, torch.arange(sizes[dim]) % value.shape[axis])  # noqa: PLW2901
        found[name] = value
    return found


def _convert_images(spec: ComponentSpec) -> bytes:
    """With a free batch where that needs no arithmetic on shapes, which keeps fast kernels away; else with one of 1."""
    try:
        content = _convert(spec, {SIGNATURE: spec.example}, free=True)
        if COMPUTED_SHAPE not in count_operators(read_model(content, SIGNATURE)):
            return content
    except ModelError:  # litert-torch has no free size for most operators that reshape
        pass
    return _convert(spec, {SIGNATURE: sized(spec, {BATCH: 1})})


def _convert(spec: ComponentSpec, samples: Mapping[str, dict[str, torch.Tensor]], *, free: bool = False) -> bytes:
    """A file with a signature for each sample.

    Raises:
        ModelError: torch or litert-torch cannot convert it.
    """
    with _quiet():
        import litert_torch
        from litert_converter.mlir.ir import MLIRError

        module = with_named_outputs(spec)
        converter = litert_torch.Converter()
        for name, sample in samples.items():
            converter.add_signature(name, module, (), sample, dynamic_shapes=dynamic_shapes(spec) if free else None)
        try:
            content = bytes(converter.convert().model_content())
        except (*REFUSALS, MLIRError) as error:
            raise ModelError(
                "litert-torch cannot export this model to TFLite",
                id="model.export-fails",
                why=(str(error).strip() or type(error).__name__).splitlines()[0],
                hint="The exporter's own report follows with EDGEKIT_DEBUG=1.",
            ) from error
    return _renamed(content)


def _renamed(content: bytes) -> bytes:
    """The file with short names for its tensors, after their signature's where there are several.

    litert-torch spells out every class on the way, hundreds of letters a tensor. What a layer with weights gives is
    named as the layer; other tensors of the same module get numbers.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    model.description = PRODUCER
    structure = read_model(content, PRODUCER)
    for key, entry in structure.signatures.items():
        graph = structure.graphs[entry.graph]
        prefix = f"{key}/" if len(structure.signatures) > 1 else ""
        names = {place: name for ends in (entry.inputs, entry.outputs) for name, place in ends.items()}
        weighted = [
            place for operator in graph.operators if operator.kind in WEIGHTED_KINDS for place in operator.writes
        ]
        others = [place for operator in graph.operators for place in operator.writes]
        used: Counter[str] = Counter()
        for place in dict.fromkeys((*names, *weighted, *others, *range(len(graph.tensors)))):
            name = names.get(place) or short_name(graph.tensors[place].name)
            used[name] += 1
            suffix = f":{used[name]}" if used[name] > 1 else ""
            model.subgraphs[entry.graph].tensors[place].name = f"{prefix}{name}{suffix}".encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def short_name(name: str) -> str:
    """The path of attributes in litert-torch's name of a tensor; its own name where it has none.

    Of several places that were fused, it is that of a layer with weights: ``x.Component/x.Classifier_module/
    x.BertModel_bert/torch.nn.modules.linear.Linear_dense;2`` is ``bert.dense``.
    """
    places = [part for part in name.split(";") if "/" in part]
    if not places:
        return name
    found = next((part for part in places if part.rpartition("/")[2].startswith(WEIGHTED_MODULES)), places[0])
    steps = [step.rpartition(".")[2].partition("_")[2] for step in found.split("/")[2:]]
    return ".".join(step for step in steps if step) or name


@contextmanager
def _quiet() -> Iterator[None]:
    """litert-torch prints each step on standard output, which is edgekit's; it and jax log and warn of their own."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
