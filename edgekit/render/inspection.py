"""What ``inspect`` prints: what a model is, what it is made of, and about how much it computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.inspection.records import (
    ArtifactRecord,
    EncoderLayerRecord,
    EncoderRecord,
    FileRecord,
    GraphRecord,
    InspectRecord,
    MemoryRecord,
    NetworkRecord,
    OperatorRecord,
    QuantizationRecord,
    WeightsRecord,
    WorkRecord,
)
from edgekit.render import figures
from edgekit.render.parts import DOUBT, FAINT, STRONG, items, make_grid, make_table, title, workload_of
from edgekit.render.stages import DESCRIPTIONS, shares

MOST_OPERATORS, MOST_LAYERS, MOST_LABELS, MOST_PARTS = 10, 8, 8, 16
LONGEST_NAME = 40
KINDS = {"graph": "an ONNX graph", "folder": "a transformers folder"}
FORMATS = {"onnx": "ONNX", "tflite": "TFLite", "torch": "torch"}
SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def inspect_view(record: InspectRecord) -> RenderableType:
    """What lies at a path."""
    parts: list[RenderableType] = [Text(headline(record), style=STRONG)]
    if record.artifact:
        parts += [Text(), _artifact_facts(record.artifact)]
    for graph in record.graphs:
        parts += _graph_parts(graph, record, several=len(record.graphs) > 1)
    if record.network:
        parts += _network_parts(record.network, record)
    if record.notes:
        parts += [title("Notes"), items(record.notes, DOUBT)]
    return Group(*parts)


def headline(record: InspectRecord) -> str:
    """What it is, in one sentence."""
    parameters = sum(graph.parameters for graph in record.graphs) + (record.network.parameters if record.network else 0)
    what = KINDS.get(record.kind, "an artifact")
    if record.kind == "graph" and record.graphs[0].format == "tflite":
        what = "a TFLite graph"
    if record.artifact:
        what = f"an artifact in {FORMATS[record.artifact.format]}"
        what += f" for {record.artifact.target}" if record.artifact.target else ""
    return f"{record.name}: {what}, {figures.megabytes(record.size_bytes)} MB, {quantity(parameters)} parameters"


def quantity(value: float) -> str:
    """A count in three figures: ``370 M``, ``1.43 G``."""
    for scale, unit in SCALES:
        if value >= scale:
            return f"{_three_figures(value / scale)} {unit}"
    return f"{value:.0f}"


def _three_figures(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _artifact_facts(artifact: ArtifactRecord) -> RenderableType:
    source, labels = artifact.source, list(artifact.labels)
    named = source.get("name") or "unknown"
    rows = [
        ("made from", f"{named} ({source['architecture']})" if source.get("architecture") else named),
        ("task", artifact.task + (f", {len(labels)} labels: {_listed(labels, MOST_LABELS)}" if labels else "")),
    ]
    if artifact.data:
        rows.append(("data", artifact.data.get("name", "unknown")))
    rows.append(("stages", ", ".join(stage.stage for stage in artifact.stages) or "none"))
    said = ((stage.stage, DESCRIPTIONS.get(stage.stage), stage.details) for stage in artifact.stages)
    rows += [(f"  {name}", line) for name, describe, details in said if describe and (line := describe(details))]
    if artifact.status == "in progress":
        rows.append(("report", "of a run that has not ended"))
    seal = "yes; `edgekit verify` checks it" if artifact.sealed else "no, so that `edgekit verify` cannot check it"
    rows.append(("sealed", seal))
    rows.append(("folder", f"{figures.megabytes(artifact.folder_bytes)} MB in all"))
    return make_grid(rows)


def _graph_parts(graph: GraphRecord, record: InspectRecord, *, several: bool) -> Iterator[RenderableType]:
    yield title(f"Graph {graph.component}" if several else "Graph")
    yield make_grid(_graph_facts(graph))
    if graph.refused:
        yield title("It cannot run on this workload")
        yield items([f"{name}: {reason}" for name, reason in graph.refused.items()], DOUBT)
        yield Text("Other sizes: --batch, --tokens, --image.", style=FAINT)
    yield title("Inputs and outputs")
    yield _tensors(graph)
    yield from _estimates(graph.work, graph.memory, _workload(graph))
    if graph.quantization:
        yield title("Quantization")
        yield make_grid(_quantization(graph))
    yield title("Operators")
    yield _operators(graph.operators, graph.work)
    if any(layer.macs for layer in graph.layers):
        yield title(f"Largest of {len(graph.layers)} layers" if len(graph.layers) > MOST_LAYERS else "Layers")
        yield _layers(graph)


def _graph_facts(graph: GraphRecord) -> list[tuple[str, str]]:
    rows = [("files", _files(graph.files))]
    if graph.format == "tflite":
        told = (f"{key} ({_sizes(fixed)})" if fixed else key for key, fixed in graph.signatures.items())
        rows.append(("signatures", _listed(list(told), MOST_LABELS) or "none: one graph, fed by its tensors' names"))
    else:
        opsets = ", ".join(f"{domain} {version}".strip() for domain, version in graph.opsets.items())
        rows.append(("written by", graph.producer or "unknown"))
        rows.append(("opset", f"{opsets} (file format {graph.ir_version})"))
    rows.append(("parameters", _weights(graph.parameters, graph.weights)))
    if graph.functions:
        rows.append(("functions", f"{graph.functions} of its own, written out below"))
    for state in graph.states:
        rows.append(("state", f"{state.output} becomes {state.input} of the next call"))
    return rows


def _sizes(fixed: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in fixed.items())


def _tensors(graph: GraphRecord) -> RenderableType:
    rows = [("in", one) for one in graph.inputs] + [("out", one) for one in graph.outputs]
    free = any(isinstance(size, str) for _, one in rows for size in one.shape)
    columns = ("", "name", "type", "shape", *(("here",) if free else ()))
    table = make_table(*columns, unbroken=("", "type"))
    for way, one in rows:
        cells = [way, one.name, one.dtype, _shape(one.shape), *([_shape(one.at)] if free else [])]
        table.add_row(*(Text(cell, style=FAINT if cell == way else "") for cell in cells))
    return table


def _shape(shape: Sequence[int | str | None]) -> str:
    return "scalar" if not shape else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _quantization(graph: GraphRecord) -> Iterator[tuple[str, str]]:
    for group in graph.quantization:
        yield f"{group.scheme} {group.method}", _group(group)
    if graph.layers_in_float:
        yield "float", f"{graph.layers_in_float} layer{'s' if graph.layers_in_float > 1 else ''} with weights"


def _group(group: QuantizationRecord) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in group.kinds.items())
    scales = {True: "a scale for each channel", False: "one scale for each tensor", None: "scales unknown"}
    words = [kinds, scales[group.per_channel], group.notation]
    if group.seven_bits:
        words.append("weights within 7 bits")
    return "; ".join(words)


def _operators(operators: Sequence[OperatorRecord], work: WorkRecord) -> RenderableType:
    table = make_table(
        "operator", "precision", "count", "work", "share", right=("count", "work", "share"), unbroken=("precision",)
    )
    told = [one for one in operators if one.macs != 0]
    told += [one for one in operators if one.macs == 0 and one.kind != "Constant"]
    for one in told[:MOST_OPERATORS]:
        macs = "unknown" if one.macs is None else quantity(one.macs) if one.macs else "-"
        share = f"{one.macs / work.macs:.1%}" if one.macs and work.macs else ""
        table.add_row(*map(Text, (one.kind, one.precision, str(one.count), macs, share)))
    rest = [one for one in operators if one not in told[:MOST_OPERATORS]]
    if not rest:
        return table
    count, work_left = sum(one.count for one in rest), sum(one.macs or 0 for one in rest)
    without = "" if any(one.macs is None for one in rest) else " without work"
    told_work = f" with {quantity(work_left)} of work" if work_left else without
    return Group(table, Text(f"and {count} more, of {len({one.kind for one in rest})} kinds{told_work}", style=FAINT))


def _layers(graph: GraphRecord) -> RenderableType:
    table = make_table(
        "layer", "kind", "weight", "parameters", "work", right=("parameters", "work"), unbroken=("weight", "parameters")
    )
    largest = sorted(graph.layers, key=lambda layer: -(layer.macs or 0))[:MOST_LAYERS]
    for layer in largest:
        weight = " x ".join(map(str, layer.weight))
        parameters, macs = quantity(layer.parameters), quantity(layer.macs) if layer.macs else "-"
        table.add_row(*map(Text, (_shortened(layer.name), layer.kind, weight, parameters, macs)))
    return table


def _shortened(name: str) -> str:
    """A long name by its end, which tells more than its beginning."""
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"


def _network_parts(network: NetworkRecord, record: InspectRecord) -> Iterator[RenderableType]:
    yield title("Network")
    pruned = {"": "no", "encoder": "yes: heads, neurons or layers", "channels": "yes: channels"}[network.pruned]
    family = f" ({network.family})" if network.family else ""
    rows = [
        ("architecture", f"{network.architecture or 'unknown'}{family}"),
        ("files", _files(network.files)),
        ("parameters", _weights(network.parameters, network.weights)),
    ]
    if record.artifact:
        rows.append(("pruned", pruned))
    yield make_grid(rows)
    if network.encoder:
        yield title(_encoder_title(network.encoder))
        yield _encoder(network.encoder)
    yield title("Parameters")
    table = make_table(
        "part", "tensors", "parameters", "share", right=("tensors", "parameters", "share"), unbroken=("parameters",)
    )
    parts = sorted(network.parts, key=lambda part: -part.parameters)
    for part in parts[:MOST_PARTS]:
        share = part.parameters / max(1, network.parameters)
        table.add_row(*map(Text, (part.name, str(part.tensors), f"{part.parameters:,}", f"{share:.1%}")))
    yield table
    if len(parts) > MOST_PARTS:
        yield Text(f"and {len(parts) - MOST_PARTS} smaller parts", style=FAINT)
    task = "image" if "Image" in network.architecture else "text"
    yield from _estimates(network.work, network.memory, workload_of(task, record.workload))


def _encoder_title(encoder: EncoderRecord) -> str:
    layers = f"{len(encoder.layers)} of {encoder.of_layers}" if len(encoder.layers) != encoder.of_layers else ""
    width = _of(encoder.width, encoder.of_width)
    told = f"{layers or len(encoder.layers)} layers, {width} wide, heads of {encoder.head_width}"
    return f"{told}, tokens {shares(encoder.tokens)}" if encoder.tokens else told


def _encoder(encoder: EncoderRecord) -> RenderableType:
    table = make_table("layer", "heads", "neurons", "parameters", right=("parameters",), unbroken=("layer",))
    for layers in _alike(encoder.layers):
        first, last = layers[0], layers[-1]
        number = str(first.index) if first is last else f"{first.index} to {last.index}"
        each = " each" if len(layers) > 1 else ""
        heads, neurons = _of(first.heads, encoder.of_heads), _of(first.neurons, encoder.of_neurons)
        table.add_row(*map(Text, (number, heads, neurons, f"{first.parameters:,}{each}")))
    return table


def _of(count: int, most: int) -> str:
    return str(count) if count == most else f"{count} of {most}"


def _alike(layers: Iterable[EncoderLayerRecord]) -> Iterator[list[EncoderLayerRecord]]:
    """Neighbours that are alike, together."""
    runs = groupby(enumerate(layers), lambda pair: (*_size(pair[1]), pair[1].index - pair[0]))
    return ([layer for _, layer in run] for _, run in runs)


def _size(layer: EncoderLayerRecord) -> tuple[int, int, int]:
    return layer.heads, layer.neurons, layer.parameters


def _estimates(work: WorkRecord, memory: MemoryRecord | None, workload: str) -> Iterator[RenderableType]:
    yield title(f"Estimated for {workload}")
    bound = "" if work.complete else "at least "
    told = "unknown" if work.macs is None else f"{bound}{quantity(work.macs)} multiply-accumulates"
    rows: list[tuple[str, str | Text]] = [("work", told)]
    rows += [("", Text(note, style=DOUBT)) for note in work.notes]
    if work.macs is not None:
        rows.append(("", Text(f"counted: {work.rule}", style=FAINT)))
    if memory is not None:
        rows += [("memory", _memory(memory)), ("", Text(f"counted: {memory.rule}", style=FAINT))]
    yield make_grid(rows)


def _memory(memory: MemoryRecord) -> str:
    weights = f"{figures.megabytes(memory.weights_bytes)} MB of weights"
    if memory.activations_bytes is None or memory.peak_bytes is None:
        return f"{weights}; activations unknown"
    bound = "" if memory.complete else "at least "
    activations = f"{figures.megabytes(memory.activations_bytes)} MB of activations"
    where = f" (at {_shortened(memory.at)})" if memory.at else ""
    return f"{bound}{figures.megabytes(memory.peak_bytes)} MB at its peak: {weights}, {activations}{where}"


def _workload(graph: GraphRecord) -> str:
    """What the free dimensions of a graph were set to."""
    said = [f"{name} {size}" for name, size in graph.sizes.items()]
    said += [f"{name} unknown" for name in graph.free]
    return ", ".join(said) or "the sizes that the file fixes"


def _files(files: Sequence[FileRecord]) -> str:
    sizes = (
        f"{file.name} ({'missing' if file.size_bytes is None else f'{figures.megabytes(file.size_bytes)} MB'})"
        for file in files
    )
    return _listed(list(sizes), MOST_LABELS)


def _weights(parameters: int, weights: Sequence[WeightsRecord]) -> str:
    """Their number, and how many are stored in which precision."""
    if len(weights) == 1:
        return f"{parameters:,}, all in {weights[0].precision}"
    told = ", ".join(f"{part.parameters:,} in {part.precision}" for part in weights)
    return f"{parameters:,}: {told}" if told else "none"


def _listed(names: Sequence[str], most: int) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
