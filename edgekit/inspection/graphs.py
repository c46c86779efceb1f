"""An ``.onnx`` file of any origin as a record: nothing is run, and weights above a few kilobytes are not even read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgekit.artifact import State
from edgekit.errors import ModelError
from edgekit.formats.converting import look_at_tensors
from edgekit.formats.integers import Quantized, quantized_layer
from edgekit.formats.known import Shapes, kind_of, label
from edgekit.formats.layers import (
    Layer,
    constants,
    find_layers,
    fixed_values,
    parameters_of,
    precision_name,
    precision_of_node,
)
from edgekit.formats.liveness import RULE as MEMORY_RULE
from edgekit.formats.liveness import find_peak
from edgekit.formats.onnx import load_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.formats.wellformed import check_names, inline_functions
from edgekit.formats.work import RULE as WORK_RULE
from edgekit.formats.work import Work, all_nodes, count_work
from edgekit.inspection.records import (
    FileRecord,
    GraphRecord,
    LayerRecord,
    MemoryRecord,
    OperatorRecord,
    QuantizationRecord,
    TensorRecord,
    WeightsRecord,
    WorkRecord,
)
from edgekit.tasks.base import Workload

if TYPE_CHECKING:
    import onnx_ir as ir

BATCH_WORDS, IMAGE_WORDS, LENGTH_WORDS = ("batch",), ("height", "width"), ("seq", "token", "length", "time")


def inspect_graph(file: Path, workload: Workload, component: str, states: tuple[State, ...] = ()) -> GraphRecord:
    """A graph at one workload.

    Args:
        file: the graph; external data lies beside it.
        workload: what its free dimensions are set to.
        component: its name.
        states: outputs that become inputs, where that is known.

    Raises:
        ModelError: not a readable graph.
    """
    try:
        return _describe(file, workload, component, states)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = _invalid_because(file)
        if reason is None:  # a valid graph: then the fault is here
            raise
        raise ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=reason) from error


def _describe(file: Path, workload: Workload, component: str, states: tuple[State, ...]) -> GraphRecord:
    try:
        model = load_graph(file)
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:  # onnx_ir on protobuf that is no graph
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=first) from error
    check_names(model, file)
    functions = inline_functions(model, file)
    sizes, free = bind_dimensions(model.graph, workload)
    shapes = infer_shapes(model, sizes)
    work = count_work(model.graph, shapes)
    fixed = fixed_values(model.graph)
    layers = list(find_layers(model.graph, shapes, fixed))
    quantized = [(node, found) for node in all_nodes(model.graph) if (found := quantized_layer(node, shapes))]
    weights = _weights(model.graph, shapes)
    integer_nodes = {node for node, _ in quantized}
    held = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    return GraphRecord(
        component=component,
        files=_files(file, model),
        opsets={domain or "": version for domain, version in model.opset_imports.items()},
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        ir_version=model.ir_version,
        functions=functions,
        sizes=sizes,
        free=free,
        inputs=tuple(_tensor(value, shapes) for value in held),
        outputs=tuple(_tensor(value, shapes) for value in model.graph.outputs),
        states=states,
        parameters=sum(part.parameters for part in weights),
        weights=weights,
        operators=_operators(model.graph, shapes, work),
        layers=tuple(_layer(layer, work) for layer in layers),
        quantization=_group(quantized),
        layers_in_float=sum(layer.node not in integer_nodes for layer in layers),
        work=_work(work),
        memory=_memory(model.graph, shapes, fixed),
        strange=tuple(sorted(shapes.strange)),
        refused={label(node): reason for node, reason in shapes.refused.items()},
    )


def bind_dimensions(graph: ir.Graph, workload: Workload) -> tuple[dict[str, int], tuple[str, ...]]:
    """A size for each free dimension of the inputs, and the names of those that the workload does not tell.

    By name where it has one of the words above, else by place: the first axis is the batch, the last two of four are an
    image's height and width, any other is the length of a text. A sum of named dimensions is added up.
    """
    import onnx_ir as ir

    axes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for value in graph.inputs:
        shape = value.shape
        if shape is None:
            continue
        # a free dimension without a name gets one, so that it can be told apart
        named = [
            f"{value.name}[{axis}]" if isinstance(dim, ir.SymbolicDim) and dim.value is None else dim
            for axis, dim in enumerate(shape)
        ]
        value.shape = ir.Shape(named)
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, ir.SymbolicDim):
                axes[str(dim.value)].append((axis, len(shape)))
    sizes: dict[str, int] = {}
    for name, places in axes.items():
        size = _size_of(name, places, workload)
        if size is not None:
            sizes[name] = size
    for name in axes:
        total = _sum(name, sizes)
        if total is not None:
            sizes[name] = total
    return sizes, tuple(name for name in axes if name not in sizes)


def _size_of(name: str, places: list[tuple[int, int]], workload: Workload) -> int | None:
    words = name.lower()
    if "+" in words:
        return None
    if any(word in words for word in BATCH_WORDS):
        return workload.batch
    if any(word in words for word in IMAGE_WORDS):
        return workload.image
    if any(word in words for word in LENGTH_WORDS):
        return workload.tokens
    if all(axis == 0 for axis, _ in places):
        return workload.batch
    if all(rank == 4 for _, rank in places):
        return workload.image if all(axis > 1 for axis, _ in places) else None
    return workload.tokens


def _sum(name: str, sizes: dict[str, int]) -> int | None:
    """A dimension such as ``past_sequence_length + 1``."""
    parts = [part.strip() for part in name.split("+")]
    if len(parts) < 2:
        return None
    known = [int(part) if re.fullmatch(r"\d+", part) else sizes.get(part) for part in parts]
    return None if None in known else sum(size for size in known if size is not None)


def _invalid_because(file: Path) -> str | None:
    """What onnx's checker has against a file, or what it does not see; None where there is nothing."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        look_at_tensors(str(file))
        onnx.checker.check_model(onnx.load(file, load_external_data=False))
    except (onnx.checker.ValidationError, DecodeError, ValueError) as error:
        return str(error).strip().partition("\n")[0]
    return None


def _files(file: Path, model: ir.Model) -> tuple[FileRecord, ...]:
    """The graph and its external data. A place outside the folder is named and not looked at."""
    folder, names = file.resolve().parent, dict.fromkeys(_external(model.graph))
    found = [FileRecord(name=file.name, size_bytes=file.stat().st_size)]
    for name in names:
        path = folder / name
        inside = path.resolve().is_relative_to(folder)
        found.append(FileRecord(name=name, size_bytes=path.stat().st_size if inside and path.is_file() else None))
    return tuple(found)


def _external(graph: ir.Graph) -> Iterator[str]:
    import onnx_ir as ir

    for value in constants(graph):
        tensor = ir.convenience.get_const_tensor(value)
        if isinstance(tensor, ir.ExternalTensor):
            yield str(tensor.location)


def _tensor(value: ir.Value, shapes: Shapes) -> TensorRecord:
    known = shapes.of(value)
    shape = tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape or ())
    kind = kind_of(value) or known.kind
    return TensorRecord(
        name=cast("str", value.name),
        dtype="unknown" if kind is None else kind.numpy().name,
        shape=shape,
        at=known.shape or (),
    )


def _weights(graph: ir.Graph, shapes: Shapes) -> tuple[WeightsRecord, ...]:
    """Parameters by precision, the most first."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for value in constants(graph):
        parameters = parameters_of(value, shapes)
        if parameters:
            known = shapes.of(value)
            assert known.kind is not None
            counts[precision_name(known.kind)] += parameters
            sizes[precision_name(known.kind)] += known.nbytes or 0
    return tuple(
        WeightsRecord(precision=name, parameters=count, size_bytes=sizes[name]) for name, count in counts.most_common()
    )


def _operators(graph: ir.Graph, shapes: Shapes, work: Work) -> tuple[OperatorRecord, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    macs: Counter[tuple[str, str]] = Counter()
    unknown = set()
    for node in all_nodes(graph):
        kind = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        key = kind, precision_of_node(node, shapes)
        counts[key] += 1
        macs[key] += work.macs.get(node, 0)
        if node in work.unknown:
            unknown.add(key)
    order = sorted(counts, key=lambda key: (-macs[key], -counts[key], key))
    return tuple(
        OperatorRecord(kind=key[0], precision=key[1], count=counts[key], macs=None if key in unknown else macs[key])
        for key in order
    )


def _layer(layer: Layer, work: Work) -> LayerRecord:
    return LayerRecord(
        name=label(layer.node),
        kind=layer.node.op_type,
        weight=layer.shape,
        parameters=layer.parameters,
        precision=layer.precision,
        macs=None if layer.node in work.unknown else work.macs.get(layer.node, 0),
    )


def _group(quantized: list[tuple[ir.Node, Quantized]]) -> tuple[QuantizationRecord, ...]:
    groups: dict[Quantized, Counter[str]] = {}
    for node, found in quantized:
        groups.setdefault(found, Counter())[node.op_type] += 1
    order = sorted(groups.items(), key=lambda item: -item[1].total())
    return tuple(
        QuantizationRecord(
            method=found.method,
            notation=found.notation,
            scheme=found.scheme if found.activations else found.weights or "",
            per_channel=found.per_channel,
            seven_bits=found.seven_bits,
            kinds=dict(kinds.most_common()),
        )
        for found, kinds in order
    )


def _work(work: Work) -> WorkRecord:
    notes = []
    if work.unknown:
        notes.append(f"not counted, since shapes are not known: {_listed(work.unknown)}")
    if work.choices:
        notes.append(f"of two branches the one with more work was counted: {_listed(work.choices)}")
    if work.repeats:
        notes.append(f"one turn was counted, since the data decides how many there are: {_listed(work.repeats)}")
    known = bool(work.macs) or not work.unknown
    complete = not work.unknown and not work.repeats
    return WorkRecord(macs=work.total if known else None, complete=complete, rule=WORK_RULE, notes=tuple(notes))


def _memory(graph: ir.Graph, shapes: Shapes, fixed: set[ir.Value]) -> MemoryRecord:
    peak = find_peak(graph, shapes, fixed)
    weights = sum(shapes.of(value).nbytes or 0 for value in constants(graph))
    return MemoryRecord(
        weights_bytes=weights,
        activations_bytes=peak.nbytes if peak.nbytes else None,
        peak_bytes=weights + peak.nbytes if peak.nbytes else None,
        complete=not peak.unknown,
        at=peak.node if peak.kind in peak.node else f"{peak.kind} {peak.node}".strip(),
        rule=MEMORY_RULE,
    )


def _listed(nodes: list[ir.Node], most: int = 3) -> str:
    rest = len(nodes) - most
    return ", ".join(map(label, nodes[:most])) + (f" and {rest} more" if rest > 0 else "")
