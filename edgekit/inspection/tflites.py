"""A ``.tflite`` file of any origin as a record: nothing is run. Work and peak memory are not told by such a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgekit.artifact import Component, State, TensorSpec
from edgekit.formats.flatbuffer import Graph, Model, Operator, Tensor, load_model
from edgekit.formats.tflite import (
    PRECISIONS,
    WEIGHTED_KINDS,
    describe_component,
    elements_of,
    layer_of,
    output_of,
    weight_bytes,
)
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
from edgekit.tasks.feeds import free_size

NOT_COUNTED = "not counted for TFLite: `edgekit bench` measures latency and memory"
SCHEMA_VERSION = 3  # TFL3, the only one that LiteRT reads
SHORT = {"int8": "s8", "uint8": "u8", "int16": "s16", "int4": "s4", "float16": "f16", "float32": "f32"}


def inspect_tflite(
    file: Path, workload: Workload, name: str, known: Component | None = None, states: tuple[State, ...] = ()
) -> GraphRecord:
    """A file at one workload; of several signatures, the first one's graph.

    Args:
        file: the graph.
        workload: what its free dimensions are set to.
        name: of the component.
        known: what an artifact says of it; what the file says where there is none.
        states: outputs that become inputs, where that is known.

    Raises:
        ModelError: not a TFLite file, or a damaged one.
    """
    model, part = load_model(file), known or describe_component(file)
    entry = next(iter(model.entries.values()))
    graph = model.graphs[entry.graph]
    layers = list(_layers(graph))
    weights = _weights(model)
    quantized = _quantization(layers, graph)
    free = {
        dim: free_size(dim, axis, workload)
        for spec in part.inputs
        for axis, dim in enumerate(spec.shape)
        if isinstance(dim, str)
    }
    fixed = next(iter(part.signatures.values()), {})
    sizes = free | fixed
    return GraphRecord(
        format="tflite",
        component=name,
        files=(FileRecord(name=file.name, size_bytes=model.size_bytes),),
        opsets={},
        producer="",
        ir_version=SCHEMA_VERSION,
        functions=0,
        signatures={key: part.signatures.get(key, {}) for key in model.signatures},
        sizes=sizes,
        free=(),
        inputs=tuple(_tensor(spec, sizes) for spec in part.inputs),
        outputs=tuple(_tensor(spec, sizes) for spec in part.outputs),
        states=states,
        parameters=sum(one.parameters for one in weights),
        weights=weights,
        operators=_operators(graph),
        layers=tuple(_layer(graph, operator, weight) for operator, weight, _ in layers),
        quantization=quantized,
        layers_in_float=len(layers) - sum(sum(group.kinds.values()) for group in quantized),
        work=WorkRecord(macs=None, complete=False, rule="", notes=(NOT_COUNTED,)),
        memory=MemoryRecord(
            weights_bytes=sum(weight_bytes(model).values()),
            activations_bytes=None,
            peak_bytes=None,
            complete=False,
            at="",
            rule="bytes of the file's constants; the runtime plans the activations itself",
        ),
        strange=(),
        refused={},
    )


def _tensor(spec: TensorSpec, sizes: dict[str, int]) -> TensorRecord:
    at = tuple(dim if isinstance(dim, int) else sizes.get(dim) for dim in spec.shape)
    return TensorRecord(name=spec.name, dtype=spec.dtype, shape=spec.shape, at=at)


def _layers(graph: Graph) -> list[tuple[Operator, Tensor, bool]]:
    """Operators that multiply with constants: each with these, and whether it reads them through DEQUANTIZE."""
    writers = {place: operator for operator in graph.operators for place in operator.writes}
    found = []
    for operator in graph.operators:
        place = WEIGHTED_KINDS.get(operator.kind)
        if place is None or place >= len(operator.reads) or operator.reads[place] < 0:
            continue
        index, writer = operator.reads[place], writers.get(operator.reads[place])
        unpacked = writer is not None and writer.kind == "DEQUANTIZE"
        tensor = graph.tensors[writer.reads[0] if writer is not None and unpacked else index]
        if tensor.buffer_bytes and tensor.dtype in PRECISIONS:
            found.append((operator, tensor, unpacked))
    return found


def _layer(graph: Graph, operator: Operator, weight: Tensor) -> LayerRecord:
    return LayerRecord(
        name=layer_of(output_of(graph, operator)),
        kind=operator.kind,
        weight=weight.shape,
        parameters=elements_of(weight.shape),
        precision=PRECISIONS[weight.dtype][0],
        macs=None,
    )


def _quantization(layers: list[tuple[Operator, Tensor, bool]], graph: Graph) -> tuple[QuantizationRecord, ...]:
    """Layers of integer weights, those that are quantized alike together."""
    groups: dict[tuple[str, str, bool], Counter[str]] = {}
    for operator, weight, unpacked in layers:
        if weight.dtype.startswith("float"):
            continue
        activations = graph.tensors[operator.writes[0]].dtype
        short = SHORT[weight.dtype]
        if unpacked or (activations == "float32" and operator.kind == "EMBEDDING_LOOKUP"):
            method, scheme = "weights only", short
        elif activations == "float32":
            method, scheme = "dynamic", f"{short}{short}"
        else:
            method, scheme = "static", f"{SHORT.get(activations, activations)}{short}"
        groups.setdefault((method, scheme, weight.scales > 1), Counter())[operator.kind] += 1
    return tuple(
        QuantizationRecord(
            method=method,
            notation="scales of the tensors",
            scheme=scheme,
            per_channel=per_channel,
            seven_bits=None,
            kinds=dict(kinds.most_common()),
        )
        for (method, scheme, per_channel), kinds in sorted(groups.items(), key=lambda item: -item[1].total())
    )


def _operators(graph: Graph) -> tuple[OperatorRecord, ...]:
    """By kind and by the precision of what they write, most frequent first."""
    counts = Counter(
        (operator.kind, _precision(graph.tensors[operator.writes[0]].dtype) if operator.writes else "unknown")
        for operator in graph.operators
    )
    order = sorted(counts, key=lambda key: (-counts[key], key))
    return tuple(OperatorRecord(kind=kind, precision=one, count=counts[kind, one], macs=None) for kind, one in order)


def _precision(dtype: str) -> str:
    return PRECISIONS[dtype][0] if dtype in PRECISIONS else dtype


def _weights(model: Model) -> tuple[WeightsRecord, ...]:
    """Constants of the types that weights have, a buffer that graphs share counted once; the most first."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for dtype, size in weight_bytes(model).items():
        if dtype in PRECISIONS:
            name, bits = PRECISIONS[dtype]
            counts[name] += size * 8 // bits
            sizes[name] += size
    return tuple(
        WeightsRecord(precision=name, parameters=count, size_bytes=sizes[name]) for name, count in counts.most_common()
    )
